package disk

import (
	"context"
	"errors"
	"io/fs"
	"path"
)

// RemoveTree removes a file, or a directory with what is in it. It follows no
// link.
func RemoveTree(ctx context.Context, fsys FS, name string, e fs.DirEntry) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if e.IsDir() {
		entries, err := fsys.ReadDir(name)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := RemoveTree(ctx, fsys, path.Join(name, e.Name()), e); err != nil {
				return err
			}
		}
	}
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
