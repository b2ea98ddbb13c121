package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// Print writes v as JSON if that was asked for, else what text writes.
func (o *Options) Print(v any, text func(io.Writer)) error {
	switch o.Format {
	case "json":
		return json.NewEncoder(o.Out).Encode(v)
	case "json-pretty":
		enc := json.NewEncoder(o.Out)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	w := &failing{w: o.Out}
	text(w)
	return w.err
}

// failing remembers the first error of a writer, for text that is written in
// many small calls.
type failing struct {
	w   io.Writer
	err error
}

func (f *failing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if f.err == nil {
		f.err = err
	}
	return n, err
}

// Size prints bytes for people: four digits at most, binary units.
func Size(n int64) string {
	f, unit := float64(n), 0
	for f >= 1024 && unit < 5 {
		f, unit = f/1024, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.*f %s", map[bool]int{true: 1, false: 2}[f >= 100], f, [...]string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}[unit])
}

// A Meter shows how far something is: a bar on a terminal, a line every few
// seconds elsewhere, nothing with -q or JSON.
type Meter struct {
	bars *mpb.Progress
	bar  *mpb.Bar
	out  io.Writer
	what string

	mu sync.Mutex

	last time.Time

	note atomic.Pointer[string] // read by the goroutine of the bar
}

// Meter begins to show how far what is.
func (o *Options) Meter(what string) *Meter {
	if o.Quiet || o.Format != "text" {
		return &Meter{}
	}
	m := &Meter{out: o.Err, what: what, last: time.Now()}
	if o.Terminal {
		m.bars = mpb.New(mpb.WithOutput(o.Err), mpb.WithWidth(50))
		m.bar = m.bars.AddBar(0,
			mpb.PrependDecorators(decor.Name(what), decor.CountersKibiByte(" % .1f / % .1f")),
			mpb.AppendDecorators(decor.Percentage(), decor.AverageSpeed(decor.SizeB1024(0), "  % .0f"), decor.AverageETA(decor.ET_STYLE_GO, decor.WC{W: 8}), decor.Any(m.said)))
	}
	return m
}

// Share is [Options.Meter] for work that only says which part of it is done, and
// only on a terminal.
func (o *Options) Share(what string) *Meter {
	m := &Meter{what: what}
	if o.Terminal && !o.Quiet && o.Format == "text" {
		m.bars = mpb.New(mpb.WithOutput(o.Err), mpb.WithWidth(40))
		m.bar = m.bars.AddBar(1000, mpb.PrependDecorators(decor.Name(what+" "), decor.Percentage(decor.WC{W: 5})), mpb.AppendDecorators(decor.Any(m.said)))
	}
	return m
}

// Above returns where lines are written that stand above the bar, nil if there
// is none.
func (m *Meter) Above() io.Writer {
	if m.bars == nil {
		return nil
	}
	return m.bars
}

// Scrub takes a new state of a scrub.
func (m *Meter) Scrub(p pack.Progress) { m.Set(p.Bytes, p.BytesTotal, "") }

// Archive takes a new state of a backup or a restore.
func (m *Meter) Archive(p archive.Progress) {
	note := p.Archive
	if p.New > 0 {
		note += fmt.Sprintf(", %s new", Size(p.New))
	}
	m.Set(p.Bytes, p.Total, note)
}

// Set takes a new state: bytes done of those there are, 0 if that is not
// known, and what else there is to say. It may be called from several
// goroutines.
func (m *Meter) Set(done, total int64, note string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note.Store(&note)
	switch {
	case m.bar != nil:
		m.bar.SetTotal(max(total, done, 1), false)
		m.bar.SetCurrent(done)
	case m.out != nil && time.Since(m.last) > 5*time.Second:
		m.last = time.Now()
		of := ""
		if total > 0 {
			of = " of " + Size(total)
		}
		fmt.Fprintf(m.out, "%s: %s%s %s\n", m.what, Size(done), of, note)
	}
}

func (m *Meter) said(decor.Statistics) string {
	if note := m.note.Load(); note != nil {
		return "  " + *note
	}
	return ""
}

// End takes the bar away. It may be called twice.
func (m *Meter) End() {
	if m.bar != nil {
		m.bar.Abort(true)
		m.bars.Wait()
	}
}

// Count is a number of things, of which what names one.
func Count[N int | int64 | uint32 | uint64](n N, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
