// Package identity makes directories into stores and recognises them.
package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// Names in the directory of a store, beside those of snapshots.
const (
	File        = "holdfast-store.json"
	LockFile    = ".lock"
	StateFile   = "state.hfj"
	CleanFile   = "clean"
	ReserveFile = "reserve"
	PacksDir    = "packs"
	IndexDir    = "index"
)

// Lengths in bytes at which packs may be sealed.
const (
	MinPackBytes = 16 << 20
	MaxPackBytes = 256 << 20
)

const (
	identityFormat  = "holdfast-store"
	identityVersion = 1
	reserveBytes    = 1 << 20
)

// Identity is the file holdfast-store.json: what makes a directory a store.
// Without it nothing is ever written, so the bare mount point of a disk that
// is not there is safe.
type Identity struct {
	Format    string    `json:"format"`
	Version   int       `json:"version"`
	ID        format.ID `json:"id"`
	Created   time.Time `json:"created"`
	PackBytes int64     `json:"pack-bytes"` // length at which packs are sealed
}

// An OpenError says why a directory cannot be used as a store.
type OpenError struct {
	Dir  string
	Err  error
	Cure string
}

func (e *OpenError) Error() string { return fmt.Sprintf("open store %s: %v", e.Dir, e.Err) }
func (e *OpenError) Unwrap() error { return e.Err }

// Hint says what to do about it.
func (e *OpenError) Hint() string { return e.Cure }

// Reasons for which a directory is refused.
var (
	ErrNotStore   = errors.New("not a Holdfast store")
	ErrNewer      = errors.New("the store was made by a newer version")
	ErrHalfCopied = errors.New("the store is an incomplete copy")
	ErrLocked     = errors.New("the store is in use by another process")
	ErrNotEmpty   = errors.New("the directory is not empty")
)

// Init makes an empty store in dir, which may exist if it is empty. packBytes
// is the length at which packs are sealed, 16 to 256 MiB; 0 means 64 MiB. The
// store is complete and durable when Init returns; a crash leaves a directory
// that is refused as not a store, and Init may be called on it again.
func Init(fsys disk.FS, dir string, packBytes int64) (Identity, error) {
	if packBytes == 0 {
		packBytes = 64 << 20
	}
	if packBytes < MinPackBytes || packBytes > MaxPackBytes {
		return Identity{}, fmt.Errorf("init store %s: pack size is %d bytes, want %d to %d", dir, packBytes, MinPackBytes, MaxPackBytes)
	}
	if err := checkEmpty(fsys, dir); err != nil {
		return Identity{}, err
	}
	for _, d := range []string{dir, path.Join(dir, PacksDir), path.Join(dir, IndexDir)} {
		if err := disk.MkdirAll(fsys, d, 0o700); err != nil {
			return Identity{}, fmt.Errorf("init store %s: %w", dir, chunks.NoSpace(err))
		}
	}
	if err := makeShards(fsys, path.Join(dir, PacksDir)); err != nil {
		return Identity{}, fmt.Errorf("init store %s: %w", dir, chunks.NoSpace(err))
	}
	id := Identity{identityFormat, identityVersion, format.NewID(), time.Now().UTC().Truncate(time.Second), packBytes}
	text, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return Identity{}, err
	}
	if err := WriteReserve(fsys, dir); err != nil {
		return Identity{}, fmt.Errorf("init store %s: %w", dir, chunks.NoSpace(err))
	}
	// Last, because it is what makes the directory a store.
	if err := disk.WriteFileAtomic(fsys, path.Join(dir, File), append(text, '\n'), 0o600); err != nil {
		return Identity{}, fmt.Errorf("init store %s: %w", dir, chunks.NoSpace(err))
	}
	return id, nil
}

