package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// UpdateManifest changes the unprotected part of a manifest: notes, state of
// verification. A change of what is signed is refused.
func (d *Datastore) UpdateManifest(ns Namespace, s Snapshot, change func(*Manifest) error) error {
	if err := d.may(writing, "change "+name(ns, s)); err != nil {
		return err
	}
	d.changing.Lock()
	defer d.changing.Unlock()
	m, err := d.Manifest(ns, s)
	if err != nil {
		return err
	}
	before, err := m.Canonical()
	if err != nil {
		return err
	}
	if err := change(m); err != nil {
		return err
	}
	after, err := m.Canonical()
	if err != nil {
		return err
	}
	if !bytes.Equal(before, after) {
		return fmt.Errorf("change manifest of %s: only the part that is not signed may change", name(ns, s))
	}
	b, err := m.Blob()
	if err != nil {
		return err
	}
	defer d.tell(ns, s.Group)
	return d.replace(ns, s, manifestName, b)
}

// SetNotes changes the notes of a snapshot; "" removes them.
func (d *Datastore) SetNotes(ns Namespace, s Snapshot, notes string) error {
	if len(notes) > maxNotes {
		return fmt.Errorf("notes have %d bytes, want at most %d", len(notes), maxNotes)
	}
	return d.UpdateManifest(ns, s, func(m *Manifest) error { return m.SetNotes(notes) })
}

// SetGroupNotes changes the notes of a group; "" removes them.
func (d *Datastore) SetGroupNotes(ns Namespace, g Group, notes string) error {
	if err := d.may(writing, "change notes of "+name(ns, g)); err != nil {
		return err
	}
	if len(notes) > maxNotes {
		return fmt.Errorf("notes have %d bytes, want at most %d", len(notes), maxNotes)
	}
	if err := d.mustHaveGroup(ns, g); err != nil {
		return err
	}
	d.changing.Lock()
	defer d.changing.Unlock()
	file := path.Join(d.groupDir(ns, g), notesName)
	if notes == "" {
		if err := ignoreMissing(d.FS.Remove(file)); err != nil {
			return err
		}
		return d.FS.SyncDir(d.groupDir(ns, g))
	}
	return disk.WriteFileAtomic(d.FS, file, []byte(notes), 0o644)
}

func (d *Datastore) mustHaveGroup(ns Namespace, g Group) error {
	_, err := d.FS.Stat(d.groupDir(ns, g))
	if errors.Is(err, fs.ErrNotExist) {
		return &opError{fmt.Sprintf("no group %s", name(ns, g)), "groups are listed by: holdfast snapshot list", fs.ErrNotExist}
	}
	return err
}

// mustHaveSnapshot fails unless there is a snapshot, finished or not.
func (d *Datastore) mustHaveSnapshot(ns Namespace, s Snapshot) error {
	_, err := d.FS.Stat(d.snapDir(ns, s))
	if errors.Is(err, fs.ErrNotExist) {
		return d.noSnapshot(ns, s)
	}
	return err
}

// SetOwner gives a group to somebody else.
func (d *Datastore) SetOwner(ns Namespace, g Group, owner string) error {
	if err := d.may(writing, "change owner of "+name(ns, g)); err != nil {
		return err
	}
	if err := errors.Join(naming.CheckAuthID(owner), d.mustHaveGroup(ns, g)); err != nil {
		return err
	}
	d.changing.Lock()
	defer d.changing.Unlock()
	return disk.WriteFileAtomic(d.FS, path.Join(d.groupDir(ns, g), ownerName), []byte(owner+"\n"), 0o644)
}

// SetProtected marks a snapshot so that nobody removes it, or takes the mark
// away.
func (d *Datastore) SetProtected(ns Namespace, s Snapshot, on bool) error {
	if err := d.may(writing, "change protection of "+name(ns, s)); err != nil {
		return err
	}
	free, err := d.locks.exclusive(name(ns, s))
	if err != nil {
		return err
	}
	defer free()
	d.changing.Lock()
	defer d.changing.Unlock()
	if err := d.mustHaveSnapshot(ns, s); err != nil {
		return err
	}
	now, err := d.Protected(ns, s)
	if err != nil || now == on {
		return err
	}
	if on {
		return d.replace(ns, s, protectedName, nil)
	}
	dir := d.snapDir(ns, s)
	temp := path.Join(path.Dir(dir), tempName())
	if err := d.FS.Rename(path.Join(dir, protectedName), temp); err != nil {
		return err
	}
	if err := errors.Join(d.FS.SyncDir(dir), d.FS.Remove(temp)); err != nil {
		return err
	}
	return d.FS.SyncDir(path.Dir(dir))
}

