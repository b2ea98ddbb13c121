package brittle

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"
)

// Snapshots are a store that keeps nothing which the machine would not restore: a
// snapshot of a lying peer never becomes visible to raft. One of another history than
// what was agreed on here ends the life, as a leader that takes entries back does.
type Snapshots struct {
	raft.SnapshotStore
	Verify func([]byte) error // may return a [Departure]
	Max    int                // bytes of one
	Disk   *Store
}

// A Departure is an error that says of a snapshot that entries are other ones in it
// than in the machine.
type Departure interface {
	error
	Departs() (from, to uint64)
}

func (s Snapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, configIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	if err := s.Disk.fits(index, term); err != nil {
		return nil, s.refuse(err)
	}
	sink, err := s.SnapshotStore.Create(v, index, term, c, configIndex, trans)
	if err != nil {
		return nil, err
	}
	return &checkedSink{SnapshotSink: sink, of: s}, nil
}

// refuse ends the life if a snapshot cannot be believed by who was told otherwise.
func (s Snapshots) refuse(err error) error {
	if d := Departure(nil); errors.As(err, &d) {
		from, to := d.Departs()
		s.Disk.Refuse(&TakenBackError{from, to})
	}
	return fmt.Errorf("refused: a snapshot: %w", err)
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
		return errors.Join(s.of.refuse(err), s.SnapshotSink.Cancel())
	}
	if _, err := io.Copy(s.SnapshotSink, &s.buf); err != nil {
		return errors.Join(err, s.SnapshotSink.Cancel())
	}
	return s.SnapshotSink.Close()
}