// makeShards makes the directories of packs, so that beginning a pack need not
// wait until a new one is durable.
func makeShards(fsys disk.FS, dir string) error {
	for i := range 256 {
		err := fsys.Mkdir(path.Join(dir, fmt.Sprintf("%02x", i)), 0o700)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return fsys.SyncDir(dir)
}

// WriteReserve sets a little space aside that is given up when the disk is
// full, so that the journals of a garbage collection can still be written.
func WriteReserve(fsys disk.FS, dir string) error {
	filler := bytes.Repeat([]byte{0xa5}, reserveBytes) // not zeros: the blocks must be there
	return disk.WriteFileAtomic(fsys, path.Join(dir, ReserveFile), filler, 0o600)
}

// RestoreReserve sets the space aside again if it was given up.
func RestoreReserve(fsys disk.FS, dir string) error {
	if _, err := fsys.Stat(path.Join(dir, ReserveFile)); !errors.Is(err, fs.ErrNotExist) {
		return nil // there, or not to be seen now
	}
	return WriteReserve(fsys, dir)
}

// checkEmpty refuses a directory that holds something else than the remains
// of an Init that did not get to its end.
func checkEmpty(fsys disk.FS, dir string) error {
	entries, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("init store %s: %w", dir, err)
	}
	if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == File }) {
		return &OpenError{dir, fs.ErrExist, "the directory is a Holdfast store already"}
	}
	for _, e := range entries {
		name := e.Name()
		switch {
		case name == "lost+found", name == ReserveFile, disk.IsTemp(name):
		case name == PacksDir || name == IndexDir:
			files, err := holdsFiles(fsys, path.Join(dir, name))
			if err != nil {
				return fmt.Errorf("init store %s: %w", dir, err)
			}
			if files {
				return &OpenError{dir, ErrNotEmpty, "packs without holdfast-store.json: a store that lost its identity file? Copy the file back from another copy of this store"}
			}
		default:
			return &OpenError{dir, fmt.Errorf("%w: it has %q", ErrNotEmpty, name), "choose an empty directory"}
		}
	}
	return nil
}

// holdsFiles reports whether dir has anything but empty directories.
func holdsFiles(fsys disk.FS, dir string) (bool, error) {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if !e.IsDir() {
			return true, nil
		}
		below, err := fsys.ReadDir(path.Join(dir, e.Name()))
		if err != nil || len(below) > 0 {
			return true, err
		}
	}
	return false, nil
}

// Read checks that dir is a store that this program can use.
func Read(fsys disk.FS, dir string) (Identity, error) {
	var id Identity
	text, err := disk.ReadFile(fsys, path.Join(dir, File), 64<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return id, &OpenError{dir, ErrNotStore, foreignHint(fsys, dir)}
	}
	if err != nil {
		return id, &OpenError{dir, err, ""}
	}
	var head struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(text, &head); err != nil || head.Format != identityFormat {
		return id, &OpenError{dir, fmt.Errorf("%s is damaged: %w", File, ErrNotStore), "restore the file from another copy of this store; every pack carries the store's ID too"}
	}
	if head.Version > identityVersion {
		return id, &OpenError{dir, fmt.Errorf("%w (format %d, this program knows %d)", ErrNewer, head.Version, identityVersion), "upgrade holdfast on this machine"}
	}
	if err := json.Unmarshal(text, &id); err != nil {
		return id, &OpenError{dir, fmt.Errorf("%s is damaged: %w", File, err), "restore the file from another copy of this store"}
	}
	if id.PackBytes < MinPackBytes || id.PackBytes > MaxPackBytes {
		return id, &OpenError{dir, fmt.Errorf("%s has a pack size of %d bytes", File, id.PackBytes), "set pack-bytes to a value from 16777216 to 268435456"}
	}
	return id, nil
}

// foreignHint recognises what else a directory may be.
func foreignHint(fsys disk.FS, dir string) string {
	entries, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "the directory does not exist; is the disk mounted? `holdfast datastore init` makes a new store"
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	has := func(all ...string) bool {
		return !slices.ContainsFunc(all, func(n string) bool { return !slices.Contains(names, n) })
	}
	switch {
	case err != nil:
		return ""
	case len(names) == 0 || slices.Equal(names, []string{"lost+found"}):
		return "the directory is empty: is the disk mounted? `holdfast datastore init` makes a new store"
	case has(".chunks"):
		return "this is a datastore of Proxmox Backup Server, which has another layout; make a store beside it with `holdfast datastore init`"
	case has("config", "data", "snapshots", "keys"):
		return "this is a restic repository"
	case has("config", "data", "README"):
		return "this is a borg repository"
	case has(PacksDir):
		return "there are packs but no " + File + ": an incomplete copy? Copy that file too"
	}
	return "choose the directory that `holdfast datastore init` made"
}
