package index

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// A source hands out records in ascending order of their digests, one after
// the other; equal ones are allowed. A record is valid until the next call;
// nil is the end.
type source interface{ next() (*record, error) }

// A resolver turns two records of one digest into one, in first; second comes
// from a later source, or later from the same.
type resolver func(first, second *record)

// keepFirst suits sources that go from newest to oldest.
func keepFirst(_, _ *record) {}

// merge calls emit for every digest of the sources in ascending order.
func merge(ctx context.Context, sources []source, resolve resolver, emit func(*record) error) error {
	m, err := newMerger(sources)
	if err != nil {
		return err
	}
	var out record // here, because it escapes to emit
	for n := 0; len(m) > 0; n++ {
		if n%blockRecords == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		out = *m[0].rec
		if err := m.advance(); err != nil {
			return err
		}
		for len(m) > 0 && *m[0].rec.digest() == *out.digest() {
			resolve(&out, m[0].rec)
			if err := m.advance(); err != nil {
				return err
			}
		}
		if err := emit(&out); err != nil {
			return err
		}
	}
	return nil
}

// A merger is a heap of sources by their next records.
type merger []head

type head struct {
	prefix uint64 // of rec's digest; settles nearly every comparison
	rec    *record
	src    source
	rank   int // place among the sources; settles equal digests
}

func newMerger(sources []source) (merger, error) {
	var m merger
	for rank, src := range sources {
		rec, err := src.next()
		if err != nil {
			return nil, err
		}
		if rec != nil {
			m = append(m, head{prefix(rec.digest()), rec, src, rank})
		}
	}
	for i := len(m)/2 - 1; i >= 0; i-- {
		m.down(i)
	}
	return m, nil
}

// advance replaces the smallest record by the next of its source.
func (m *merger) advance() error {
	h := *m
	rec, err := h[0].src.next()
	if err != nil {
		return err
	}
	if rec != nil {
		h[0].rec, h[0].prefix = rec, prefix(rec.digest())
	} else {
		h[0] = h[len(h)-1]
		*m = h[:len(h)-1]
	}
	m.down(0)
	return nil
}

func (m merger) down(i int) {
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(m); c++ {
			if m[c].less(&m[least]) {
				least = c
			}
		}
		if least == i {
			return
		}
		m[i], m[least] = m[least], m[i]
		i = least
	}
}

func (h *head) less(o *head) bool {
	if h.prefix != o.prefix {
		return h.prefix < o.prefix
	}
	c := bytes.Compare(h.rec[:chunks.DigestSize], o.rec[:chunks.DigestSize])
	return cmp.Or(c, cmp.Compare(h.rank, o.rank)) < 0
}

// A sliceSource hands out records in memory.
type sliceSource []*record

func (s *sliceSource) next() (*record, error) {
	if len(*s) == 0 {
		return nil, nil
	}
	r := (*s)[0]
	*s = (*s)[1:]
	return r, nil
}

// A runSource hands out the records of a run, read from the file rather than
// the mapping, so that a bad disk is an error and not a fault; each block is
// checked before the first of it is handed out.
type runSource struct {
	r     *run
	sums  []byte // of the blocks, once read
	block uint64 // next to read
	buf   []byte
	rest  []byte // of buf
}

func (s *runSource) next() (*record, error) {
	if len(s.rest) == 0 {
		if s.block*blockRecords >= s.r.n {
			return nil, nil
		}
		if err := s.load(); err != nil {
			return nil, err
		}
	}
	r := (*record)(s.rest)
	s.rest = s.rest[recordSize:]
	return r, nil
}

// load reads the next block.
func (s *runSource) load() error {
	if s.sums == nil {
		sums, err := s.r.readSums()
		if err != nil {
			return err
		}
		s.sums, s.buf = sums, make([]byte, min(blockSize, s.r.n*recordSize))
	}
	size := min(blockRecords, s.r.n-s.block*blockRecords) * recordSize
	off := s.r.head.recordsOff() + int64(s.block)*blockSize
	s.rest = s.buf[:size]
	if err := s.r.readAt(s.rest, off); err != nil {
		return err
	}
	if xxhash.Sum64(s.rest) != binary.LittleEndian.Uint64(s.sums[s.block*sumSize:]) {
		return damaged(s.r.file, "the sum of the %d bytes at %d is wrong", size, off)
	}
	s.block++
	return nil
}

// readSums returns the sums of the blocks, checked.
func (r *run) readSums() ([]byte, error) {
	off := r.head.recordsOff() + int64(r.n)*recordSize
	sums := make([]byte, r.head.fileSize(r.n)-footerSize-off)
	if err := r.readAt(sums, off); err != nil {
		return nil, err
	}
	if xxhash.Sum64(sums) != r.foot.blocksSum {
		return nil, damaged(r.file, "the sum of the block sums is wrong")
	}
	return sums, nil
}

func (r *run) readAt(b []byte, off int64) error {
	if n, err := r.held.file.ReadAt(b, off); n < len(b) {
		return &DamagedError{File: r.file, Err: err}
	}
	return nil
}
