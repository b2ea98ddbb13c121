package main

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// print writes v as JSON if that was asked for, else what text writes.
func (o *options) print(v any, text func(io.Writer)) error {
	switch o.format {
	case "json":
		return json.NewEncoder(o.out).Encode(v)
	case "json-pretty":
		enc := json.NewEncoder(o.out)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	w := &failing{w: o.out}
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

// size prints bytes for people: four digits at most, binary units.
func size(n int64) string {
	f, unit := float64(n), 0
	for f >= 1024 && unit < 5 {
		f, unit = f/1024, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.*f %s", map[bool]int{true: 1, false: 2}[f >= 100], f, [...]string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}[unit])
}

// A meter shows how far something is: a bar on a terminal, a line every few
// seconds elsewhere, nothing with -q or JSON.
type meter struct {
	bars *mpb.Progress
	bar  *mpb.Bar
	out  io.Writer
	what string

	mu sync.Mutex

	last time.Time
}

func (o *options) meter(what string) *meter {
	if o.quiet || o.format != "text" {
		return &meter{}
	}
	m := &meter{out: o.err, what: what, last: time.Now()}
	if o.terminal {
		m.bars = mpb.New(mpb.WithOutput(o.err), mpb.WithWidth(50))
		m.bar = m.bars.AddBar(0,
			mpb.PrependDecorators(decor.Name(what), decor.CountersKibiByte(" % .1f / % .1f")),
			mpb.AppendDecorators(decor.Percentage(), decor.AverageSpeed(decor.SizeB1024(0), "  % .0f"), decor.AverageETA(decor.ET_STYLE_GO, decor.WC{W: 8})))
	}
	return m
}

// show takes a new state. It may be called from several goroutines.
func (m *meter) show(p pack.Progress) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.bar != nil:
		m.bar.SetTotal(max(p.BytesTotal, 1), false)
		m.bar.SetCurrent(p.Bytes)
	case m.out != nil && time.Since(m.last) > 5*time.Second:
		m.last = time.Now()
		fmt.Fprintf(m.out, "%s: %s of %s\n", m.what, size(p.Bytes), size(p.BytesTotal))
	}
}

func (m *meter) end() {
	if m.bar != nil {
		m.bar.Abort(true)
		m.bars.Wait()
	}
}
