package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/roots"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
)

// A removed snapshot lies in trash/<uuid>/snapshot/, as it was, beside
// origin.json, which says what it is. Its indexes keep its chunks, as those of
// every index file below the datastore's directory. origin.json is durable
// before the snapshot moves; without it, what lies there is rubbish.
const (
	trashDir   = "trash"
	originFile = "origin.json"
	trashed    = "snapshot"
)

// Trashed is a removed snapshot that can be taken back.
type Trashed struct {
	Namespace Namespace `json:"ns,omitempty"`
	Snapshot  Snapshot  `json:"snapshot"`
	Owner     string    `json:"owner,omitempty"`
	Removed   time.Time `json:"removed"`        // by the machine's clock, but not later than it was seen
	Until     time.Time `json:"until,omitzero"` // it can be taken back, at least, if the machine runs on

	id string
}

// Forget moves a snapshot to the trash. It fails with ErrProtected,
// ErrGuarded or ErrBusy; a snapshot that was never finished is removed at once.
func (d *Datastore) Forget(ctx context.Context, ns Namespace, s Snapshot) error {
	if err := d.may(writing, "forget "+name(ns, s)); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	free, err := d.locks.exclusive(name(ns, s))
	if err != nil {
		return err
	}
	defer free()
	if on, err := d.Protected(ns, s); err != nil || on {
		return cmpErr(err, &opError{fmt.Sprintf("forget %s: cannot remove protected snapshot", name(ns, s)), "take the protection away first: holdfast snapshot protect --off", ErrProtected})
	}
	if err := d.mustHaveSnapshot(ns, s); err != nil {
		return err
	}
	if _, err := d.FS.Stat(path.Join(d.snapDir(ns, s), manifestName)); errors.Is(err, fs.ErrNotExist) {
		return d.removeDir(d.snapDir(ns, s))
	}
	if why := d.Forbids(ns, s); why != "" {
		return &opError{fmt.Sprintf("forget %s: %v: %s", name(ns, s), ErrGuarded, why), "the guard is changed on this machine only: holdfast datastore guard, holdfast guard show", ErrGuarded}
	}
	d.changing.Lock() // nobody is rewriting the manifest
	defer d.changing.Unlock()
	return d.toTrash(ns, s)
}

func (d *Datastore) toTrash(ns Namespace, s Snapshot) error {
	owner, _ := d.Owner(ns, s.Group) // a group without one can be cleared away as well
	entry := path.Join(d.Dir, trashDir, chunks.NewUUID().String())
	if err := disk.MkdirAll(d.FS, entry, 0o755); err != nil {
		return fmt.Errorf("forget %s: %w", name(ns, s), err)
	}
	b, err := json.Marshal(Trashed{Namespace: ns, Snapshot: s, Owner: owner, Removed: d.now().UTC()})
	if err == nil {
		err = disk.WriteFileAtomic(d.FS, path.Join(entry, originFile), b, 0o644)
	}
	if d.above != nil && err == nil {
		err = d.above.Forgets(ns, s)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("forget %s: %w", name(ns, s), err), disk.RemoveAll(d.FS, entry))
	}
	dir := d.snapDir(ns, s)
	defer d.tell(ns, s.Group)
	d.waiting.See(path.Base(entry))
	if err := d.FS.Rename(dir, path.Join(entry, trashed)); err != nil {
		// On some disks it has happened all the same: the entry stays, and
		// the next start clears it away if it is empty.
		return fmt.Errorf("forget %s: %w", name(ns, s), err)
	}
	if err := errors.Join(d.FS.SyncDir(entry), d.FS.SyncDir(path.Dir(dir))); err != nil {
		return fmt.Errorf("forget %s: it is in the trash, but a power cut may undo that: %w", name(ns, s), err)
	}
	return nil
}

// ForgetGroup moves all snapshots of a group to the trash, and removes the
// group when none is left. It returns how many went; those that are protected
// or guarded stay, and are the error.
func (d *Datastore) ForgetGroup(ctx context.Context, ns Namespace, g Group) (removed int, err error) {
	if err := d.may(writing, "forget "+name(ns, g)); err != nil {
		return 0, err
	}
	free, err := d.locks.exclusive(name(ns, g))
	if err != nil {
		return 0, err
	}
	defer free()
	if err := d.mustHaveGroup(ns, g); err != nil {
		return 0, err
	}
	snaps, err := d.Snapshots(ctx, ns, g)
	if err != nil {
		return 0, err
	}
	var kept []error
	for _, s := range snaps {
		err := d.Forget(ctx, ns, s)
		switch {
		case err == nil:
			removed++
		case stays(err):
			kept = append(kept, err)
		default:
			return removed, err
		}
	}
	if len(kept) > 0 {
		return removed, fmt.Errorf("group only partially deleted, %d snapshots stay: %w", len(kept), kept[0])
	}
	return removed, d.removeGroup(ns, g)
}

