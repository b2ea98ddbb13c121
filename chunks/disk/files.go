package disk

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// tempMark and 16 hex digits end the name of a file that is not complete.
const tempMark = ".tmp-"

// tempName returns a name beside name that nobody has.
func tempName(name string) string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return name + tempMark + hex.EncodeToString(b[:])
}

// IsTemp tells whether name is one that [WriteFileAtomic] or [Journal.Rewrite]
// gives to a file on its way. Such a file is left only by a crash, is of no
// use, and may be removed by the owner of the directory.
func IsTemp(name string) bool {
	at := strings.LastIndex(name, tempMark)
	if at < 0 {
		return false
	}
	b, err := hex.DecodeString(name[at+len(tempMark):])
	return err == nil && len(b) == 8
}

// RemoveTemps removes what crashes left beside name while it was written. It
// must not run while name is being written.
func RemoveTemps(fsys FS, name string) error {
	entries, err := fsys.ReadDir(path.Dir(name))
	if err != nil {
		return fmt.Errorf("look for unfinished copies of %s: %w", name, err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), path.Base(name)+tempMark) && IsTemp(e.Name()) {
			if err := fsys.Remove(path.Join(path.Dir(name), e.Name())); err != nil {
				return fmt.Errorf("remove unfinished copy of %s: %w", name, err)
			}
		}
	}
	return nil
}

// WriteFileAtomic makes data the content of name: after a crash at any moment
// the file is the old one or the new one, and after success it is the new one.
// If it is the last step that fails, SyncDir, the new file is in place but may
// not survive.
func WriteFileAtomic(fsys FS, name string, data []byte, perm fs.FileMode) error {
	f, err := prepare(fsys, name, perm, func(f File) error {
		_, err := f.WriteAt(data, 0)
		return err
	})
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		_ = fsys.Remove(f.Name()) // the error that matters is the first
		return fmt.Errorf("write %s: %w", name, err)
	}
	return install(fsys, f.Name(), name)
}

// prepare writes a file that may take the place of name, makes its content
// durable, and returns it open.
func prepare(fsys FS, name string, perm fs.FileMode, fill func(File) error) (File, error) {
	temp := tempName(name)
	f, err := fsys.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	err = fill(f)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		_ = f.Close() // the error that matters is the first
		_ = fsys.Remove(temp)
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	return f, nil
}

// install puts a prepared file in its place. After an error it may be there or
// not.
func install(fsys FS, temp, name string) error {
	if err := fsys.Rename(temp, name); err != nil {
		_ = fsys.Remove(temp) // the error that matters is the first
		return fmt.Errorf("put new %s in place: %w", name, err)
	}
	if err := fsys.SyncDir(path.Dir(name)); err != nil {
		return fmt.Errorf("make new %s durable: %w", name, err)
	}
	return nil
}

// ReadFile returns the content of a file that must not be longer than limit
// bytes.
func ReadFile(fsys FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it was only read
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fmt.Errorf("read %s: it has %d bytes, want at most %d", name, size, limit)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, size), data); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

// MkdirAll makes a directory and those of its parents that are missing, and
// makes each of them durable. It may be called for the same name at once.
func MkdirAll(fsys FS, name string, perm fs.FileMode) error {
	name = path.Clean(name)
	parent := path.Dir(name)
	if parent == name { // "/" or "."
		return nil
	}
	err := fsys.Mkdir(name, perm)
	if errors.Is(err, fs.ErrNotExist) {
		if err := MkdirAll(fsys, parent, perm); err != nil {
			return err
		}
		err = fsys.Mkdir(name, perm)
	}
	if errors.Is(err, fs.ErrExist) {
		return checkDir(fsys, name, parent)
	}
	if err != nil {
		return err
	}
	return fsys.SyncDir(parent)
}

// checkDir accepts a directory that is there already. Whoever made it may not
// have come to sync its parent, so that is done again; a parent that we may
// not read is not one that we make directories in.
func checkDir(fsys FS, name, parent string) error {
	info, err := fsys.Stat(name)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("make directory %s: there is a file of that name: %w", name, fs.ErrExist)
	}
	if err := fsys.SyncDir(parent); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// Allocated returns the bytes of disk that the file name occupies: what its
// blocks come to where the file system says, else its length. It is 0 for a
// file that cannot be opened.
func Allocated(fsys FS, name string) int64 {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return 0
	}
	defer f.Close() // it was only read
	if ext, ok := f.(Extenter); ok {
		if n, err := ext.Allocated(); err == nil {
			return n
		}
	}
	n, err := f.Size()
	if err != nil {
		return 0
	}
	return n
}

// RemoveAll removes a directory and what is in it, if it is there; a link is removed,
// not what it leads to. A crash may undo that.
func RemoveAll(fsys FS, dir string) error {
	entries, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		child := path.Join(dir, e.Name())
		if e.IsDir() {
			err = RemoveAll(fsys, child)
		} else {
			err = fsys.Remove(child)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := fsys.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
