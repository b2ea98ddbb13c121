package pack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
	"github.com/holdfast-mesh/holdfast/chunks/pack/state"
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
// later has higher ordinals, or lies in packs that are not listed. It fails if
// the index is damaged; the next Open makes it anew.
func (s *Store) BeginEpoch(ctx context.Context) (uint64, []Info, error) {
	if err := ctx.Err(); err != nil {
		return 0, nil, err
	}
	if err := s.idx.Check(ctx); err != nil { // what the index misses would pass for garbage
		s.suspect.CompareAndSwap(false, ctx.Err() == nil)
		return 0, nil, fmt.Errorf("begin epoch: %w", err)
	}
	epoch := s.packs.NextEpoch()
	if err := s.syncJournal(); err != nil {
		return 0, nil, err
	}
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
	return epoch, infos, nil
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

// removeDropped removes the files of packs that were dropped, here or by a
// process that did not get so far.
func (s *Store) removeDropped() error {
	dropped := s.packs.Dropped()
	var dirs []string
	ids := map[format.ID]bool{}
	for _, id := range dropped {
		ids[id] = true
		if dir := s.shard(id); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		if err := s.removeFrom(dir, ids); err != nil {
			return fmt.Errorf("remove dropped packs: %w", err)
		}
	}
	s.packs.Removed(dropped)
	return nil
}

func (s *Store) removeFrom(dir string, ids map[format.ID]bool) error {
	entries, err := s.fs.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, id, ok := state.ParseName(e.Name()); ok && ids[id] {
			if err := s.fs.Remove(path.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return s.fs.SyncDir(dir)
}
