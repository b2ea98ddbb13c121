package chunktest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// ErrInjected is what a call fails with if its [Fault] names no error.
var ErrInjected = errors.New("injected fault")

// A Call is a method of a store. In GetMany every chunk counts as one Get.
type Call string

// The calls that a fault can strike.
const (
	Any     Call = ""
	Get     Call = "get"
	Missing Call = "missing"
	Put     Call = "put"
	Commit  Call = "commit"
)

// A Fault says which calls go wrong, and how. Delay goes with any of the
// others; of Err, Drop and Flip the first one set counts; with none of the
// four, the call fails with [ErrInjected].
type Fault struct {
	On     Call
	Nth    int     // only the nth such call, from 1; 0: every one
	Chance float64 // of striking, 0 to 1; 0: always

	Delay time.Duration // the call takes that much longer, or until ctx ends
	Err   error         // the call fails with it and does not reach the store
	Drop  bool          // Get: missing. Missing: says that nothing is. Put, Commit: says done, does nothing
	Flip  bool          // Get: one bit of the blob is wrong, and the store does not notice
}

// Faulty is a store with faults. It is safe for concurrent use; which of
// several concurrent calls is the nth, and which draw meets which call, is
// then up to the scheduler.
type Faulty struct {
	store chunks.Writer

	mu     sync.Mutex
	rng    *rand.Rand
	faults []Fault
	calls  []int // per fault: calls that it could have struck
	struck int
}

// NewFaulty puts faults, tried in order, in front of store. The seed decides
// about chances and bits.
func NewFaulty(store chunks.Writer, seed uint64, faults ...Fault) *Faulty {
	return &Faulty{
		store: store, rng: rand.New(chacha(seed)),
		faults: slices.Clone(faults), calls: make([]int, len(faults)),
	}
}

// String returns the store's name: a fault looks as if the store had it.
func (f *Faulty) String() string { return f.store.String() }

// Struck returns how many faults have struck so far.
func (f *Faulty) Struck() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.struck
}

// Heal takes all faults away.
func (f *Faulty) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults, f.calls = nil, nil
}

// Get returns d's blob, unless a fault strikes.
func (f *Faulty) Get(ctx context.Context, d chunks.Digest, buf []byte) (chunks.Blob, error) {
	fault, err := f.strike(ctx, Get)
	if err != nil {
		return nil, f.wrap("read", d, err)
	}
	b, err := f.store.Get(ctx, d, buf)
	return f.spoil(fault, d, b, err)
}

// Missing returns those of want that are not held, unless a fault strikes.
func (f *Faulty) Missing(ctx context.Context, want []chunks.Digest) ([]chunks.Digest, error) {
	fault, err := f.strike(ctx, Missing)
	if err != nil {
		return nil, fmt.Errorf("look up %d chunks in %s: %w", len(want), f, err)
	}
	if fault.Drop {
		return nil, nil
	}
	return f.store.Missing(ctx, want)
}

// Put stores b under d, unless a fault strikes.
func (f *Faulty) Put(ctx context.Context, d chunks.Digest, b chunks.Blob) (known bool, err error) {
	fault, err := f.strike(ctx, Put)
	if err != nil {
		return false, f.wrap("write", d, err)
	}
	if fault.Drop {
		return false, nil
	}
	return f.store.Put(ctx, d, b)
}

// Commit makes durable what was put, unless a fault strikes.
func (f *Faulty) Commit(ctx context.Context) error {
	fault, err := f.strike(ctx, Commit)
	if err != nil {
		return fmt.Errorf("commit to %s: %w", f, err)
	}
	if fault.Drop {
		return nil
	}
	return f.store.Commit(ctx)
}

// GetMany hands out want as the store does; faults on Get strike each chunk.
func (f *Faulty) GetMany(ctx context.Context, want []chunks.Digest, fn func(chunks.Digest, chunks.Blob, error) error) error {
	return chunks.GetMany(ctx, f.store, want, func(d chunks.Digest, b chunks.Blob, err error) error {
		fault, struck := f.strike(ctx, Get)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if struck != nil {
			return fn(d, nil, f.wrap("read", d, struck))
		}
		b, err = f.spoil(fault, d, slices.Clone(b), err)
		return fn(d, b, err)
	})
}

// spoil makes of a successful read what fault wants.
func (f *Faulty) spoil(fault Fault, d chunks.Digest, b chunks.Blob, err error) (chunks.Blob, error) {
	switch {
	case err != nil:
		return nil, err
	case fault.Drop:
		return nil, f.wrap("read", d, chunks.ErrMissing)
	case fault.Flip && len(b) > 0:
		f.mu.Lock()
		bit := f.rng.IntN(8 * len(b))
		f.mu.Unlock()
		b[bit/8] ^= 1 << (bit % 8)
	}
	return b, nil
}

func (f *Faulty) wrap(op string, d chunks.Digest, err error) error {
	return &chunks.Error{Op: op, Digest: d, Place: f.String(), Err: err}
}

// strike returns the fault that strikes this call, if any, after its delay,
// and the error that the call is to fail with.
func (f *Faulty) strike(ctx context.Context, call Call) (Fault, error) {
	fault, ok := f.draw(call)
	if !ok {
		return Fault{}, nil
	}
	if fault.Delay > 0 {
		wait := time.NewTimer(fault.Delay)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-ctx.Done():
			return fault, ctx.Err()
		}
	}
	switch {
	case fault.Err != nil:
		return fault, fault.Err
	case fault.Delay == 0 && !fault.Drop && !fault.Flip:
		return fault, ErrInjected
	}
	return fault, nil
}

// draw returns the first fault that strikes this call.
func (f *Faulty) draw(call Call) (Fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, fault := range f.faults {
		if fault.On != Any && fault.On != call {
			continue
		}
		f.calls[i]++
		if fault.Nth != 0 && fault.Nth != f.calls[i] {
			continue
		}
		if fault.Chance != 0 && f.rng.Float64() >= fault.Chance {
			continue
		}
		f.struck++
		return fault, true
	}
	return Fault{}, false
}
