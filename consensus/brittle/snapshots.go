package brittle

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"
)

// Snapshots are a store that keeps nothing which the machine would not restore: a
// snapshot of a lying peer never becomes visible to raft.
type Snapshots struct {
	raft.SnapshotStore
	Verify func([]byte) error
	Max    int // bytes of one
}

func (s Snapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, configIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(v, index, term, c, configIndex, trans)
	if err != nil {
		return nil, err
	}
	return &checkedSink{SnapshotSink: sink, of: s}, nil
}

// A checkedSink holds everything back until it is known to be good.
type checkedSink struct {
	raft.SnapshotSink
	of     Snapshots
	buf    bytes.Buffer
	closed bool
	err    error
}

func (s *checkedSink) Write(p []byte) (int, error) {
	if s.buf.Len()+len(p) > s.of.Max {
		return 0, fmt.Errorf("the snapshot has more than %d bytes", s.of.Max)
	}
	return s.buf.Write(p)
}

// Close may be called again, as raft does; it then says what it said.
func (s *checkedSink) Close() error {
	if !s.closed {
		s.closed, s.err = true, s.finish()
	}
	return s.err
}

func (s *checkedSink) finish() error {
	if err := s.of.Verify(s.buf.Bytes()); err != nil {
		return errors.Join(fmt.Errorf("refused: a snapshot: %w", err), s.SnapshotSink.Cancel())
	}
	if _, err := io.Copy(s.SnapshotSink, &s.buf); err != nil {
		return errors.Join(err, s.SnapshotSink.Cancel())
	}
	return s.SnapshotSink.Close()
}
