package cache

import (
	"errors"
	"io/fs"
	"path"
	"strings"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// Remove removes a cache that nobody has open, and its directory if nothing else is
// in it. That there is none is no error.
func Remove(fsys disk.FS, dir string) error {
	files, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var failed []error
	for _, f := range files {
		if strings.HasSuffix(f.Name(), segmentExt) {
			failed = append(failed, fsys.Remove(path.Join(dir, f.Name())))
		}
	}
	pinned, err := fsys.ReadDir(path.Join(dir, pinDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(append(failed, err)...)
	}
	for _, f := range pinned {
		failed = append(failed, fsys.Remove(path.Join(dir, pinDir, f.Name())))
	}
	for _, name := range []string{path.Join(dir, pinDir), path.Join(dir, "lock"), dir} {
		_ = fsys.Remove(name) // what is in use, or holds something else, stays
	}
	return errors.Join(failed...)
}
