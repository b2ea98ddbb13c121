package bucket

import (
	"context"
	"sync/atomic"
	"time"
)

// A Meter counts what is asked of stores in one context, whatever else their
// accounts are asked meanwhile.
type Meter struct {
	above    *Meter // counts it as well
	requests [classes]atomic.Int64
	in, out  atomic.Int64
	took     atomic.Int64 // nanoseconds
	moved    atomic.Int64 // see Moved
}

type meterKey struct{}

// Metered returns a context whose requests a meter counts, and that of ctx too.
func Metered(ctx context.Context) (context.Context, *Meter) {
	m := &Meter{above: meterOf(ctx)}
	return context.WithValue(ctx, meterKey{}, m), m
}

func meterOf(ctx context.Context) *Meter {
	m, _ := ctx.Value(meterKey{}).(*Meter)
	return m
}

func (m *Meter) add(class Class, sent int64) {
	for ; m != nil; m = m.above {
		m.requests[class].Add(1)
		m.moved.Add(1)
		if class == Put {
			m.out.Add(max(0, sent))
		}
	}
}

func (m *Meter) read(class Class, n int) {
	for ; m != nil && class == Get; m = m.above {
		m.in.Add(int64(n))
		m.moved.Add(int64(n))
	}
}

func (m *Meter) sends(n int) {
	for ; m != nil; m = m.above {
		m.moved.Add(int64(n))
	}
}

// Moved grows while requests are made and bodies go either way, those that are not over
// and those that fail among them.
func (m *Meter) Moved() int64 { return m.moved.Load() }

func (m *Meter) waited(d time.Duration) {
	for ; m != nil; m = m.above {
		m.took.Add(int64(d))
	}
}

// Took is how long the requests took, each from when it was sent until its answer began.
func (m *Meter) Took() time.Duration { return time.Duration(m.took.Load()) }

// Requests are those that were made until now, by class.
func (m *Meter) Requests() map[string]int64 {
	made := map[string]int64{}
	for c := range classes {
		if n := m.requests[c].Load(); n > 0 {
			made[c.String()] = n
		}
	}
	return made
}

// Bytes are those of the bodies of objects that were read and written; what
// listings and refusals say is not among them.
func (m *Meter) Bytes() (in, out int64) { return m.in.Load(), m.out.Load() }
