package traffic

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A bucket is a rate in one direction. What passes is always owed: whoever
// comes to a bucket in debt waits.
type bucket struct {
	count meter // of what passed

	mu    sync.Mutex
	speed float64   // bytes per second; 0: no limit
	burst float64   // bytes that may pass at once after a pause
	free  float64   // bytes that may pass at once now; below 0: a debt
	at    time.Time // when it was so
	asked int64     // all bytes that were ever asked for
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
	b.speed, b.burst = float64(n), float64(max(many, leastRate))
	b.free = b.burst
	return b, nil
}

const (
	// leastRate keeps a line alive, in bytes per second: what is slower than
	// that lets clients run into their timeouts.
	leastRate = 1000

	// What passes at once is a tenth of a second, in bytes at most and at least:
	// those who share a rate take turns, and what must not be late, as a sign
	// of life, is not.
	mostPiece, leastPiece = 64 << 10, 256
)

// become gives the bucket the limits of another.
func (b *bucket) become(to *bucket) *bucket {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill(time.Now())
	if b.speed == 0 || to.speed == 0 {
		b.free = to.burst // there was no limit, or is none: no debt either
	}
	b.speed, b.burst, b.free = to.speed, to.burst, min(b.free, to.burst)
	return b
}

// fill adds what may pass since the last time.
func (b *bucket) fill(now time.Time) {
	if !now.After(b.at) {
		return // somebody else was here in between
	}
	if !b.at.IsZero() {
		b.free = min(b.burst, b.free+now.Sub(b.at).Seconds()*b.speed)
	}
	b.at = now
}

// piece returns how many of n bytes are to pass at once.
func (b *bucket) piece(n int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.speed == 0 {
		return n
	}
	return min(n, int(min(max(b.speed/10, leastPiece), mostPiece)))
}

// take asks for n bytes, and returns the place in the queue after them.
func (b *bucket) take(n int, now time.Time) (place int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill(now)
	b.free -= float64(n)
	b.asked += int64(n)
	return b.asked
}

// giveBack takes back that n bytes were asked for.
func (b *bucket) giveBack(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += float64(n)
}

// delay returns how long it takes until the bytes before a place may pass, as
// the limits are now.
func (b *bucket) delay(place int64, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill(now)
	debt := -b.free - float64(b.asked-place)
	if debt <= 0 || b.speed == 0 {
		return 0
	}
	return time.Duration(math.Ceil(debt / b.speed * float64(time.Second)))
}

func (b *bucket) rate() int64 { return b.count.rate(time.Now()) }

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