// AddLog stores the log of the client that made a snapshot. It fails with
// fs.ErrExist if there is one.
func (d *Datastore) AddLog(ns Namespace, s Snapshot, log chunks.Blob) error {
	if err := d.may(writing, "store log of "+name(ns, s)); err != nil {
		return err
	}
	if err := log.Check(); err != nil {
		return err
	}
	d.changing.Lock()
	defer d.changing.Unlock()
	if err := d.mustHaveSnapshot(ns, s); err != nil {
		return err
	}
	switch _, err := d.FS.Stat(path.Join(d.snapDir(ns, s), logName)); {
	case err == nil:
		return fmt.Errorf("store log of %s: backup already contains a log: %w", name(ns, s), fs.ErrExist)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("store log of %s: %w", name(ns, s), err)
	}
	return d.replace(ns, s, logName, log)
}

// CreateNamespace makes a namespace, whose parent must exist. One that is
// there already is no error.
func (d *Datastore) CreateNamespace(ns Namespace) error {
	if err := d.may(writing, fmt.Sprintf("create namespace %q", ns)); err != nil {
		return err
	}
	if parts := ns.Components(); len(parts) > 0 {
		if err := naming.CheckComponent(parts[len(parts)-1]); err != nil {
			return err
		}
	}
	if parent, ok := ns.Parent(); ok {
		if there, err := d.HasNamespace(parent); err != nil || !there {
			return cmpErr(err, &opError{fmt.Sprintf("create namespace %q: its parent %q does not exist", ns, parent), "create the parent first", fs.ErrNotExist})
		}
	}
	return disk.MkdirAll(d.FS, d.nsDir(ns), 0o755)
}

// RemoveNamespace removes a namespace and those below it. It fails if there
// are snapshots in them, unless groups is true: then these go to the trash,
// and it fails if some may not.
func (d *Datastore) RemoveNamespace(ctx context.Context, ns Namespace, groups bool) error {
	if err := d.may(writing, fmt.Sprintf("remove namespace %q", ns)); err != nil {
		return err
	}
	if ns == "" {
		return errors.New("the root namespace cannot be removed")
	}
	all, err := d.Namespaces(ctx, ns, -1)
	if err != nil {
		return err
	}
	for i := len(all) - 1; i >= 0; i-- {
		if err := d.clearNamespace(ctx, all[i], groups); err != nil {
			return fmt.Errorf("remove namespace %q: %w", ns, err)
		}
	}
	return nil
}

func (d *Datastore) clearNamespace(ctx context.Context, ns Namespace, groups bool) error {
	list, err := d.Groups(ctx, ns)
	if err != nil {
		return err
	}
	var kept error // by the first group that does not go as a whole
	for _, g := range list {
		snaps, err := d.Snapshots(ctx, ns, g)
		if err != nil {
			return err
		}
		if len(snaps) > 0 && !groups {
			return &opError{fmt.Sprintf("namespace %q has group %s with %d snapshots", ns, g, len(snaps)), "remove them too with --delete-groups; they can be taken back from the trash for a while", nil}
		}
		_, err = d.ForgetGroup(ctx, ns, g)
		if stays(err) {
			kept = cmpErr(kept, err)
		} else if err != nil {
			return err
		}
	}
	if kept != nil {
		return kept
	}
	for _, t := range []Type{naming.CT, naming.Host, naming.VM} {
		if err := ignoreMissing(d.FS.Remove(path.Join(d.nsDir(ns), string(t)))); err != nil {
			return err
		}
	}
	// Fails if anything is left that is none of ours.
	if err := ignoreMissing(d.FS.Remove(path.Join(d.nsDir(ns), "ns"))); err != nil {
		return err
	}
	if err := d.FS.Remove(d.nsDir(ns)); err != nil {
		return err
	}
	return d.FS.SyncDir(path.Dir(d.nsDir(ns)))
}
