package stores

import (
	"context"
	"errors"
)

// ErrAway is of a datastore whose disk is not there just now.
var ErrAway = errors.New("its disk is away")

// Release closes a datastore that stays set up, when nobody works on it any
// more; nobody new begins meanwhile. It is opened again, by [Set.Sync] or soon,
// when Away lets it.
func (s *Set) Release(ctx context.Context, name string, tell func(string)) error {
	s.mu.Lock()
	st := s.stores[name]
	open := st != nil && st.d != nil
	if open {
		st.leaving, st.released = true, true
	}
	s.mu.Unlock()
	if !open {
		return nil
	}
	if err := s.idle(ctx, st, settle, tell); err != nil {
		s.leave(st, false)
		return err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	s.mu.Lock()
	if s.stores[name] == st {
		s.stores[name] = &store{name: st.name, dir: st.dir, as: st.as, err: ErrAway}
	}
	s.mu.Unlock()
	return s.shut(st)
}

// MountStatus tells whether the disk of a datastore is there, in the words of PBS.
func (s *Set) MountStatus(name string) string {
	d, _ := s.cfg.Settings.State().Datastore(name)
	if d.BackingDevice == "" {
		return "nonremovable"
	}
	if s.cfg.Away(d) != nil {
		return "notmounted"
	}
	return "mounted"
}
