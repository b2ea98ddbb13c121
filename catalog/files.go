package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// writeNew writes a file that was not there, and makes its content durable,
// but not its name.
func writeNew(fsys disk.FS, name string, data []byte) error {
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		return errors.Join(chunks.NoSpace(err), f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}

// replace writes a file of a snapshot as a whole, durably. It goes by way of
// the group's directory, whose time tells [Tree.List] that something changed.
func (d *Datastore) replace(ns Namespace, s Snapshot, file string, data []byte) error {
	temp := path.Join(d.groupDir(ns, s.Group), tempName())
	if err := writeNew(d.FS, temp, data); err != nil {
		return errors.Join(fmt.Errorf("write %s of %s: %w", file, name(ns, s), err), ignoreMissing(d.FS.Remove(temp)))
	}
	dir := d.snapDir(ns, s)
	if err := d.FS.Rename(temp, path.Join(dir, file)); err != nil {
		return errors.Join(err, ignoreMissing(d.FS.Remove(temp)))
	}
	if err := d.FS.SyncDir(dir); err != nil {
		return err
	}
	return d.FS.SyncDir(path.Dir(dir))
}

// tempName is the name of a file on its way to or from a snapshot. It begins
// with a dot, so no listing sees it.
func tempName() string { return "." + chunks.NewUUID().String() + ".tmp" }

// isTemp reports whether a file is one of these, or one that
// disk.WriteFileAtomic had begun.
func isTemp(name string) bool {
	return strings.HasPrefix(name, ".") && strings.HasSuffix(name, ".tmp") || disk.IsTemp(name)
}

// sweepTemps removes what a crash left of such files in a group.
func (d *Datastore) sweepTemps(ns Namespace, g Group) error {
	d.changing.Lock() // held by all who have such a file, but for the backup of the group
	defer d.changing.Unlock()
	entries, err := d.FS.ReadDir(d.groupDir(ns, g))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if isTemp(e.Name()) {
			if err := d.FS.Remove(path.Join(d.groupDir(ns, g), e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