// stays reports whether err says that something may not be removed now, which
// is no reason to stop removing others.
func stays(err error) bool {
	return errors.Is(err, ErrProtected) || errors.Is(err, ErrGuarded) || errors.Is(err, ErrBusy)
}

// removeGroup removes the directory of a group, unless somebody put something
// there that is none of ours.
func (d *Datastore) removeGroup(ns Namespace, g Group) error {
	dir := d.groupDir(ns, g)
	entries, err := d.FS.ReadDir(dir)
	if err != nil {
		return ignoreMissing(err)
	}
	for _, e := range entries {
		if n := e.Name(); n != ownerName && n != notesName && !isTemp(n) {
			d.log.Warn("directory of a group is kept for what else is in it", "group", name(ns, g), "file", n)
			return nil
		}
	}
	return d.removeDir(dir)
}

// Trash lists what can be taken back, newest removal first. Entries that
// cannot be read are the error beside those that can; they keep their chunks.
func (t Tree) Trash() ([]Trashed, error) {
	ids, err := t.dirs(path.Join(t.Dir, trashDir))
	if err != nil {
		return nil, fmt.Errorf("list trash: %w", err)
	}
	list := make([]Trashed, 0, len(ids))
	var damaged []error
	for _, id := range ids {
		e, err := t.readTrashed(id)
		if err == nil {
			_, err = t.FS.Stat(path.Join(t.Dir, trashDir, id, trashed))
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // on its way in or out
		}
		if err != nil {
			damaged = append(damaged, fmt.Errorf("list trash: %w", err))
			continue
		}
		list = append(list, e)
	}
	slices.SortFunc(list, newestFirst)
	return list, errors.Join(damaged...)
}

// Trash lists what can be taken back, and until when.
func (d *Datastore) Trash() ([]Trashed, error) {
	list, err := d.Tree.Trash()
	now, delay := d.now(), d.trashDelay()
	for i := range list {
		t := &list[i]
		d.waiting.See(t.id)
		t.Until = now.Add(delay - d.waiting.Waited(t.id, delay)).UTC().Truncate(time.Second)
		if seen := now.Add(-d.waiting.Ran(t.id)); t.Removed.After(seen.Add(time.Minute)) {
			t.Removed = seen.UTC() // the clock was ahead
		}
	}
	slices.SortStableFunc(list, newestFirst)
	return list, err
}

func newestFirst(a, b Trashed) int { return b.Removed.Compare(a.Removed) }

func (t Tree) readTrashed(id string) (Trashed, error) {
	b, err := disk.ReadFile(t.FS, path.Join(t.Dir, trashDir, id, originFile), maxSettings)
	if err != nil {
		return Trashed{}, err // names the file
	}
	e := Trashed{id: id}
	if err := json.Unmarshal(b, &e); err != nil {
		return Trashed{}, fmt.Errorf("read %s of %s: %w", originFile, id, err)
	}
	return e, nil
}

// Undo takes a snapshot back from the trash, if it was removed more than once
// the last one. It fails with fs.ErrNotExist if it is not there, and with
// fs.ErrExist if there is a snapshot of that name again.
func (d *Datastore) Undo(ctx context.Context, ns Namespace, s Snapshot) error {
	if err := d.may(writing, "take back "+name(ns, s)); err != nil {
		return err
	}
	list, err := d.Trash()
	at := slices.IndexFunc(list, func(t Trashed) bool { return t.Namespace == ns && t.Snapshot == s })
	if at < 0 {
		return cmpErr(err, &opError{fmt.Sprintf("take back %s: it is not in the trash", name(ns, s)), "the trash is listed by: holdfast snapshot list --trash", fs.ErrNotExist})
	}
	for _, what := range []string{name(ns, s.Group), name(ns, s)} {
		free, err := d.locks.exclusive(what)
		if err != nil {
			return err
		}
		defer free()
	}
	if err := d.undo(ctx, ns, s, list[at]); err != nil {
		return fmt.Errorf("take back %s: %w", name(ns, s), err)
	}
	return nil
}

