package traffic

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A bucket is a rate in one direction. A nil one has no limit and counts
// nothing.
type bucket struct {
	limit *rate.Limiter // nil: no limit
	count meter
}

// newBucket reads a rate and a burst, which is the rate of one second if it is
// not said.
func newBucket(rateOf, burst string) (*bucket, error) {
	b := &bucket{}
	if rateOf == "" {
		if burst != "" {
			return nil, errors.New("a burst needs a rate")
		}
		return b, nil
	}
	n, err := ParseBytes(rateOf)
	if err != nil {
		return nil, fmt.Errorf("rate: %w", err)
	}
	many := n
	if burst != "" {
		if many, err = ParseBytes(burst); err != nil {
			return nil, fmt.Errorf("burst: %w", err)
		}
	}
	if n < leastRate {
		return nil, fmt.Errorf("rate %s: want at least %s", rateOf, formatBytes(leastRate))
	}
	b.limit = rate.NewLimiter(rate.Limit(n), int(min(max(many, leastRate), math.MaxInt32)))
	return b, nil
}

// leastRate keeps a line alive, in bytes per second: what is slower than that
// lets clients run into their timeouts.
const leastRate = 1000

// changed returns the bucket with the limits of another.
func (b *bucket) changed(to *bucket) *bucket {
	if b.limit == nil || to.limit == nil {
		return to
	}
	b.limit.SetLimit(to.limit.Limit())
	b.limit.SetBurst(to.limit.Burst())
	return b
}

// piece returns how many of n bytes may be waited for at once: few enough that
// those who share the rate take turns.
func (b *bucket) piece(n int) int {
	if b == nil || b.limit == nil {
		return n
	}
	return max(1, min(n, b.limit.Burst(), 64<<10))
}

// wait waits until n bytes may pass.
func (b *bucket) wait(ctx context.Context, n int) error {
	if b == nil {
		return nil
	}
	b.count.add(n, time.Now())
	if b.limit == nil {
		return nil
	}
	for n > 0 { // the burst may have become less in between
		piece := min(n, b.limit.Burst())
		if err := b.limit.WaitN(ctx, piece); err != nil {
			return err
		}
		n -= piece
	}
	return nil
}

func (b *bucket) rate() int64 {
	if b == nil {
		return 0
	}
	return b.count.rate(time.Now())
}

// A meter says how many bytes passed in the last second that is over.
type meter struct {
	mu sync.Mutex

	second    int64 // Unix time
	now, last int64 // bytes in it, and in the one before
}

func (m *meter) add(n int, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn(at)
	m.now += int64(n)
}

func (m *meter) rate(at time.Time) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn(at)
	return m.last
}

func (m *meter) turn(at time.Time) {
	switch s := at.Unix(); {
	case s == m.second:
	case s == m.second+1:
		m.second, m.last, m.now = s, m.now, 0
	default:
		m.second, m.last, m.now = s, 0, 0
	}
}

var bytesPattern = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)\s*(?:([kKMGTPE])(i)?)?[bB]?$`)

// ParseBytes reads an amount of bytes as PBS writes it: "500", "10 MB" (10⁷),
// "1.5 GiB" (1.5·2³⁰), "20M".
func ParseBytes(s string) (int64, error) {
	m := bytesPattern.FindStringSubmatch(strings.TrimSpace(s))
	if m == nil {
		return 0, fmt.Errorf("%q is no amount of bytes: write 10 MiB, 500 KB", s)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no amount of bytes: %w", s, err)
	}
	base := 1000.0
	if m[3] != "" {
		base = 1024
	}
	if m[2] != "" {
		v *= math.Pow(base, float64(strings.Index("KMGTPE", strings.ToUpper(m[2]))+1))
	}
	if v >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is too much", s)
	}
	return int64(v), nil
}

// formatBytes writes an amount so that ParseBytes reads about the same.
func formatBytes(n int64) string {
	f, unit := float64(n), 0
	for f >= 1024 && unit < 6 {
		f, unit = f/1024, unit+1
	}
	return strconv.FormatFloat(math.Round(f*1000)/1000, 'f', -1, 64) + " " + [...]string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}[unit]
}
