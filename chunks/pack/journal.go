package pack

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

// syncJournal makes what was noted in the journal durable. On a full disk it
// gives up the reserve first: collecting garbage must not need free space.
func (s *Store) syncJournal() error {
	err := s.packs.Sync()
	if err == nil {
		return nil
	}
	if errors.Is(chunks.NoSpace(err), chunks.ErrNoSpace) {
		s.GiveUpReserve()
	}
	if again := s.packs.Rewrite(); again != nil {
		return fmt.Errorf("sync state journal: %w", chunks.NoSpace(errors.Join(err, again)))
	}
	return nil
}

// GiveUpReserve frees the space that was set aside for the moment when the
// disk is full, and reports whether there was any.
func (s *Store) GiveUpReserve() bool {
	if s.fs.Remove(path.Join(s.dir, identity.ReserveFile)) != nil {
		return false
	}
	s.log.Warn("disk is full; the reserve was given up so that garbage can be collected", "store", s.dir)
	return true
}

// BeginEpoch starts a new epoch, durably, and returns every pack with the
// number of its entries that are durable at this moment: what is appended
// later has higher ordinals, or lies in packs that are not listed. What nobody
// has committed, because a backup was given up, is made durable, so that it is
// among them. BeginEpoch fails if the index is damaged; the next Open makes it
// anew.
func (s *Store) BeginEpoch(ctx context.Context) (uint64, []Info, error) {
	if err := s.checkForGC(ctx); err != nil {
		return 0, nil, fmt.Errorf("begin epoch: %w", err)
	}
	if err := s.commitAll(); err != nil {
		s.log.Warn("what was written last is not durable", "store", s.dir, "err", err) // who wrote it hears so by Commit
	}
	epoch := s.packs.NextEpoch()
	if err := s.syncJournal(); err != nil {
		return 0, nil, err
	}
	return epoch, s.durable(), nil
}

// Epoch returns the current epoch, and the packs as BeginEpoch does. It writes
// nothing.
func (s *Store) Epoch(ctx context.Context) (uint64, []Info, error) {
	if err := s.checkForGC(ctx); err != nil {
		return 0, nil, fmt.Errorf("look at epoch: %w", err)
	}
	return s.packs.Epoch(), s.durable(), nil
}

// checkForGC reads the index's files: what they miss would pass for garbage.
func (s *Store) checkForGC(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := s.idx.Check(ctx)
	s.suspect.CompareAndSwap(false, err != nil && ctx.Err() == nil)
	return err
}

// durable describes every pack as Packs does, with the number of its entries
// that are durable at this moment.
func (s *Store) durable() []Info {
	infos := s.Packs()
	for i := range infos {
		p := s.packs.At(infos[i].Number)
		if p == nil {
			continue
		}
		if w := s.writerOf(p); w != nil {
			infos[i].Entries = min(infos[i].Entries, w.DurableEntries())
		}
	}
	return infos
}

// Packs describes every pack of the store as it is now, but those that are
// missing.
func (s *Store) Packs() []Info {
	var infos []Info
	for _, p := range s.packs.All() {
		if !p.Missing.Load() {
			infos = append(infos, p.Info())
		}
	}
	return infos
}

// Condemned returns the entries that are condemned and whose space was not
// given back yet.
func (s *Store) Condemned() *Set { return s.packs.Condemned() }

// Condemn makes the store deny the entries of set from now on; their bytes
// stay, and can be read, until they are reclaimed. It is durable after the
// next SyncState; a crash before that revives them, which is harmless. It
// returns how many were not denied before.
func (s *Store) Condemn(set *Set) (condemned int) { return s.packs.Condemn(set) }

// CheckIndex reads the index's files, compares all their sums, and looks
// whether every pack is there.
func (s *Store) CheckIndex(ctx context.Context) error {
	if err := s.idx.Check(ctx); err != nil {
		return err
	}
	return s.checkPresence(false)
}

// SyncState makes every Condemn before the call durable.
func (s *Store) SyncState(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.syncJournal()
}
