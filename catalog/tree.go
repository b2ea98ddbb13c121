package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// A Tree reads the directories of a datastore. It needs no lock and works
// beside a process that has the datastore open. Names that do not follow the
// grammar of namespaces, groups and snapshots are not seen.
type Tree struct {
	FS  disk.FS
	Dir string
}

const (
	manifestName  = "index.json.blob"
	logName       = "client.log.blob"
	protectedName = ".protected"
	ownerName     = "owner"
	notesName     = "notes"
)

// maxNotes bounds notes in bytes; PBS has no limit, its manifests have.
const maxNotes = 1 << 20

func (t Tree) nsDir(ns Namespace) string             { return path.Join(t.Dir, ns.Path()) }
func (t Tree) groupDir(ns Namespace, g Group) string { return path.Join(t.nsDir(ns), g.Path()) }
func (t Tree) snapDir(ns Namespace, s Snapshot) string {
	return path.Join(t.nsDir(ns), s.Path())
}

// dirs returns the names of the directories in name; none if it is not there.
func (t Tree) dirs(name string) ([]string, error) {
	entries, err := t.FS.ReadDir(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() || e.Type()&fs.ModeSymlink != 0 && t.leadsToDir(path.Join(name, e.Name())) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// leadsToDir reports whether a symbolic link does. One that leads nowhere is
// not seen here; for [Roots] it is an error.
func (t Tree) leadsToDir(link string) bool {
	info, err := t.FS.Stat(link)
	return err == nil && info.IsDir()
}

// HasNamespace reports whether ns exists; the root always does.
func (t Tree) HasNamespace(ns Namespace) (bool, error) {
	info, err := t.FS.Stat(t.nsDir(ns))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.IsDir(), err
}

// Namespaces returns under and the namespaces at most depth levels below it,
// all if depth is negative, parents first. It fails with fs.ErrNotExist if
// under does not exist.
func (t Tree) Namespaces(ctx context.Context, under Namespace, depth int) ([]Namespace, error) {
	if ok, err := t.HasNamespace(under); err != nil {
		return nil, err
	} else if !ok {
		return nil, &opError{fmt.Sprintf("namespace %q does not exist", under), "namespaces are listed by: holdfast namespace list", fs.ErrNotExist}
	}
	all := []Namespace{under}
	for i := 0; i < len(all); i++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		ns := all[i]
		if depth >= 0 && ns.Depth()-under.Depth() >= depth {
			continue
		}
		names, err := t.dirs(path.Join(t.nsDir(ns), "ns"))
		if err != nil {
			return nil, fmt.Errorf("list namespaces: %w", err)
		}
		for _, name := range names {
			if child, err := ns.Child(name); err == nil {
				all = append(all, child)
			}
		}
	}
	slices.Sort(all)
	return all, nil
}

// Groups returns the groups of one namespace, in order, also those without a
// snapshot.
func (t Tree) Groups(ctx context.Context, ns Namespace) ([]Group, error) {
	var groups []Group
	for _, typ := range []Type{naming.CT, naming.Host, naming.VM} {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		ids, err := t.dirs(path.Join(t.nsDir(ns), string(typ)))
		if err != nil {
			return nil, fmt.Errorf("list groups: %w", err)
		}
		for _, id := range ids {
			if naming.CheckID(id) == nil {
				groups = append(groups, Group{Type: typ, ID: id})
			}
		}
	}
	slices.SortFunc(groups, Group.Compare)
	return groups, nil
}

// Snapshots returns the snapshots of a group, newest first, also those that
// are not finished.
func (t Tree) Snapshots(ctx context.Context, ns Namespace, g Group) ([]Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	names, err := t.dirs(t.groupDir(ns, g))
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	snaps := make([]Snapshot, 0, len(names))
	for _, name := range names {
		if at, err := naming.ParseTime(name); err == nil {
			snaps = append(snaps, Snapshot{Group: g, Time: at})
		}
	}
	slices.SortFunc(snaps, func(a, b Snapshot) int { return b.Compare(a) })
	return snaps, nil
}

// Manifest reads the manifest of a snapshot. It fails with fs.ErrNotExist if
// there is no such snapshot, or it is not finished.
func (t Tree) Manifest(ns Namespace, s Snapshot) (*Manifest, error) {
	b, err := t.ReadBlob(ns, s, manifestName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, t.noSnapshot(ns, s)
	}
	if err != nil {
		return nil, err
	}
	m, err := manifest.ParseBlob(b)
	if err != nil {
		return nil, fmt.Errorf("read manifest of %s: %w", name(ns, s), err)
	}
	if m.Snapshot() != s {
		return nil, fmt.Errorf("read manifest of %s: it is that of %s", name(ns, s), m.Snapshot())
	}
	return m, nil
}

// noSnapshot says what is missing: the snapshot, or its manifest.
func (t Tree) noSnapshot(ns Namespace, s Snapshot) error {
	_, err := t.FS.Stat(t.snapDir(ns, s))
	if err == nil {
		return &opError{fmt.Sprintf("snapshot %s is not finished", name(ns, s)), "a backup is running, or was interrupted: take another snapshot", fs.ErrNotExist}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for snapshot %s: %w", name(ns, s), err)
	}
	return &opError{fmt.Sprintf("no snapshot %s", name(ns, s)), "snapshots are listed by: holdfast snapshot list", fs.ErrNotExist}
}

// name is what messages call a snapshot.
func name(ns Namespace, s fmt.Stringer) string {
	if ns == "" {
		return s.String()
	}
	return string(ns) + ":" + s.String()
}

// ReadBlob reads a small file of a snapshot, and checks its frame.
func (t Tree) ReadBlob(ns Namespace, s Snapshot, file string) (chunks.Blob, error) {
	data, err := t.readFile(ns, s, file, chunks.MaxPlain+chunks.EncryptedHeaderSize)
	if err != nil {
		return nil, err
	}
	if err := chunks.Blob(data).Check(); err != nil {
		return nil, fmt.Errorf("read %s of %s: %w", file, name(ns, s), err)
	}
	return data, nil
}

// ReadIndex reads an index of a snapshot.
func (t Tree) ReadIndex(ns Namespace, s Snapshot, file string) (chunks.Index, error) {
	data, err := t.readFile(ns, s, file, chunks.MaxIndex)
	if err != nil {
		return nil, err
	}
	x, err := chunks.ParseIndex(data)
	if err != nil {
		return nil, fmt.Errorf("read %s of %s: %w", file, name(ns, s), err)
	}
	return x, nil
}

func (t Tree) readFile(ns Namespace, s Snapshot, file string, limit int64) ([]byte, error) {
	if err := naming.CheckArchive(file); err != nil {
		return nil, err
	}
	data, err := disk.ReadFile(t.FS, path.Join(t.snapDir(ns, s), file), limit)
	if err != nil {
		return nil, fmt.Errorf("read %s of %s: %w", file, name(ns, s), err)
	}
	return data, nil
}

// Owner returns who owns a group.
func (t Tree) Owner(ns Namespace, g Group) (string, error) {
	b, err := disk.ReadFile(t.FS, path.Join(t.groupDir(ns, g), ownerName), 4096)
	if err != nil {
		return "", fmt.Errorf("read owner of %s: %w", name(ns, g), err)
	}
	owner, _, _ := strings.Cut(string(b), "\n")
	owner = strings.TrimSpace(owner)
	if err := naming.CheckAuthID(owner); err != nil {
		return "", fmt.Errorf("read owner of %s: %w", name(ns, g), err)
	}
	return owner, nil
}

// GroupNotes returns the notes of a group, "" if there are none.
func (t Tree) GroupNotes(ns Namespace, g Group) (string, error) {
	b, err := disk.ReadFile(t.FS, path.Join(t.groupDir(ns, g), notesName), maxNotes)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}

// Protected reports whether a snapshot is marked so that nobody removes it.
func (t Tree) Protected(ns Namespace, s Snapshot) (bool, error) {
	_, err := t.FS.Stat(path.Join(t.snapDir(ns, s), protectedName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Files returns the names of all archives and blobs of a snapshot, sorted.
func (t Tree) Files(ns Namespace, s Snapshot) ([]string, error) {
	entries, err := t.FS.ReadDir(t.snapDir(ns, s))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, t.noSnapshot(ns, s)
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if naming.CheckArchive(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
