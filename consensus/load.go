package consensus

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"

	"github.com/holdfast-mesh/holdfast/consensus/follow"
	"github.com/holdfast-mesh/holdfast/consensus/logstore"
	"github.com/holdfast-mesh/holdfast/consensus/raftlog"
	"github.com/holdfast-mesh/holdfast/consensus/switchover"
)

// openStores opens the files of a group in dir:
//
//	raft/log.db               the log and the vote, see package logstore
//	raft/snapshots/           as hashicorp/raft keeps them
//	raft.orphan-INCARNATION/  what was raft/ before the cluster was recovered elsewhere
//	raft.orphan-INCARNATION-entry-INDEX/  likewise, before a leader took back what was agreed on
//	raft.next/                what comes in the place of raft/, complete; see package switchover
func openStores(cfg Config) (*Stores, func() error, error) {
	if cfg.Stores != nil {
		return cfg.Stores, func() error { return nil }, nil
	}
	dir := filepath.Join(cfg.Dir, "raft")
	if err := switchover.Finish(cfg.Dir); err != nil {
		return nil, nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		if errors.Is(err, os.ErrNotExist) { // what is put there now would be a node without a key
			err = cured(fmt.Errorf("the directory of the node was removed while it ran: %w", err),
				"stop the daemon; put the directory back as it was, or join again with an empty one: `holdfast invite create --replaces NAME` on another node")
		}
		return nil, nil, err
	}
	path := filepath.Join(dir, "log.db")
	if info, err := os.Stat(path); cfg.Lost != nil && (errors.Is(err, os.ErrNotExist) || err == nil && info.Size() == 0) {
		if err := cfg.Lost(); err != nil {
			return nil, nil, err
		}
	}
	log, err := logstore.Open(logstore.Config{Path: path})
	if err != nil {
		return nil, nil, err
	}
	snaps, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, raftlog.New(cfg.Log))
	if err != nil {
		return nil, nil, errors.Join(err, log.Close())
	}
	archive := func(label string, next func(raft.SnapshotStore) error) error {
		if next != nil {
			if err := switchover.Prepare(cfg.Dir, label, func(dir string) error { return write(dir, next, cfg) }); err != nil {
				return err
			}
		}
		if err := log.Close(); err != nil {
			return err
		}
		if next != nil {
			return switchover.Finish(cfg.Dir)
		}
		return switchover.PutAway(cfg.Dir, label)
	}
	return &Stores{log, snaps, archive}, log.Close, nil
}

// write makes the files of a group that begins with a snapshot.
func write(dir string, snapshot func(raft.SnapshotStore) error, cfg Config) error {
	snaps, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, raftlog.New(cfg.Log))
	if err == nil {
		err = snapshot(snaps)
	}
	if err != nil {
		return err
	}
	log, err := logstore.Open(logstore.Config{Path: filepath.Join(dir, "log.db")})
	if err != nil {
		return err
	}
	return log.Close()
}

// A history is what the stores of a node hold beyond the state of its machine.
type history struct {
	index, term uint64 // of the newest entry in the machine's state
	config      raft.Configuration
	configIndex uint64
	fresh       bool // a snapshot holds exactly this
}

// restore brings the machine to the newest snapshot that can be read, or to
// nothing if there is none. A machine that is further already, since it is not
// the first life of this process, stays: who reads it must not see it empty.
func restore(s *Stores, m Machine) (h history, err error) {
	metas, err := s.Snapshots.List()
	if err != nil {
		return h, fmt.Errorf("list snapshots: %w", err)
	}
	var bad error
	for i, meta := range metas {
		var err error
		if m.Applied() < meta.Index || m.Applied() == 0 {
			err = restoreOne(s, m, meta.ID)
		}
		if err == nil {
			return history{meta.Index, meta.Term, meta.Configuration, meta.ConfigurationIndex, i == 0}, nil
		}
		bad = errors.Join(bad, fmt.Errorf("snapshot %s: %w", meta.ID, err))
	}
	return history{fresh: true}, bad
}

// loadSnapshot brings the machine to the newest snapshot, where there is no log.
func loadSnapshot(cfg Config) error {
	snaps, err := raft.NewFileSnapshotStoreWithLogger(filepath.Join(cfg.Dir, "raft"), snapshotsKept, raftlog.New(cfg.Log))
	if err == nil {
		_, err = restore(&Stores{Snapshots: snaps}, cfg.Machine)
	}
	return err
}

func restoreOne(s *Stores, m Machine, id string) error {
	_, r, err := s.Snapshots.Open(id)
	if err != nil {
		return err
	}
	b, err := readSnapshot(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	return m.Restore(b)
}

// replay applies the entries of the log behind h, up to the index to.
func replay(s *Stores, f *fsm, h history, to uint64) (history, error) {
	for index := h.index + 1; index <= to; index++ {
		var l raft.Log
		if err := s.Log.GetLog(index, &l); err != nil {
			return h, fmt.Errorf("read entry %d: %w", index, err)
		}
		switch l.Type {
		case raft.LogCommand:
			if index <= f.machine.Applied() {
				break
			}
			if _, err := f.apply(&l); err != nil {
				return h, fmt.Errorf("%w: apply entry %d: %w", ErrNeedsUpgrade, index, err)
			}
		case raft.LogConfiguration:
			h.config, h.configIndex = raft.DecodeConfiguration(l.Data), index
		}
		h.index, h.term, h.fresh = index, l.Term, false
	}
	return h, nil
}

// load brings the machine to everything that is known here to be committed,
// and stores that as a snapshot from which raft starts.
//
// raft 1.8.0 can replay committed entries itself (RestoreCommittedLogs), but
// then does not see a change of the voters among them: a node that is alone in
// its group would never lead again, and more than 128 batches would block it
// for ever. Both are shown by TestLibraryForgetsVoters.
func load(s *Stores, f *fsm, trans raft.Transport) (history, error) {
	h, err := restore(s, f.machine)
	if err != nil {
		return h, err
	}
	commit, err := s.Log.GetCommitIndex()
	if err != nil {
		return h, err
	}
	if err := trim(s, h.index); err != nil {
		return h, err
	}
	if h, err = replay(s, f, h, commit); err == nil {
		h, err = followed(s, f, h)
	}
	f.set(f.machine.Applied(), err)
	if err != nil || h.fresh {
		return h, err
	}
	if err := store(s, f.machine, h, trans); err != nil {
		return h, err
	}
	return h, errors.Join(follow.Note(s.Log, nil), trim(s, h.index))
}

// store writes the state of the machine as the snapshot of h.
func store(s *Stores, m Machine, h history, trans raft.Transport) error {
	sink, err := s.Snapshots.Create(raft.SnapshotVersionMax, h.index, h.term, h.config, h.configIndex, trans)
	if err == nil {
		err = frozen{m.Snapshot()}.Persist(sink)
	}
	if err != nil {
		return fmt.Errorf("write snapshot of entry %d: %w", h.index, err)
	}
	return nil
}