func (d *Datastore) undo(ctx context.Context, ns Namespace, s Snapshot, t Trashed) error {
	dir, entry := d.snapDir(ns, s), path.Join(d.Dir, trashDir, t.id)
	if _, err := d.FS.Stat(dir); err == nil {
		return &opError{"there is a snapshot of that name", "forget that one first", fs.ErrExist}
	}
	if err := d.restoreGroup(ns, s.Group, t.Owner); err != nil {
		return err
	}
	session, err := d.collector.Open("undo", name(ns, s))
	if err != nil {
		return err
	}
	defer session.Abort()
	var indexes []gc.Index
	entries, err := d.FS.ReadDir(path.Join(entry, trashed))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if roots.IsIndex(e.Name()) {
			indexes = append(indexes, roots.File(d.FS, path.Join(entry, trashed, e.Name()), e.Name()))
		}
	}
	move := func() error {
		if err := d.FS.Rename(path.Join(entry, trashed), dir); err != nil {
			return err
		}
		return errors.Join(d.FS.SyncDir(path.Dir(dir)), d.FS.SyncDir(entry))
	}
	defer d.tell(ns, s.Group)
	err = session.Finish(ctx, indexes, move)
	if errors.Is(err, chunks.ErrMissing) {
		// So they were when it was forgotten. What is here is pinned by now.
		d.log.Warn("snapshot that is taken back lacks chunks", "snapshot", name(ns, s), "err", err)
		err = move()
	}
	if err != nil {
		return err
	}
	if err := d.removeDir(entry); err != nil { // the next start does so
		d.log.Warn("empty entry of the trash could not be removed", "snapshot", name(ns, s), "err", err)
	}
	return nil
}

// restoreGroup makes the group of a snapshot again if it was removed. It fails
// with ErrOwner if the group is somebody else's by now.
func (d *Datastore) restoreGroup(ns Namespace, g Group, owner string) error {
	if owner == "" { // it had none
		return disk.MkdirAll(d.FS, d.groupDir(ns, g), 0o755)
	}
	return d.ensureGroup(ns, g, owner)
}

// EmptyTrash removes what was in the trash for its delay, or all of it if the
// operator of this machine says so, but for what is guarded. It returns how many snapshots went; one
// that cannot be removed stays, and is part of the error.
func (d *Datastore) EmptyTrash(ctx context.Context, all bool) (removed int, err error) {
	if err := d.may(writing, "empty the trash"); err != nil {
		return 0, err
	}
	defer d.waiting.Keep()
	list, failed := d.due(all) // what cannot be read must not keep all the others
	for _, t := range list {
		if err := ctx.Err(); err != nil {
			return removed, err
		}
		free, err := d.locks.exclusive(name(t.Namespace, t.Snapshot)) // not while it is taken back
		if err != nil {
			continue
		}
		err = d.dropTrashed(t.id)
		free()
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("remove %s from the trash: %w", name(t.Namespace, t.Snapshot), err))
			continue
		}
		removed++
	}
	return removed, failed
}

// due returns what [Datastore.EmptyTrash] removes.
func (d *Datastore) due(all bool) ([]Trashed, error) {
	list, err := d.Trash()
	keeps, delay := d.Keeps(list, all), d.trashDelay()
	return slices.DeleteFunc(list, func(t Trashed) bool { return !all && d.waiting.Waited(t.id, delay) < delay || keeps(t) != "" }), err
}

// dropTrashed removes an entry of the trash. Its origin goes first, durably:
// half a snapshot is not to be taken back.
func (d *Datastore) dropTrashed(id string) error {
	entry := path.Join(d.Dir, trashDir, id)
	if err := d.FS.Remove(path.Join(entry, originFile)); err != nil {
		return ignoreMissing(err) // another one was faster
	}
	d.waiting.Drop(id)
	if err := d.FS.SyncDir(entry); err != nil {
		return err
	}
	return d.removeDir(entry)
}

// sweepTrash removes entries that a crash left half made or half removed.
func (d *Datastore) sweepTrash() error {
	ids, err := d.dirs(path.Join(d.Dir, trashDir))
	if err != nil {
		return fmt.Errorf("look through the trash: %w", err)
	}
	d.waiting.Only(ids)
	d.waiting.See(ids...) // those that an older program put there, or whose mark was lost
	for _, id := range ids {
		if !isUUID(id) {
			continue // none of ours
		}
		_, errOrigin := d.readTrashed(id)
		_, errSnapshot := d.FS.Stat(path.Join(d.Dir, trashDir, id, trashed))
		if errors.Is(errOrigin, fs.ErrNotExist) || errors.Is(errSnapshot, fs.ErrNotExist) {
			if err := d.removeDir(path.Join(d.Dir, trashDir, id)); err != nil {
				return fmt.Errorf("clear the trash: %w", err)
			}
		}
	}
	return nil
}
