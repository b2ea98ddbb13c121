package remotes

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/client"
	"github.com/holdfast-mesh/holdfast/replication/wire"
)

// What is remembered of snapshots whose indexes were read: a pull is at most 256
// ahead of itself. Of these, only a few have a connection at a time; one that has
// lost it gets another when a chunk is asked for.
const (
	maxKnown = 512
	maxOpen  = 16
)

// sessions are the snapshots whose chunks can be asked for.
type sessions struct {
	client *client.Client

	mu     sync.Mutex
	known  []*snapshot // oldest first
	open   []*snapshot // with a connection, the one that was used last at the end
	closed bool
}

// A snapshot is one of them.
type snapshot struct {
	wire.Snapshot
	indexes []string
	digests []chunks.Digest // sorted

	opening sync.Mutex       // held while a connection is made
	reader  *client.Snapshot // nil: none; guarded by sessions.mu
}

// add remembers a snapshot and takes its connection over, and tells whether it
// did.
func (s *sessions) add(snap wire.Snapshot, r *client.Snapshot, indexes map[string]chunks.Index) bool {
	n := &snapshot{Snapshot: snap, reader: r}
	for name, x := range indexes {
		n.indexes = append(n.indexes, name)
		for _, d := range x.All() {
			n.digests = append(n.digests, d)
		}
	}
	slices.SortFunc(n.digests, compare)
	n.digests = slices.Compact(n.digests)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(n.digests) == 0 {
		return false
	}
	if s.known = append(s.known, n); len(s.known) > maxKnown {
		s.drop(s.known[0])
		s.known = s.known[1:]
	}
	s.use(n)
	return true
}

func compare(a, b chunks.Digest) int { return bytes.Compare(a[:], b[:]) }

// use notes that a snapshot with a connection is used, and closes the one that
// was not for the longest time if there are too many. The caller holds mu.
func (s *sessions) use(n *snapshot) {
	s.open = slices.DeleteFunc(s.open, func(o *snapshot) bool { return o == n })
	if s.open = append(s.open, n); len(s.open) > maxOpen {
		s.drop(s.open[0])
	}
}

// drop closes the connection of a snapshot. The caller holds mu.
func (s *sessions) drop(n *snapshot) {
	s.open = slices.DeleteFunc(s.open, func(o *snapshot) bool { return o == n })
	if n.reader != nil {
		n.reader.Close()
		n.reader = nil
	}
}

// holder returns a snapshot that names a chunk, one with a connection if there
// is one, or nil.
func (s *sessions) holder(d chunks.Digest) (found *snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range slices.Backward(s.known) {
		if found != nil && n.reader == nil {
			continue
		}
		if _, is := slices.BinarySearchFunc(n.digests, d, compare); is {
			if found = n; n.reader != nil {
				return found
			}
		}
	}
	return found
}

// reader returns the connection of a snapshot, which is made if there is none.
func (s *sessions) reader(ctx context.Context, n *snapshot) (*client.Snapshot, error) {
	n.opening.Lock()
	defer n.opening.Unlock()
	s.mu.Lock()
	if n.reader != nil {
		s.use(n)
		r := n.reader
		s.mu.Unlock()
		return r, nil
	}
	s.mu.Unlock()
	r, err := s.client.OpenSnapshot(context.WithoutCancel(ctx), n.Namespace, n.Snapshot.Snapshot) // it outlives who asks first
	if err != nil {
		return nil, err
	}
	for _, name := range n.indexes {
		if _, err := r.File(name); err != nil {
			r.Close()
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		r.Close()
		return nil, client.ErrClosed
	}
	n.reader = r
	s.use(n)
	return r, nil
}

// lost forgets a connection that has failed.
func (s *sessions) lost(n *snapshot, r *client.Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.reader == r {
		s.drop(n)
	}
}

func (s *sessions) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, n := range s.known {
		s.drop(n)
	}
	s.known = nil
}

// get reads a chunk, once more on a new connection if one was lost.
func (s *sessions) get(ctx context.Context, d chunks.Digest) (chunks.Blob, error) {
	for try := 0; ; try++ {
		n := s.holder(d)
		if n == nil {
			return nil, &chunks.Error{Op: "read", Digest: d, Place: "the remote", Err: fmt.Errorf("%w: no index that was read names it", chunks.ErrMissing)}
		}
		r, err := s.reader(ctx, n)
		if err == nil {
			var b chunks.Blob
			if b, err = r.Chunks().Get(ctx, d, nil); err == nil {
				return b, nil
			}
			if ofChunk(err) {
				return nil, err
			}
			s.lost(n, r)
		}
		if try == 1 || ctx.Err() != nil {
			return nil, err
		}
	}
}

// refusedAsGone tells the words of a server about a snapshot that is not there.
func refusedAsGone(text string) bool {
	return strings.Contains(text, "does not exist") || strings.Contains(text, "ENOENT")
}
