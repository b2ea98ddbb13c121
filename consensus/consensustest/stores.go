// Package consensustest has the stores of a node in memory: they survive its
// crash, stall and fail as a disk does. The network between such nodes is
// mesh/meshtest.
package consensustest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast-mesh/holdfast/consensus"
)

// A Disk is the stores of one node, which survive its crash. Every call is
// durable when it returns.
type Disk struct {
	mu    sync.Mutex
	log   *raft.InmemStore
	marks uint64 // commit index
	stage uint64
	snaps []*snapshot
	stall time.Duration
	fail  error
	n     int
}

// NewDisk returns an empty disk.
func NewDisk() *Disk { return &Disk{log: raft.NewInmemStore()} }

// Copy returns an image of the disk, as a snapshot of a virtual machine is.
func (d *Disk) Copy() (*Disk, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	image := NewDisk()
	image.marks, image.stage, image.n, image.snaps = d.marks, d.stage, d.n, slices.Clone(d.snaps)
	first, err1 := d.log.FirstIndex()
	last, err2 := d.log.LastIndex()
	err := errors.Join(err1, err2)
	for i := first; i <= last && i > 0 && err == nil; i++ {
		var l raft.Log
		err = errors.Join(d.log.GetLog(i, &l), image.log.StoreLog(&l))
	}
	for _, key := range []string{"CurrentTerm", "LastVoteTerm"} {
		if n, unset := d.log.GetUint64([]byte(key)); unset == nil {
			err = errors.Join(err, image.log.SetUint64([]byte(key), n))
		}
	}
	for _, key := range []string{"LastVoteCand", "Followed"} {
		if b, unset := d.log.Get([]byte(key)); unset == nil {
			err = errors.Join(err, image.log.Set([]byte(key), b))
		}
	}
	return image, err
}

// Stores returns the stores, for [consensus.Config].
func (d *Disk) Stores() *consensus.Stores {
	return &consensus.Stores{Log: d, Snapshots: snapshots{d}, Archive: func(_ string, next func(raft.SnapshotStore) error) error {
		empty := NewDisk()
		if next != nil {
			if err := next(snapshots{empty}); err != nil {
				return err
			}
		}
		if err := d.write(); err != nil {
			return err
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.log, d.marks, d.stage, d.snaps = empty.log, 0, 0, empty.snaps
		return nil
	}}
}

// Stall makes every write take so long.
func (d *Disk) Stall(t time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stall = t
}

// Fail makes every write fail, nil ends that.
func (d *Disk) Fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = err
}

// Forget makes the disk one whose log does not know what is committed, like
// the stores that come with raft.
func (d *Disk) Forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.marks = 0
}

// write waits as a write does.
func (d *Disk) write() error {
	d.mu.Lock()
	stall, err := d.stall, d.fail
	d.mu.Unlock()
	if stall > 0 {
		time.Sleep(stall)
	}
	return err
}

func (d *Disk) store() *raft.InmemStore {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log
}

func (d *Disk) FirstIndex() (uint64, error)        { return d.store().FirstIndex() }
func (d *Disk) LastIndex() (uint64, error)         { return d.store().LastIndex() }
func (d *Disk) GetLog(i uint64, l *raft.Log) error { return d.store().GetLog(i, l) }
func (d *Disk) StoreLog(l *raft.Log) error         { return d.StoreLogs([]*raft.Log{l}) }
func (d *Disk) Get(k []byte) ([]byte, error)       { return d.store().Get(k) }
func (d *Disk) GetUint64(k []byte) (uint64, error) { return d.store().GetUint64(k) }
func (d *Disk) Set(k, v []byte) error              { return errors.Join(d.write(), d.store().Set(k, v)) }
func (d *Disk) SetUint64(k []byte, v uint64) error {
	return errors.Join(d.write(), d.store().SetUint64(k, v))
}
func (d *Disk) IsMonotonic() bool { return true }

func (d *Disk) StoreLogs(logs []*raft.Log) error {
	if err := d.write(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if last, _ := d.log.LastIndex(); last != 0 && logs[0].Index != last+1 {
		return fmt.Errorf("entry %d cannot follow entry %d", logs[0].Index, last)
	}
	d.marks = max(d.marks, min(d.stage, logs[len(logs)-1].Index))
	return d.log.StoreLogs(logs)
}

func (d *Disk) DeleteRange(low, high uint64) error {
	if err := d.write(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.DeleteRange(low, high)
}

func (d *Disk) StageCommitIndex(i uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stage = i
	return nil
}

func (d *Disk) GetCommitIndex() (uint64, error) {
	last, err := d.LastIndex()
	d.mu.Lock()
	defer d.mu.Unlock()
	return min(d.marks, last), err
}

// Applied notes a commit index.
func (d *Disk) Applied(i uint64) error {
	if err := d.write(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.marks = max(d.marks, i)
	return nil
}

// snapshots are those of a disk, the newest two.
type snapshots struct{ d *Disk }

type snapshot struct {
	d    *Disk
	meta raft.SnapshotMeta
	buf  bytes.Buffer
}

func (s snapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, configIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	s.d.n++
	return &snapshot{d: s.d, meta: raft.SnapshotMeta{
		Version: v, ID: fmt.Sprintf("%d-%d-%d", term, index, s.d.n), Index: index, Term: term, Configuration: c, ConfigurationIndex: configIndex,
	}}, nil
}

func (s snapshots) List() (metas []*raft.SnapshotMeta, err error) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	for _, n := range s.d.snaps {
		metas = append(metas, &n.meta)
	}
	return metas, nil
}

func (s snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	for _, n := range s.d.snaps {
		if n.meta.ID == id {
			return &n.meta, io.NopCloser(bytes.NewReader(n.buf.Bytes())), nil
		}
	}
	return nil, nil, fmt.Errorf("no snapshot %s", id)
}

func (n *snapshot) Write(b []byte) (int, error) { return n.buf.Write(b) }
func (n *snapshot) ID() string                  { return n.meta.ID }
func (n *snapshot) Cancel() error               { return nil }

func (n *snapshot) Close() error {
	if err := n.d.write(); err != nil {
		return err
	}
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	n.meta.Size = int64(n.buf.Len())
	n.d.snaps = append([]*snapshot{n}, n.d.snaps...)
	n.d.snaps = n.d.snaps[:min(len(n.d.snaps), 2)]
	return nil
}
