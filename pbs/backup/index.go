package backup

import (
	"fmt"
	"net/http"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// A kind is one of the two kinds of index; its text stands in messages.
type kind string

const (
	fixedKind   kind = "fixed"
	dynamicKind kind = "dynamic"
)

// An index is one that the client is making. It is guarded by the session's
// mutex until the client closes it.
type index struct {
	kind     kind
	name     string
	sums     uploadedSums
	appended int64 // entries, also where one replaced another

	builder interface {
		put(offset, length int64, d chunks.Digest) error
		uploaded(size int64) error
		finish(c closing) (chunks.Index, error)
	}
}

// closing is what a client says of an index when it closes it.
type closing struct {
	count, size int64
	csum        chunks.Digest
}

func (x *index) failed(what string, err error) error {
	return fmt.Errorf("%s writer '%s' %s failed - %w", x.kind, x.name, what, err)
}

// open returns the index that the client calls id. The caller holds s.mu.
func (s *Session) open(k kind, id int) (*index, error) {
	x := s.indexes[id]
	if x == nil || x.kind != k {
		return nil, fmt.Errorf("%s writer '%d' not registered", k, id)
	}
	return x, nil
}

// create makes x known to the client, which gets its number as the answer.
func (s *Session) create(w http.ResponseWriter, x *index) error {
	s.mu.Lock()
	switch {
	case s.names[x.name]:
		s.mu.Unlock()
		return fmt.Errorf("index %s exists already", x.name)
	case s.lastID == maxID:
		s.mu.Unlock()
		return fmt.Errorf("create index %s: a backup has at most %d", x.name, maxID)
	}
	s.lastID++
	id := s.lastID
	s.indexes[id] = x
	s.names[x.name] = true
	s.mu.Unlock()
	s.task.Logf("began %s index %d, %q", x.kind, id, x.name)
	return upgrade.Data(w, id)
}

// appendChunks answers PUT /fixed_index and /dynamic_index. Entries before one
// that is wrong are taken, as in PBS.
func (s *Session) appendChunks(p *upgrade.Params, w http.ResponseWriter, k kind) error {
	id := int(p.Int("wid", 1, maxID))
	digests, offsets := p.Digests("digest-list"), p.Ints("offset-list")
	switch {
	case p.Err() != nil:
		return p.Err()
	case len(digests) != len(offsets):
		return fmt.Errorf("offset list has wrong length (%d != %d)", len(offsets), len(digests))
	}
	if err := s.appendAll(k, id, digests, offsets); err != nil {
		return err
	}
	return upgrade.Data(w, nil)
}

func (s *Session) appendAll(k kind, id int, digests []chunks.Digest, offsets []int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, err := s.open(k, id)
	if err != nil {
		return err
	}
	for i, d := range digests {
		length, ok := s.known[d]
		if !ok {
			return fmt.Errorf("no such chunk %s", d)
		}
		if err := x.builder.put(offsets[i], int64(length), d); err != nil {
			return x.failed("append chunk", err)
		}
		x.appended++
	}
	return nil
}

// closeIndex answers POST /fixed_close and /dynamic_close. However it ends,
// the index is not open any more; one that failed may be made anew.
func (s *Session) closeIndex(w http.ResponseWriter, k kind, id int, c closing) error {
	s.mu.Lock()
	x, err := s.open(k, id)
	if err == nil {
		delete(s.indexes, id)
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	made, err := s.putIndex(x, c)
	s.mu.Lock()
	if err != nil {
		delete(s.names, x.name)
		s.mu.Unlock()
		err = x.failed("close", err)
		s.task.Warnf("%v", err)
		return err
	}
	s.files++
	s.stats.Count += x.sums.Count
	s.stats.Size += x.sums.Size
	s.stats.CompressedSize += x.sums.CompressedSize
	s.stats.Duplicates += x.sums.Duplicates
	s.mu.Unlock()
	s.tellIndex(id, x, made.Size())
	return upgrade.Data(w, nil)
}

func (s *Session) putIndex(x *index, c closing) (chunks.Index, error) {
	if c.count != x.appended {
		return nil, fmt.Errorf("received wrong number of chunk (%d != %d)", x.appended, c.count)
	}
	made, err := x.builder.finish(c)
	switch {
	case err != nil:
		return nil, err
	case made.Csum() != c.csum:
		return nil, fmt.Errorf("got unexpected checksum (%s != %s)", made.Csum(), c.csum)
	}
	return made, s.writer.PutIndex(x.name, made)
}

// stamp returns what tells an index from another of the same content.
func stamp() (chunks.UUID, time.Time) { return chunks.NewUUID(), time.Now() }
