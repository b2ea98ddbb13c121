// Package removable looks after datastores on disks that come and go.
//
// Such a datastore has the UUID of a file system as its backing device, and is
// open while that file system is mounted where it belongs, whoever mounted it. A
// [Disks] sees that within a second or two. A disk that is plugged in is mounted
// if the node may do that; one whose datastore is taken out is unmounted when
// nobody works on it any more and all its files are closed.
package removable

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// Config says what Disks work with. All but Log is required.
type Config struct {
	Settings settings.Store
	Stores   *stores.Set // whose Away is that of Table
	Tasks    *jobs.Manager
	Table    *Table
	Log      *slog.Logger // default: discard
}

// Disks are those of the datastores of a node that come and go.
type Disks struct {
	cfg  Config
	seen map[string]state // only within Run
}

// A state is how a disk was when it was looked at last.
type state struct{ plugged, here bool }

// New returns them. It starts nothing.
func New(cfg Config) (*Disks, error) {
	if cfg.Settings == nil || cfg.Stores == nil || cfg.Tasks == nil || cfg.Table == nil {
		return nil, errors.New("removable: settings, datastores, tasks and a table of mounts are needed")
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	return &Disks{cfg: cfg, seen: map[string]state{}}, nil
}

// How often disks are looked at, and how long mounting one may take.
const (
	lookEvery = time.Second
	mountTime = time.Minute
)

// Run opens and closes datastores as their disks come and go, until ctx is done.
func (d *Disks) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		for _, s := range d.cfg.Settings.State().Datastores {
			if s.BackingDevice != "" {
				d.look(ctx, s)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look has a datastore follow its disk.
func (d *Disks) look(ctx context.Context, s settings.Datastore) {
	log := d.cfg.Log.With("store", s.Name, "uuid", s.BackingDevice)
	was, known := d.seen[s.Name]
	var now state
	_, now.plugged = d.cfg.Table.device(s.BackingDevice)
	now.here = d.cfg.Table.Away(s) == nil
	if now.plugged && !was.plugged && !d.cfg.Table.mounted(s) {
		short, done := context.WithTimeout(ctx, mountTime)
		if err := d.cfg.Table.Mount(short, s); err != nil {
			log.Info("a disk is plugged in that the node may not mount", "point", s.MountPoint, "err", err)
		}
		done()
		now.here = d.cfg.Table.Away(s) == nil
	}
	d.seen[s.Name] = now
	_, err := d.cfg.Stores.Get(s.Name)
	switch {
	case now.here && err != nil && (!was.here || !known):
		log.Info("the disk of a datastore is there", "point", s.MountPoint)
		err = d.cfg.Stores.Sync(ctx)
	case !now.here && err == nil && !d.cfg.Table.taken(s.Name):
		log.Warn("the disk of a datastore has gone without a word: use `holdfast datastore unmount` first", "point", s.MountPoint)
		short, done := context.WithTimeout(ctx, lookEvery) // it is tried again
		err = d.cfg.Stores.Release(short, s.Name, func(string) {})
		done()
	default:
		return
	}
	if err != nil && ctx.Err() == nil {
		log.Warn("a datastore does not follow its disk yet", "err", err)
	}
}

func (t *Table) taken(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.out[name]
}

// find returns a datastore on such a disk.
func (d *Disks) find(name string) (settings.Datastore, error) {
	s, is := d.cfg.Settings.State().Datastore(name)
	switch {
	case !is:
		return s, upgrade.Errorf(http.StatusBadRequest, "no such datastore '%s'", name)
	case s.BackingDevice == "":
		return s, upgrade.Errorf(http.StatusBadRequest, "datastore '%s' is not removable: it has no backing-device", name)
	}
	return s, nil
}

// Removable tells whether a datastore is on a disk that comes and goes.
func (d *Disks) Removable(name string) bool {
	_, err := d.find(name)
	return err == nil
}

// StartMount begins to mount the disk of a datastore, and opens that.
func (d *Disks) StartMount(ctx context.Context, name, auth string) (jobs.UPID, error) {
	s, err := d.find(name)
	if err != nil {
		return jobs.UPID{}, err
	}
	return d.cfg.Tasks.Start(ctx, "mount-device", name, auth, func(ctx context.Context, t *jobs.Task) error {
		if err := d.cfg.Table.Mount(ctx, s); err != nil {
			return err
		}
		d.cfg.Table.take(name, false)
		if err := d.cfg.Stores.Sync(ctx); err != nil {
			t.Warnf("%v", err)
		}
		_, err := d.cfg.Stores.Get(name)
		if err == nil {
			t.Logf("datastore '%s' is mounted on %s", name, s.MountPoint)
		}
		return err
	})
}

// unmountType is what tasks are called that take a datastore out.
const unmountType = "unmount-device"

// StartUnmount begins to take a datastore out: it is closed when nobody works on it
// any more, and its disk is unmounted.
func (d *Disks) StartUnmount(ctx context.Context, name, auth string) (jobs.UPID, error) {
	if _, err := d.find(name); err != nil {
		return jobs.UPID{}, err
	}
	return d.cfg.Tasks.Start(ctx, unmountType, name, auth, func(ctx context.Context, t *jobs.Task) error { return d.unmount(ctx, t, name) })
}

func (d *Disks) unmount(ctx context.Context, t *jobs.Task, name string) error {
	s, err := d.find(name)
	if err != nil {
		return err
	}
	d.cfg.Table.take(name, true) // nobody opens it again
	if err := d.cfg.Stores.Release(ctx, name, func(text string) { t.Logf("%s", text) }); err != nil {
		d.cfg.Table.take(name, false)
		return err
	}
	t.Logf("datastore '%s' is closed", name)
	if err := d.cfg.Table.Unmount(ctx, s); err != nil {
		return fmt.Errorf("unmount %s: %w", s.MountPoint, err)
	}
	t.Logf("%s is unmounted: the disk can be unplugged", s.MountPoint)
	return nil
}

// Unmount takes a datastore out and waits for that.
func (d *Disks) Unmount(ctx context.Context, name, auth string) error {
	if _, err := d.find(name); err != nil {
		return err
	}
	_, err := d.cfg.Tasks.Do(ctx, unmountType, name, auth, func(ctx context.Context, t *jobs.Task) error { return d.unmount(ctx, t, name) })
	return err
}

// Endpoints mount and unmount, as a Proxmox Backup Server does (PBS protocol notes
// §7.3).
func (d *Disks) Endpoints() []rest.Endpoint {
	need := rest.Any(access.PrivDatastoreModify, "/datastore/{store}")
	start := func(do func(ctx context.Context, name, auth string) (jobs.UPID, error)) func(context.Context, *rest.Call) (any, error) {
		return func(ctx context.Context, c *rest.Call) (any, error) {
			store := c.Store()
			if err := c.Err(); err != nil {
				return nil, err
			}
			u, err := do(ctx, store, string(c.Who))
			return u, err
		}
	}
	return []rest.Endpoint{
		{Method: http.MethodPost, Path: "/admin/datastore/{store}/mount", Need: need, Handle: start(d.StartMount)},
		{Method: http.MethodPost, Path: "/admin/datastore/{store}/unmount", Need: need, Handle: start(d.StartUnmount)},
	}
}

// Place says where the disk of a new datastore belongs; see [Table.Place].
func (d *Disks) Place(ctx context.Context, s *settings.Datastore) error {
	return d.cfg.Table.Place(ctx, s)
}
