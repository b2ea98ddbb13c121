package gc

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// memRoots is a Roots in memory: the snapshots of a datastore and its trash.
type memRoots struct {
	once bool // a fault: later listings find nothing

	mu sync.Mutex

	all      []*memRoot
	listings int // since reset by the test
	err      error
}

type memRoot struct {
	id      string
	digests []chunks.Digest
	trashed bool
	gone    bool
	roots   *memRoots
	err     error
}

// A sighting is a root as a listing saw it: under the path that it had.
type sighting struct {
	*memRoot
	trashed bool
}

func (s sighting) ID() string {
	if s.trashed {
		return "trash/" + s.id
	}
	return s.id
}

func (s sighting) Size() int64 { return int64(len(s.digests)) << 22 }

func (s sighting) Digests(ctx context.Context, fn func([]chunks.Digest) error) error {
	s.roots.mu.Lock()
	gone := s.gone || s.memRoot.trashed != s.trashed
	err := s.err
	s.roots.mu.Unlock()
	if gone {
		return fmt.Errorf("open %s: %w", s.ID(), errNotExist)
	}
	if err != nil {
		return err
	}
	return Seq(slices.Values(s.digests)).Digests(ctx, fn)
}

func (m *memRoots) Each(_ context.Context, fn func(Root) error) error {
	m.mu.Lock()
	if m.err != nil {
		defer m.mu.Unlock()
		return m.err
	}
	m.listings++
	if m.once && m.listings > 1 {
		m.mu.Unlock()
		return nil
	}
	var seen []sighting
	for _, r := range m.all {
		seen = append(seen, sighting{r, r.trashed})
	}
	m.mu.Unlock()
	slices.SortStableFunc(seen, func(a, b sighting) int { return cmp.Compare(btoi(a.trashed), btoi(b.trashed)) })
	for _, s := range seen {
		if err := fn(s); err != nil {
			return err
		}
	}
	return nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (m *memRoots) add(id string, digests []chunks.Digest) *memRoot {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := &memRoot{id: id, digests: digests, roots: m}
	m.all = append(m.all, r)
	return r
}

func (m *memRoots) forget(r *memRoot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r.gone = true
	m.all = slices.DeleteFunc(m.all, func(x *memRoot) bool { return x == r })
}

func (m *memRoots) trash(r *memRoot, in bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r.trashed = in
}
