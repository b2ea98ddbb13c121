// Package catalog is a datastore: what backups it has, and the chunks that
// they are made of.
//
// A [Tree] reads the directories, which are those of Proxmox Backup Server
// ([ns/<namespace>/]<type>/<id>/<time>/, PBS protocol notes §5.8) with packs/
// in the place of .chunks/, and needs no lock. A [Datastore] owns the store of
// chunks as well and changes things:
//
//   - [Writer] makes a snapshot. Its manifest is written last, and only when
//     every chunk that it needs is here and durable. A snapshot whose maker
//     was killed is removed when the datastore is opened again.
//   - [Reader] keeps a snapshot from being removed while it is read.
//   - Forget and Prune move snapshots to the trash, where they wait for a
//     delay and can be taken back ([Datastore.Undo]). Only a garbage
//     collection gives space back.
//   - A guard file that only the operator of this very machine changes says
//     what nobody may remove ([Guard]).
//
// Beside the backups the directory holds packs/, index/ and gc/ (the store of
// chunks), trash/, running/ (the names of snapshots in the making),
// guard.json, settings.json, trash.json (since when the trash waits), and listing, a cache of [Tree.List] that may be
// removed at any time.
package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/elapsed"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/retention"
	"github.com/holdfast-mesh/holdfast/catalog/roots"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// What backups are called, and how they are kept.
type (
	Namespace = naming.Namespace
	Group     = naming.Group
	Snapshot  = naming.Snapshot
	Type      = naming.Type
	Filter    = naming.Filter
	Filters   = naming.Filters
	Manifest  = manifest.Manifest
	Keep      = retention.Keep
)

// Config says where a Datastore is. The zero value of an optional field means
// its default.
type Config struct {
	Dir string       // required: what identity.Init made
	FS  disk.FS      // default: the machine's
	Log *slog.Logger // default: discard
	Now func() time.Time

	// Uptime tells for how long the trash waits, default elapsed.Machine.
	Uptime func() elapsed.Reading

	// AcceptLoss opens a copy of a store that lacks packs which the original
	// had; what they held is missing from then on.
	AcceptLoss bool

	// Above, if given, is a tier above the packs of Dir.
	Above  Above
	Warden Warden // default: nobody
}

// A Datastore is a directory of backups with its store of chunks. One process
// at a time has it open. Its methods may be called concurrently.
type Datastore struct {
	Tree
	packs     *pack.Store
	chunks    Store
	above     Above // nil: none
	warden    Warden
	collector *gc.Collector
	log       *slog.Logger
	now       func() time.Time
	waiting   *elapsed.Clock // of what is in the trash
	locks     locks
	active    active
	watch     atomic.Pointer[func(Namespace, Group)]

	// changing is held by whoever changes a file of a group or of a finished
	// snapshot, or moves one away; before mu.
	changing sync.Mutex

	mu sync.Mutex

	settings Settings // also of the file
	guard    Guard    // also of the file
}

// Watch has f called after a snapshot of a group has come, has gone, or had its
// manifest changed. f must not wait.
func (d *Datastore) Watch(f func(Namespace, Group)) { d.watch.Store(&f) }

func (d *Datastore) tell(ns Namespace, g Group) {
	if f := d.watch.Load(); f != nil {
		(*f)(ns, g)
	}
}

// Open opens the datastore in cfg.Dir, removes what an interrupted backup left
// there, and fails with disk.ErrLocked if another process has it.
func Open(ctx context.Context, cfg Config) (*Datastore, error) {
	if cfg.FS == nil {
		cfg.FS = disk.OS{}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	cfg.Dir = path.Clean(cfg.Dir) // names below it are cut off by its length
	d := &Datastore{Tree: Tree{FS: cfg.FS, Dir: cfg.Dir}, log: cfg.Log, now: cfg.Now, warden: cfg.Warden}
	packs, err := pack.Open(ctx, pack.Config{FS: cfg.FS, Dir: cfg.Dir, Log: cfg.Log, AcceptLoss: cfg.AcceptLoss})
	if err != nil {
		return nil, err
	}
	d.packs, d.chunks, d.above = packs, plain{packs}, cfg.Above
	if d.above != nil {
		if d.chunks, err = d.above.Over(ctx, packs); err != nil {
			return nil, errors.Join(err, packs.Close())
		}
	}
	if err := d.open(cfg.Uptime); err != nil {
		return nil, errors.Join(err, d.chunks.Close(), packs.Close())
	}
	return d, nil
}

func (d *Datastore) open(uptime func() elapsed.Reading) (err error) {
	if d.settings, err = d.Tree.Settings(); err != nil {
		return err
	}
	if d.guard, err = d.Tree.Guard(); err != nil {
		return err
	}
	for _, file := range []string{settingsFile, guardFile, listingFile, waitingFile} {
		if err := disk.RemoveTemps(d.FS, path.Join(d.Dir, file)); err != nil {
			return err
		}
	}
	if err := d.sweepRunning(); err != nil {
		return err
	}
	d.waiting = elapsed.Open(elapsed.Config{FS: d.FS, Name: path.Join(d.Dir, waitingFile), Of: path.Join(d.Dir, trashDir), Read: uptime, Log: d.log,
		May: func() bool { return d.Settings().Maintenance.Mode == InService }})
	if err := d.sweepTrash(); err != nil {
		return err
	}
	if d.collector, err = gc.New(gc.Config{
		Store: d.chunks, Roots: roots.Roots{FS: d.FS, Dir: d.Dir}, FS: d.FS, Dir: path.Join(d.Dir, "gc"), Log: d.log,
	}); err == nil {
		d.waiting.Start()
	}
	return err
}

// Close closes the store of chunks. Writers and readers must have ended.
func (d *Datastore) Close() error {
	d.waiting.Close()
	return errors.Join(d.collector.Close(), d.chunks.Close(), d.packs.Close())
}

// Collector returns the garbage collector of the store of chunks.
func (d *Datastore) Collector() *gc.Collector { return d.collector }

// Collect gives back the space of what nobody needs: snapshots that were in
// the trash for their delay, then chunks that no snapshot names.
func (d *Datastore) Collect(ctx context.Context, opt gc.Options) (gc.Report, error) {
	if err := d.may(writing, "collect garbage"); err != nil {
		return gc.Report{}, err
	}
	var stuck error // in the trash, with its chunks; what else is garbage can go all the same
	if opt.DryRun { // as if it were empty already
		due, _ := d.due(false) // the collection says what cannot be read
		dirs := map[string]bool{}
		for _, t := range due {
			dirs[path.Join(trashDir, t.id)] = true
		}
		ctx = roots.Without(ctx, dirs)
	} else if _, err := d.EmptyTrash(ctx, false); err != nil {
		stuck = fmt.Errorf("empty the trash: %w", err)
	}
	report, err := d.collector.Run(ctx, opt)
	return report, errors.Join(stuck, err)
}

// An opError is a refusal with a known cure.
type opError struct {
	msg, cure string
	err       error
}

func (e *opError) Error() string { return e.msg }
func (e *opError) Hint() string  { return e.cure }
func (e *opError) Unwrap() error { return e.err }

// Ways in which a datastore refuses. Match them with errors.Is.
var (
	ErrBusy        = errors.New("possibly running or in use")
	ErrProtected   = errors.New("snapshot is protected")
	ErrGuarded     = errors.New("the guard of this datastore forbids it")
	ErrMaintenance = errors.New("datastore is in maintenance")
	ErrOwner       = errors.New("group has another owner")
)
