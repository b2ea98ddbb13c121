// Package history keeps figures over time for graphs: how full a datastore was,
// how busy the machine.
//
// A [Recorder] asks for all figures once a minute and keeps, for each name, the
// average and the maximum of every minute of a day, every half hour of a month,
// and every six hours of a year, as the round-robin databases of a Proxmox
// Backup Server do. All of it is in memory, some 35 KiB a name, and is written
// to one file every ten minutes and at the end: a crash loses the figures since
// then, and nothing else depends on them.
package history

import (
	"bytes"
	"cmp"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/access/statefile"
)

const (
	slots = 1440

	// saveEvery is how many samples may be lost in a crash.
	saveEvery = 10

	// maxFile bounds what is read, maxSeries what is kept: some hundred
	// datastores.
	maxFile   = 64 << 20
	maxSeries = 1000

	// forgetAfter is when a name is dropped that has no figures any more.
	forgetAfter = 366 * 24 * time.Hour
)

// steps are the seconds of one slot of each ring.
var steps = [...]int64{60, 1800, 6 * 3600}

// Config says what a Recorder does.
type Config struct {
	// Sample returns the figures of this moment by name; required.
	Sample func(ctx context.Context) map[string]float64

	File string       // where they are kept; required
	Log  *slog.Logger // default: discard
}

// A Recorder keeps figures. Its methods may be called from any goroutine.
type Recorder struct {
	cfg Config

	mu sync.Mutex

	series map[string]*series
}

// A series is what is kept of one name.
type series struct {
	Rings [len(steps)]ring
}

// A ring has the last slots of one length. The slot of a time is its number
// since 1970 modulo their count.
type ring struct {
	Last     int64 // number of the newest slot
	Sum      float64
	Count    int64     // of the samples in the newest slot
	Avg, Max []float32 // NaN: nothing
}

// New returns a Recorder with what the file has. A file that cannot be used is
// set aside with a warning: figures are not worth a failure.
func New(cfg Config) (*Recorder, error) {
	if cfg.Sample == nil || cfg.File == "" {
		return nil, errors.New("history: it needs a file and something to sample")
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if err := statefile.RemoveTemps(cfg.File); err != nil {
		return nil, fmt.Errorf("figures of the past: %w", err)
	}
	r := &Recorder{cfg: cfg, series: map[string]*series{}}
	found, err := load(cfg.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		cfg.Log.Warn("figures of the past are set aside", "file", cfg.File, "err", err)
		if err := os.Rename(cfg.File, cfg.File+".bad"); err != nil {
			return nil, fmt.Errorf("set aside %s: %w", cfg.File, err)
		}
	default:
		r.series = found
	}
	return r, nil
}

// Run samples once a minute until ctx is done, saves, and returns nil.
func (r *Recorder) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for n := 1; ; n++ {
		r.Record(time.Now(), r.cfg.Sample(ctx))
		if n%saveEvery == 0 {
			r.save()
		}
		select {
		case <-ctx.Done():
			r.save()
			return nil
		case <-tick.C:
		}
	}
}

// save writes the file, and warns if it cannot be written.
func (r *Recorder) save() {
	if err := r.Save(); err != nil {
		r.cfg.Log.Warn("figures of the past cannot be saved", "err", err)
	}
}

// Record adds the figures of a moment.
func (r *Recorder) Record(now time.Time, figures map[string]float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.series {
		s.rewind(now.Unix())
	}
	for name, v := range figures {
		s := r.series[name]
		if s == nil {
			if len(r.series) >= maxSeries {
				continue
			}
			s = newSeries()
			r.series[name] = s
		}
		for i := range s.Rings {
			s.Rings[i].add(now.Unix()/steps[i], v)
		}
	}
	maps.DeleteFunc(r.series, func(_ string, s *series) bool {
		return now.Unix()-s.Rings[0].Last*steps[0] > int64(forgetAfter/time.Second)
	})
}

func newSeries() *series {
	s := &series{}
	for i := range s.Rings {
		nothing := slices.Repeat([]float32{float32(math.NaN())}, slots)
		s.Rings[i].Avg, s.Rings[i].Max = nothing, slices.Clone(nothing)
	}
	return s
}

// rewind makes now the newest moment if there are figures of later ones: the
// clock was wrong before, or is now. What there is of times after it is dropped,
// or one figure of a wrong date would keep out all others until that date. A
// step back into the minute before is none of that, but a clock that is being
// kept right. The minutes decide for all rings: six hours say little about a
// clock.
func (s *series) rewind(now int64) {
	if now/steps[0] >= s.Rings[0].Last-1 {
		return
	}
	for i := range s.Rings {
		s.Rings[i].rewind(now / steps[i])
	}
}

