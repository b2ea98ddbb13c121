package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// A snapshot in the making is named by a file in running/, which is durable
// before the snapshot's directory exists, and removed when the snapshot is
// finished or given up. So the next start finds what a crash left without
// reading the whole tree, and removes nothing that somebody else put there.
const runningDir = "running"

// maxNote bounds such a file in bytes: seven namespaces and two names of 255.
const maxNote = 4096

// isUUID reports whether name looks like those of our own in running/ and
// trash/. What else lies there is left alone.
func isUUID(name string) bool {
	return len(name) == 36 && name[8] == '-' && name[13] == '-' && strings.Trim(name, "0123456789abcdef-") == ""
}

func (d *Datastore) noteRunning(ns Namespace, s Snapshot) (done func() error, err error) {
	dir := path.Join(d.Dir, runningDir)
	if err := disk.MkdirAll(d.FS, dir, 0o755); err != nil {
		return nil, err
	}
	rel := strings.TrimPrefix(d.snapDir(ns, s), d.Dir+"/")
	note := path.Join(dir, chunks.NewUUID().String())
	if err := disk.WriteFileAtomic(d.FS, note, []byte(rel+"\n"), 0o644); err != nil {
		return nil, err
	}
	return func() error { return d.FS.Remove(note) }, nil
}

// sweepRunning removes snapshots that a killed process was making.
func (d *Datastore) sweepRunning() error {
	dir := path.Join(d.Dir, runningDir)
	entries, err := d.FS.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for interrupted backups: %w", err)
	}
	for _, e := range entries {
		note := path.Join(dir, e.Name())
		switch {
		case isUUID(e.Name()):
			b, err := disk.ReadFile(d.FS, note, maxNote)
			if err != nil {
				return fmt.Errorf("look for interrupted backups: %w", err)
			}
			if err := d.sweepOne(strings.TrimSpace(string(b))); err != nil {
				return err
			}
		case !disk.IsTemp(e.Name()):
			continue // none of ours
		}
		if err := d.FS.Remove(note); err != nil {
			return fmt.Errorf("remove note of interrupted backup: %w", err)
		}
	}
	return nil
}

func (d *Datastore) sweepOne(rel string) error {
	ns, s, err := naming.ParsePath(rel)
	if err != nil {
		d.log.Warn("note of an interrupted backup is damaged and is ignored", "note", rel)
		return nil
	}
	dir := d.snapDir(ns, s)
	if _, err := d.FS.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil // the power went before it was made, or after it was removed
	}
	if _, err := d.FS.Stat(path.Join(dir, manifestName)); err == nil {
		// Finished in the last moment. Its name may not be durable yet.
		return d.FS.SyncDir(dir)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for interrupted backups: %w", err)
	}
	d.log.Info("remove interrupted backup", "snapshot", name(ns, s))
	return d.removeDir(dir)
}

// removeDir removes a directory and what is in it, durably. The manifest goes
// first, so that what a crash leaves is not taken for a snapshot.
func (d *Datastore) removeDir(dir string) error {
	if err := d.FS.Remove(path.Join(dir, manifestName)); err == nil {
		if err := d.FS.SyncDir(dir); err != nil {
			return err
		}
	}
	if err := disk.RemoveAll(d.FS, dir); err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return d.FS.SyncDir(path.Dir(dir))
}
