package pack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"strconv"
	"strings"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
	"github.com/holdfast-mesh/holdfast/chunks/pack/index"
	"github.com/holdfast-mesh/holdfast/chunks/pack/state"
)

// load brings the store from what is on the disk to a state in which it can
// be used.
func (s *Store) load(ctx context.Context) (err error) {
	if s.packs, err = state.Open(s.fs, path.Join(s.dir, identity.StateFile), s.log); err != nil {
		return err
	}
	s.health.JournalSetAside = s.packs.SetAside
	s.generation.Store(rand.Uint64())
	if s.ident, err = s.fs.Ident(s.dir); err != nil {
		return err
	}
	clean, last, err := s.takeClean()
	if err != nil {
		return fmt.Errorf("remove the mark of a clean stop: %w", err)
	}
	known, reason := s.openIndex(ctx, clean, last)
	s.packs.Adopt(known)
	if err := s.checkOwner(); err != nil {
		return err
	}
	copied := known.Ident != "" && known.Ident != s.ident
	switch {
	case reason != nil:
		s.health.Rebuilt, s.health.RebuildReason = true, reason.Error()
		err = s.rebuild(ctx)
	case clean && s.idx.Generation() == last.index && !copied:
		s.health.Clean = true
		s.generation.Store(last.store)
	default:
		err = s.reconcile(ctx, copied)
	}
	if err != nil {
		return err
	}
	for _, p := range s.packs.All() {
		if !p.Sealed.Load() && !p.Retired.Load() {
			s.resume = append(s.resume, p)
		}
	}
	s.env.Index = s.idx
	s.restoreReserve()
	if err := s.packs.Loaded(); err != nil {
		s.log.Warn("the next start will take longer", "store", s.dir, "err", err)
	}
	if err := s.removeDropped(); err != nil {
		s.log.Warn("dropped packs stay until the next start", "store", s.dir, "err", err)
	}
	return nil
}

// openIndex opens the index and the list of packs in it. reason is why they
// cannot be used and must be made anew.
func (s *Store) openIndex(ctx context.Context, clean bool, last generations) (known *state.Table, reason error) {
	known = &state.Table{}
	idx, err := index.Open(s.indexConfig())
	if err != nil {
		return known, err
	}
	s.idx = idx
	if idx.Fresh() {
		return known, errors.New("there was none")
	}
	if !clean || idx.Generation() != last.index {
		if err := idx.Check(ctx); err != nil {
			return known, err
		}
	}
	t, err := state.DecodeTable(idx.State())
	if err != nil {
		return known, err
	}
	if s.packs.Lost {
		known.Reserve(t.Reserve(0))
		return known, errors.New("the state journal is new or was lost, and only the packs show what was reclaimed")
	}
	return t, nil
}

func (s *Store) indexConfig() index.Config {
	return index.Config{FS: s.fs, Dir: path.Join(s.dir, identity.IndexDir), Log: s.log}
}

// generations are what a clean stop writes down so that the next start can
// tell that nothing came between.
type generations struct{ index, store uint64 }

// markClean leaves the mark of a clean stop.
func (s *Store) markClean() error {
	text := fmt.Sprintf("%016x %016x\n", s.idx.Generation(), s.generation.Load())
	return disk.WriteFileAtomic(s.fs, path.Join(s.dir, identity.CleanFile), []byte(text), 0o600)
}

// takeClean reads the mark of a clean stop and removes it, durably, before
// anything can change.
func (s *Store) takeClean() (clean bool, g generations, err error) {
	name := path.Join(s.dir, identity.CleanFile)
	text, err := disk.ReadFile(s.fs, name, 4096)
	if errors.Is(err, fs.ErrNotExist) {
		return false, g, nil
	}
	if err == nil {
		first, second, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
		var errA, errB error
		g.index, errA = strconv.ParseUint(first, 16, 64)
		g.store, errB = strconv.ParseUint(second, 16, 64)
		clean = errA == nil && errB == nil
	}
	if err := s.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, g, err
	}
	return clean, g, s.fs.SyncDir(s.dir)
}

// restoreReserve makes the reserve again if it was given up.
func (s *Store) restoreReserve() {
	if _, err := s.fs.Stat(path.Join(s.dir, identity.ReserveFile)); !errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err := identity.WriteReserve(s.fs, s.dir); err != nil {
		s.log.Warn("the reserve for a full disk could not be made", "store", s.dir, "err", err)
	}
}
