package pack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"

	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
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
	clean, last, err := identity.TakeClean(s.fs, s.dir)
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
	case clean && s.idx.Generation() == last.Index && !copied:
		s.health.Clean = true
		s.generation.Store(last.Store)
		if len(s.packs.All()) <= maxListed {
			err = s.checkPresence(true)
		}
	default:
		err = s.reconcile(ctx, copied)
	}
	if err != nil {
		return err
	}
	for _, p := range s.packs.All() {
		if !p.Sealed.Load() && !p.Retired.Load() && !p.Missing.Load() {
			s.resume = append(s.resume, p)
		}
	}
	s.env.Index = s.idx
	if err := identity.RestoreReserve(s.fs, s.dir); err != nil {
		s.log.Warn("the reserve for a full disk could not be made", "store", s.dir, "err", err)
	}
	if err := s.packs.Loaded(); err != nil {
		s.log.Warn("the next start will take longer", "store", s.dir, "err", err)
	}
	if err := s.packs.RemoveDropped(s.fs, path.Join(s.dir, identity.PacksDir)); err != nil {
		s.log.Warn("dropped packs stay until the next start", "store", s.dir, "err", err)
	}
	return nil
}

// maxListed is up to how many packs every start looks whether they are all
// there; with more of them that would take long, and is left to verify and to
// garbage collection.
const maxListed = 8192

// checkPresence notes which packs have no file (any more): what they held
// counts as missing until the file comes back.
func (s *Store) checkPresence(atStart bool) error {
	files, _, err := state.List(s.fs, path.Join(s.dir, identity.PacksDir))
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, f := range files {
		there[f.Name] = true
	}
	var missing []string
	for _, p := range s.packs.All() {
		name, open := s.path(p), !p.Sealed.Load() && !p.Retired.Load()
		if open && !atStart {
			continue // it may have been begun after the list
		}
		if there[name] {
			p.Missing.Store(false)
			continue
		}
		if p.Size.Load() <= format.HeaderSize {
			continue // it failed before anything in it was durable
		}
		if _, err := s.fs.Stat(name); errors.Is(err, fs.ErrNotExist) && s.packs.At(p.Number) == p {
			p.Missing.Store(true)
			missing = append(missing, name)
		}
	}
	s.health.Note(func(h *Health) { h.MissingPacks = missing })
	for _, p := range s.packs.All() {
		if p.Missing.Load() && s.cfg.AcceptLoss && atStart {
			s.packs.Drop(p.Number)
		}
	}
	return nil
}

// openIndex opens the index and the list of packs in it. reason is why they
// cannot be used and must be made anew.
func (s *Store) openIndex(ctx context.Context, clean bool, last identity.Generations) (known *state.Table, reason error) {
	known = &state.Table{}
	idx, err := index.Open(s.indexConfig())
	if err != nil {
		return known, err
	}
	s.idx = idx
	if idx.Fresh() {
		return known, errors.New("there was none")
	}
	if !clean || idx.Generation() != last.Index {
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
