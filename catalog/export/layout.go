package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// How PBS lays out its chunks: 65,536 directories, made with the datastore and
// never later, named after the first two bytes of what is in them.
const (
	prefixDigits = 4
	prefixes     = 1 << (4 * prefixDigits)

	dirMode  fs.FileMode = 0o755
	fanMode  fs.FileMode = 0o750 // of .chunks and what is in it
	fileMode fs.FileMode = 0o640

	// tempDir holds chunk files in the making. It is hidden, so a PBS does not
	// look into it, and is removed at the end of an export.
	tempDir = ".holdfast-export"
)

// openLayout makes dir a PBS datastore, unless it is one, and locks it against
// other exports. It refuses a directory that has something else in it.
func openLayout(ctx context.Context, fsys disk.FS, dir string) (io.Closer, error) {
	if err := mayBecome(fsys, dir); err != nil {
		return nil, err
	}
	name := path.Join(dir, lockName)
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644) // Lock would make one for us only
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	lock, err := fsys.Lock(name)
	if err != nil {
		return nil, err
	}
	err = makeFan(ctx, fsys, path.Join(dir, chunksDir))
	if err == nil {
		err = emptyTemp(fsys, path.Join(dir, tempDir))
	}
	if err == nil {
		err = fsys.SyncDir(dir)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// mayBecome refuses a directory that is neither empty nor a datastore of PBS.
// What an export leaves that was killed in its first moment is as good as empty.
func mayBecome(fsys disk.FS, dir string) error {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return err
	}
	if IsPBS(fsys, dir) {
		return nil
	}
	for _, e := range entries {
		switch e.Name() {
		case lockName, tempDir, "lost+found":
		default:
			return &refusal{
				fmt.Sprintf("%s is neither empty nor a PBS datastore: it has %s", dir, e.Name()),
				"name a new directory, or one with an export or a PBS datastore in it", ErrNotPBS,
			}
		}
	}
	return nil
}

// makeFan makes the directories of chunks that are not there.
func makeFan(ctx context.Context, fsys disk.FS, dir string) error {
	err := fsys.Mkdir(dir, fanMode)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return err
	}
	have := make(map[string]bool, len(entries))
	for _, e := range entries {
		have[e.Name()] = true
	}
	for i := range prefixes {
		name := fmt.Sprintf("%0*x", prefixDigits, i)
		if have[name] {
			continue
		}
		if err := errors.Join(ctx.Err(), fsys.Mkdir(path.Join(dir, name), fanMode)); err != nil {
			return err
		}
	}
	return fsys.SyncDir(dir)
}

// emptyTemp makes the directory for files in the making, and removes what a
// killed export left there.
func emptyTemp(fsys disk.FS, dir string) error {
	err := fsys.Mkdir(dir, 0o700)
	if err == nil || !errors.Is(err, fs.ErrExist) {
		return err
	}
	return sweep(fsys, dir)
}

func sweep(fsys disk.FS, dir string) error {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := fsys.Remove(path.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// removeTemp removes the directory for files in the making.
func removeTemp(fsys disk.FS, dir string) error {
	return errors.Join(sweep(fsys, dir), fsys.Remove(dir), fsys.SyncDir(path.Dir(dir)))
}
