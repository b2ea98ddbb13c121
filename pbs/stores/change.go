package stores

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// A Described is a datastore with all that is set up for it.
type Described struct {
	settings.Datastore
	Settings catalog.Settings // the zero value if it is not open
	Err      error            `json:"-"` // why it is not open
}

// Describe returns all datastores, by name.
func (s *Set) Describe() []Described {
	state := s.cfg.Settings.State()
	list := make([]Described, len(state.Datastores))
	for i, d := range state.Datastores {
		list[i] = Described{Datastore: d}
		open, err := s.Get(d.Name)
		if err != nil {
			list[i].Err = err
			continue
		}
		list[i].Settings = open.Settings()
	}
	return list
}

// Create says what datastore is made.
type Create struct {
	settings.Datastore
	Settings catalog.Settings
	Reuse    bool // take over a datastore that is there
	Cloud    NewCloud
}

// StartCreate begins to make a datastore, in the name of whom ctx has.
func (s *Set) StartCreate(ctx context.Context, auth string, c Create) (jobs.UPID, error) {
	return s.cfg.Tasks.Start(ctx, "create-datastore", c.Name, auth, func(ctx context.Context, t *jobs.Task) error {
		return s.create(ctx, t, c)
	})
}

func (s *Set) create(ctx context.Context, t *jobs.Task, c Create) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	c.Path = path.Clean(c.Path)
	for _, d := range s.cfg.Settings.State().Datastores {
		if within(c.Path, d.Path) || within(d.Path, c.Path) {
			return fmt.Errorf("path %s is that of datastore '%s', or one lies within the other", c.Path, d.Name)
		}
	}
	if err := s.prepare(ctx, t, c); err != nil {
		return err
	}
	err := s.cfg.Settings.Update(ctx, func(state *settings.State) error {
		if _, ok := state.Datastore(c.Name); ok {
			return upgrade.Errorf(http.StatusBadRequest, "datastore '%s' already exists.", c.Name)
		}
		state.Datastores = append(state.Datastores, c.Datastore)
		return nil
	})
	if err != nil {
		return s.unmake(ctx, t, c, err)
	}
	if err := s.sync(ctx); err != nil {
		t.Warnf("%v", err)
	}
	d, err := s.Get(c.Name)
	if err != nil {
		return err
	}
	if !c.Reuse || c.Settings != (catalog.Settings{}) {
		if err := d.SetSettings(c.Settings); err != nil {
			return err
		}
	}
	t.Logf("datastore '%s' is in %s", c.Name, c.Path)
	return nil
}

// unmake takes back what create has made in a directory, since the settings
// were refused with err. A change that is kept as a draft was not refused.
func (s *Set) unmake(ctx context.Context, t *jobs.Task, c Create, err error) error {
	var kept interface{ Draft() uint64 }
	switch {
	case errors.As(err, &kept):
		t.Logf("the datastore in %s waits for a quorum, empty", c.Path)
		return err
	case c.Reuse || !c.Backend.IsZero():
		return err
	}
	t.Logf("taking back what was made in %s", c.Path)
	return errors.Join(err, s.destroy(context.WithoutCancel(ctx), c.Path))
}

// prepare makes the directory a datastore, or finds that it is one.
func (s *Set) prepare(ctx context.Context, t *jobs.Task, c Create) error {
	if !c.Backend.IsZero() {
		return s.prepareCloud(ctx, t, c)
	}
	_, err := identity.Read(s.cfg.FS, c.Path)
	switch {
	case err == nil && c.Reuse:
		t.Logf("taking over the datastore in %s", c.Path)
		return nil
	case err == nil:
		return fmt.Errorf("directory %s has a datastore already; to take it over, say reuse-datastore", c.Path)
	case c.Reuse:
		return err
	}
	t.Logf("making a datastore in %s", c.Path)
	_, err = identity.Init(s.cfg.FS, c.Path, 0)
	return err
}

