package follow

import (
	"bytes"
	"errors"
	"io"
	"time"

	"github.com/hashicorp/raft"
)

// A Member gives followers what Raft gives this node.
type Member struct {
	Log       raft.LogStore
	Snapshots raft.SnapshotStore
	State     func() (applied uint64, state io.WriterTo) // of one moment
	Moved     func() (applied uint64, more <-chan struct{}, err error)
	Raft      *raft.Raft
	Self      string
}

// Progress is how far this node is.
func (m Member) Progress() (uint64, <-chan struct{}, error) { return m.Moved() }

// After reads commands from the log.
func (m Member) After(index, applied uint64, most, size int) (all []Entry, known bool, err error) {
	for index++; index <= applied && len(all) < most && size > 0; index++ {
		var l raft.Log
		if err := m.Log.GetLog(index, &l); errors.Is(err, raft.ErrLogNotFound) {
			return nil, false, nil
		} else if err != nil {
			return nil, false, err
		}
		if l.Type == raft.LogCommand {
			all = append(all, Entry{Index: index, Term: l.Term, Data: l.Data})
			size -= len(l.Data)
		}
	}
	return all, true, nil
}

// Snapshot is the state, and the newest command in it.
func (m Member) Snapshot() ([]byte, Entry, error) {
	applied, state := m.State()
	at := Entry{Index: applied}
	var l raft.Log
	if err := m.Log.GetLog(applied, &l); err == nil {
		at.Term = l.Term
	} else if metas, err := m.Snapshots.List(); err == nil && len(metas) > 0 {
		at.Term = metas[0].Term // it is in the newest snapshot, or this node could not start
	}
	var b bytes.Buffer
	_, err := state.WriteTo(&b)
	return b.Bytes(), at, err
}

// News is what this node knows of the group.
func (m Member) News() (n News) {
	_, leader := m.Raft.LeaderWithID()
	n.Leader = string(leader)
	if seen := m.Raft.LastContact(); n.Leader != m.Self && !seen.IsZero() {
		n.Age = time.Since(seen).Milliseconds()
	}
	if f := m.Raft.GetConfiguration(); f.Error() == nil {
		n.Config, n.ConfigIndex = raft.EncodeConfiguration(f.Configuration()), f.Index()
	}
	return n
}
