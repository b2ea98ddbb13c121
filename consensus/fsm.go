package consensus

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast-mesh/holdfast/consensus/wire"
)

// An fsm puts a [Machine] where raft expects its own kind.
type fsm struct {
	machine Machine
	note    func(index uint64) error // makes an applied index durable
	halt    func(error)              // is told once why nothing is applied any more
	changed func()                   // is told after every change

	installed func() // is told that Raft has a snapshot of the leader in place of its log

	turn    sync.Mutex // who changes the machine: Raft, or the stream that is followed
	mu      sync.Mutex
	applied uint64 // index of the newest command in the machine
	halted  error
	busy    bool
	wake    chan struct{} // closed at the next change
}

func newFSM(m Machine) *fsm {
	nothing := func() {}
	return &fsm{
		machine: m, wake: make(chan struct{}), applied: m.Applied(), changed: nothing,
		note: func(uint64) error { return nil }, halt: func(error) {}, installed: nothing,
	}
}

// A outcome is what became of a command at the leader.
type outcome struct {
	value []byte
	err   error
}

// Apply applies one committed command, unless an earlier one could not be.
func (f *fsm) Apply(l *raft.Log) any {
	f.turn.Lock()
	defer f.turn.Unlock()
	if err := f.begin(); err != nil {
		return outcome{err: err}
	}
	defer f.ready()
	if l.Index <= f.machine.Applied() { // it came by a stream before this node had a place in the group
		return outcome{err: f.note(l.Index)}
	}
	value, err := f.apply(l)
	if err != nil {
		err = fmt.Errorf("apply entry %d: %w", l.Index, err)
		f.set(l.Index-1, err)
		f.halt(err)
		return outcome{err: err}
	}
	if err := f.note(l.Index); err != nil {
		// Only a node that reboots alone would miss it: not worth stopping for,
		// and raft will soon stop over the same disk.
		value, err = nil, fmt.Errorf("%w: %w", ErrUnknown, err)
		f.set(l.Index, nil)
		return outcome{value, err}
	}
	f.set(l.Index, nil)
	return outcome{value: value}
}

// follow applies a command that another node has shown to be committed.
func (f *fsm) follow(l *raft.Log) error {
	f.turn.Lock()
	defer f.turn.Unlock()
	if err := f.stopped(); err != nil || l.Index <= f.machine.Applied() {
		return err
	}
	if _, err := f.apply(l); err != nil {
		err = fmt.Errorf("apply entry %d: %w", l.Index, err)
		f.set(l.Index-1, err)
		f.halt(err)
		return err
	}
	f.set(l.Index, nil)
	return nil
}

func (f *fsm) apply(l *raft.Log) ([]byte, error) {
	ms, command, err := wire.Unstamp(l.Data)
	if err != nil {
		return nil, err
	}
	return f.machine.Apply(l.Index, time.UnixMilli(ms), command)
}

func (f *fsm) stopped() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.halted
}

func (f *fsm) begin() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy = f.halted == nil
	return f.halted
}

func (f *fsm) ready() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy = false
}

// errEnding is not ErrStopped: the entry is in the log.
var errEnding = errors.New("the node is stopping")

// end makes every further Apply a quick refusal. What is refused was committed
// and is applied in the next life.
func (f *fsm) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.halted == nil {
		f.halted = errEnding
	}
}

func (f *fsm) isBusy() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.busy
}

// set records how far the machine is and wakes who waits for that.
func (f *fsm) set(applied uint64, halted error) {
	f.mu.Lock()
	f.applied = max(f.applied, applied)
	if f.halted == nil {
		f.halted = halted
	}
	close(f.wake)
	f.wake = make(chan struct{})
	f.mu.Unlock()
	f.changed()
}

// progress returns how far the machine is, and a channel that is closed when
// that has changed.
func (f *fsm) progress() (applied uint64, wake <-chan struct{}, halted error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.applied, f.wake, f.halted
}

// Snapshot returns the state of now.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if err := f.stopped(); err != nil {
		return nil, err // raft would drop the entry that was not understood
	}
	return frozen{f.machine.Snapshot()}, nil
}

// Restore replaces the state by a snapshot of the leader.
func (f *fsm) Restore(r io.ReadCloser) error {
	err := f.restore(r)
	if err == nil {
		f.installed()
	}
	return err
}

func (f *fsm) restore(r io.ReadCloser) error {
	f.turn.Lock()
	defer f.turn.Unlock()
	b, err := readSnapshot(r)
	if err == nil {
		err = f.machine.Restore(b)
	}
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.applied = f.machine.Applied()
	f.mu.Unlock()
	f.set(0, nil)
	return nil
}

func readSnapshot(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxSnapshot+1))
	if err == nil && len(b) > maxSnapshot {
		err = fmt.Errorf("the snapshot has more than %d bytes", maxSnapshot)
	}
	return b, err
}

// frozen is a state on its way to disk.
type frozen struct{ io.WriterTo }

func (s frozen) Persist(sink raft.SnapshotSink) error {
	if _, err := s.WriteTo(sink); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

func (frozen) Release() {}
