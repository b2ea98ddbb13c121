package chunktest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// Memory is a store in memory that keeps every promise of [chunks.Writer] and
// [chunks.BatchSource], and no more: what was not committed is lost in a
// [Memory.Crash], and a blob handed out by GetMany is overwritten once the
// call that it was valid for has returned.
type Memory struct {
	mu        sync.RWMutex
	held      map[chunks.Digest]chunks.Blob
	uncertain map[chunks.Digest]struct{} // put, not yet committed
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{held: map[chunks.Digest]chunks.Blob{}, uncertain: map[chunks.Digest]struct{}{}}
}

func (m *Memory) String() string { return "memory" }

// Len returns the number of chunks held.
func (m *Memory) Len() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return len(m.held)
}

// Crash loses what was put since the last Commit, as a power cut may.
func (m *Memory) Crash() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for d := range m.uncertain {
		delete(m.held, d)
	}
	clear(m.uncertain)
}

// Forget loses a chunk, as garbage collection or a bad disk does.
func (m *Memory) Forget(d chunks.Digest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.held, d)
	delete(m.uncertain, d)
}

// Get returns a copy of d's blob, in buf's memory if that is large enough.
func (m *Memory) Get(ctx context.Context, d chunks.Digest, buf []byte) (chunks.Blob, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	b, ok := m.held[d]
	if !ok {
		return nil, &chunks.Error{Op: "read", Digest: d, Place: m.String(), Err: chunks.ErrMissing}
	}
	return append(buf[:0], b...), nil
}

// Missing returns those of want that are not held, in the order of want.
func (m *Memory) Missing(ctx context.Context, want []chunks.Digest) ([]chunks.Digest, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	var missing []chunks.Digest
	for _, d := range want {
		if _, ok := m.held[d]; !ok {
			missing = append(missing, d)
		}
	}
	return missing, nil
}

// Put keeps a copy of b under d unless d is held already.
func (m *Memory) Put(ctx context.Context, d chunks.Digest, b chunks.Blob) (known bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if err := b.Check(); err != nil {
		return false, &chunks.Error{Op: "write", Digest: d, Place: m.String(), Err: err}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known = m.held[d]; !known {
		m.held[d] = slices.Clone(b)
		m.uncertain[d] = struct{}{}
	}
	return known, nil
}

// Commit makes every chunk put before the call survive a Crash.
func (m *Memory) Commit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("commit to %s: %w", m, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.uncertain)
	return nil
}

// GetMany calls fn for each of want, by digest, from two goroutines.
func (m *Memory) GetMany(ctx context.Context, want []chunks.Digest, fn func(chunks.Digest, chunks.Blob, error) error) error {
	want = slices.SortedFunc(slices.Values(want), chunks.Digest.Compare)
	g, ctx := errgroup.WithContext(ctx)
	half := len(want) / 2
	for _, part := range [][]chunks.Digest{want[:half], want[half:]} {
		g.Go(func() error { return m.getEach(ctx, part, fn) })
	}
	return g.Wait()
}

func (m *Memory) getEach(ctx context.Context, want []chunks.Digest, fn func(chunks.Digest, chunks.Blob, error) error) error {
	var buf []byte
	for _, d := range want {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := m.Get(ctx, d, buf)
		if err := fn(d, b, err); err != nil {
			return err
		}
		for i := range b { // whoever kept it learns so
			b[i] = 0xdb
		}
		buf = b[:0]
	}
	return nil
}