// within tells whether a is b or lies below it.
func within(a, b string) bool {
	a, b = strings.TrimSuffix(a, "/")+"/", strings.TrimSuffix(b, "/")+"/"
	return strings.HasPrefix(a, b)
}

// Update changes what is set up for a datastore. digest, unless it is "", must
// be that of Describe.
func (s *Set) Update(ctx context.Context, name, digest string, change func(*Described) error) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	all := s.Describe()
	if err := settings.CheckDigest(all, digest); err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(d Described) bool { return d.Name == name })
	if i < 0 {
		return upgrade.Errorf(http.StatusBadRequest, "no such datastore '%s'", name)
	}
	next := all[i]
	if err := change(&next); err != nil {
		return err
	}
	if next.Settings != all[i].Settings && all[i].Err != nil {
		return all[i].Err // they lie in the datastore
	}
	if next.Backend.Lock != all[i].Backend.Lock && !next.Backend.Lock.IsZero() {
		if err := s.canLock(ctx, next.Datastore); err != nil {
			return err
		}
	}
	if next.Backend.CacheSize > all[i].Backend.CacheSize {
		if err := s.cacheFits(next.Datastore); err != nil {
			return err
		}
	}
	grown := all[i].Backend.CacheSize == 0 && next.Backend.CacheSize != 0
	if grown { // the only change of a cache that its disk can refuse: before it is kept
		if err := s.resize([]settings.Datastore{next.Datastore}); err != nil {
			return err
		}
	}
	err := s.cfg.Settings.Update(ctx, func(state *settings.State) error {
		for i := range state.Datastores {
			if state.Datastores[i].Name == name {
				state.Datastores[i] = next.Datastore
				return nil
			}
		}
		return upgrade.Errorf(http.StatusBadRequest, "no such datastore '%s'", name)
	})
	if err != nil && grown {
		return errors.Join(err, s.resize([]settings.Datastore{all[i].Datastore}))
	}
	if err != nil {
		return err
	}
	if next.Settings != all[i].Settings {
		d, err := s.Get(name)
		if err != nil {
			return err
		}
		if err := d.SetSettings(next.Settings); err != nil {
			return err
		}
	}
	if err := s.sync(ctx); err != nil { // what is kept is followed when it can be
		s.cfg.Log.Warn("datastores do not follow the settings yet", "changed", name, "err", err)
	}
	return nil
}

// Remove says what datastore is removed.
type Remove struct {
	Name     string
	KeepJobs bool // the prune and verification jobs of it stay
	Destroy  bool // its data go too
}

// StartRemove begins to remove a datastore, in the name of whom ctx has. Its
// directory stays as it is, unless that is to be destroyed.
func (s *Set) StartRemove(ctx context.Context, auth string, r Remove) (jobs.UPID, error) {
	st, ok := s.cfg.Settings.State().Datastore(r.Name)
	if !ok {
		return jobs.UPID{}, upgrade.Errorf(http.StatusNotFound, "datastore '%s' does not exist.", r.Name)
	}
	if s.cfg.Warden != nil {
		if err := s.cfg.Warden(r.Name).MayLeave(); err != nil {
			return jobs.UPID{}, upgrade.Errorf(http.StatusForbidden, "datastore '%s' stays: %w", r.Name, err)
		}
	}
	return s.cfg.Tasks.Start(ctx, "delete-datastore", r.Name, auth, func(ctx context.Context, t *jobs.Task) error {
		return s.remove(ctx, t, r, st.Path)
	})
}