// rewind drops what is later than slot n.
func (g *ring) rewind(n int64) {
	if n >= g.Last {
		return
	}
	for later := max(n+1, g.Last-slots+1); later <= g.Last; later++ {
		g.Avg[later%slots], g.Max[later%slots] = float32(math.NaN()), float32(math.NaN())
	}
	g.Last, g.Sum, g.Count = n, 0, 0
}

// add adds a figure to slot n. One that is older than the newest is dropped:
// the clock stepped back a little, and graphs have one value for each moment.
func (g *ring) add(n int64, v float64) {
	switch {
	case n < g.Last:
		return
	case n > g.Last:
		for skipped := max(g.Last+1, n-slots+1); skipped <= n; skipped++ {
			g.Avg[skipped%slots], g.Max[skipped%slots] = float32(math.NaN()), float32(math.NaN())
		}
		g.Last, g.Sum, g.Count = n, 0, 0
	}
	at := n % slots
	g.Sum, g.Count = g.Sum+v, g.Count+1
	g.Avg[at] = float32(g.Sum / float64(g.Count))
	if old := float64(g.Max[at]); math.IsNaN(old) || v > old {
		g.Max[at] = float32(v)
	}
}

// A Frame is a length of time that PBS has graphs of.
type Frame struct {
	ring  int
	slots int64
}

// ParseFrame reads "hour", "day", "week", "month", "year" or "decade", which
// shows what there is: a year.
func ParseFrame(s string) (Frame, error) {
	frames := map[string]Frame{"hour": {0, 60}, "day": {0, slots}, "week": {1, 336}, "month": {1, slots}, "year": {2, slots}, "decade": {2, slots}}
	f, ok := frames[s]
	if !ok {
		return f, fmt.Errorf("value '%s' is not defined in the enumeration", s)
	}
	return f, nil
}

// A Point has the figures of one slot, those that there are.
type Point struct {
	Time    int64 // Unix seconds of its beginning
	Figures map[string]float64
}

// Points returns the figures of some names in a frame that ends now, oldest
// first: averages, or maxima.
func (r *Recorder) Points(now time.Time, f Frame, maxima bool, names ...string) []Point {
	r.mu.Lock()
	defer r.mu.Unlock()
	step := steps[f.ring]
	last := now.Unix() / step
	points := make([]Point, 0, f.slots)
	for n := last - f.slots + 1; n <= last; n++ {
		p := Point{Time: n * step, Figures: map[string]float64{}}
		for _, name := range names {
			if v, ok := r.series[name].at(f.ring, n, maxima); ok {
				p.Figures[name] = v
			}
		}
		points = append(points, p)
	}
	return points
}

func (s *series) at(i int, n int64, maxima bool) (float64, bool) {
	if s == nil {
		return 0, false
	}
	g := &s.Rings[i]
	if n > g.Last || n <= g.Last-slots || n < 0 {
		return 0, false
	}
	v := g.Avg[n%slots]
	if maxima {
		v = g.Max[n%slots]
	}
	return float64(v), !math.IsNaN(float64(v))
}

// Save writes the file: a crash leaves the old one or the new one.
func (r *Recorder) Save() error {
	var b bytes.Buffer
	r.mu.Lock()
	err := gob.NewEncoder(&b).Encode(r.series)
	r.mu.Unlock()
	if err == nil {
		_, err = statefile.WriteSecret(r.cfg.File, b.Bytes(), true)
	}
	return err
}

func load(name string) (map[string]*series, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it was only read
	return decode(io.LimitReader(f, maxFile))
}

// decode reads what Save wrote.
func decode(r io.Reader) (map[string]*series, error) {
	all := map[string]*series{}
	if err := gob.NewDecoder(r).Decode(&all); err != nil {
		return nil, err
	}
	for name, s := range all {
		if s == nil {
			return nil, fmt.Errorf("%q has no figures", name)
		}
		for i := range s.Rings {
			if g := &s.Rings[i]; len(g.Avg) != slots || len(g.Max) != slots || g.Last < 0 || g.Count < 0 {
				return nil, fmt.Errorf("%q has %d and %d slots, want %d", name, len(g.Avg), len(g.Max), slots)
			}
		}
	}
	return all, nil
}