func (s *Set) remove(ctx context.Context, t *jobs.Task, r Remove, dir string) error {
	if r.Destroy {
		if err := s.mayDestroy(ctx, r.Name, dir); err != nil {
			return err
		}
	}
	s.mu.Lock()
	st := s.stores[r.Name]
	if st != nil {
		if st.leaving {
			s.mu.Unlock()
			return fmt.Errorf("datastore '%s' is being deleted", r.Name)
		}
		st.leaving = true
	}
	s.mu.Unlock()
	if st != nil {
		if err := s.idle(ctx, st, settle, func(text string) { t.Logf("%s", text) }); err != nil {
			s.leave(st, false)
			return err
		}
	}
	if err := s.forget(ctx, r); err != nil {
		if st != nil {
			s.leave(st, false)
		}
		if r.Destroy {
			err = fmt.Errorf("the data of '%s' are not destroyed: %w", r.Name, err)
		}
		return err
	}
	if err := s.Sync(ctx); err != nil {
		t.Warnf("%v", err)
	}
	if !r.Destroy {
		t.Logf("the data of '%s' stay in %s", r.Name, dir)
		return nil
	}
	t.Logf("removing the data in %s", dir)
	return s.destroy(ctx, dir)
}

// forget takes a datastore out of the settings.
func (s *Set) forget(ctx context.Context, r Remove) error {
	if r.Destroy {
		ctx = settings.AtOnce(ctx)
	}
	return s.cfg.Settings.Update(ctx, func(state *settings.State) error {
		state.Datastores = slices.DeleteFunc(state.Datastores, func(d settings.Datastore) bool { return d.Name == r.Name })
		if !r.KeepJobs {
			state.PruneJobs = slices.DeleteFunc(state.PruneJobs, func(j settings.PruneJob) bool { return j.Store == r.Name })
			state.VerifyJobs = slices.DeleteFunc(state.VerifyJobs, func(j settings.VerifyJob) bool { return j.Store == r.Name })
			state.SyncJobs = slices.DeleteFunc(state.SyncJobs, func(j settings.SyncJob) bool { return j.Store == r.Name })
			state.ExportJobs = slices.DeleteFunc(state.ExportJobs, func(j settings.ExportJob) bool { return j.Store == r.Name })
			state.OffloadJobs = slices.DeleteFunc(state.OffloadJobs, func(j settings.OffloadJob) bool { return j.Store == r.Name || j.To == r.Name })
		}
		return nil
	})
}

// mayDestroy fails if the directory is no datastore of ours, or if its guard or
// the warden keeps anything in it.
func (s *Set) mayDestroy(ctx context.Context, name, dir string) error {
	_, err := identity.Read(s.cfg.FS, dir)
	tree := catalog.Tree{FS: s.cfg.FS, Dir: dir}
	var g catalog.Guard
	if err == nil {
		g, err = tree.Guard()
	}
	if err == nil && (g.MinRetention != 0 || g.DeletionDelay != 0 || len(g.Frozen) > 0) {
		err = catalog.ErrGuarded
	}
	if err == nil && s.cfg.Warden != nil {
		err = s.cfg.Warden(name).MayDestroy(ctx, tree)
	}
	if err != nil {
		return fmt.Errorf("the data of '%s' are not destroyed: %w", name, err)
	}
	return nil
}

// ours are the names of what a datastore consists of. Its identity goes last,
// so that a removal can be begun again.
var ours = []string{
	"ns", "vm", "ct", "host", "trash", "running", "cloud", identity.IndexDir, identity.PacksDir, "gc",
	"listing", gcStatusFile, "settings.json", "guard.json", "trash.json",
	identity.StateFile, identity.CleanFile, identity.ReserveFile, identity.LockFile, identity.File,
}

// destroy removes what a datastore consists of, and then the directory, unless
// there is more in it.
func (s *Set) destroy(ctx context.Context, dir string) error {
	entries, err := s.cfg.FS.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("remove the data: %w", err)
	}
	for _, n := range ours {
		i := slices.IndexFunc(entries, func(e fs.DirEntry) bool { return e.Name() == n })
		if i < 0 {
			continue
		}
		if err := disk.RemoveTree(ctx, s.cfg.FS, path.Join(dir, n), entries[i]); err != nil {
			return fmt.Errorf("remove the data: %w", err)
		}
	}
	if err := s.cfg.FS.SyncDir(dir); err != nil {
		return err
	}
	s.cfg.FS.Remove(dir) // something else may lie in it, or be mounted on it
	return nil
}
