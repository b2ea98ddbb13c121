package gc

import (
	"errors"
	"io/fs"
	"os"
	"path"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// maxBitmap bounds what is read of a bitmap file: 64 MiB is a root of half a
// billion chunks.
const maxBitmap = 64 << 20

// cache keeps the bitmaps of roots, one file each. Nothing depends on it.
type cache struct {
	fs      disk.FS
	dir     string
	scratch []uint64
}

// load adds the bitmap of the root id to set, and returns the root's size. It
// adds nothing if it fails.
func (c *cache) load(id string, generation uint64, packs watermark, set *pack.Set) (size int64, err error) {
	b, err := disk.ReadFile(c.fs, path.Join(c.dir, bitmapName(id)), maxBitmap)
	if err != nil {
		return 0, err
	}
	rows, size, err := decodeBitmap(b, id, generation, packs)
	if err != nil {
		return 0, err
	}
	for r := range readRows(rows) {
		c.scratch = r.bitmap(c.scratch)
		set.OrRow(r.number, c.scratch)
	}
	return size, nil
}

// save keeps a bitmap. It is renamed into place but not synced: the sum finds
// what a crash tears.
func (c *cache) save(id string, b []byte) error {
	if len(b) > maxBitmap {
		return nil
	}
	name := path.Join(c.dir, bitmapName(id))
	f, err := c.fs.OpenFile(name+".tmp", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, c.fs.Remove(name+".tmp"))
	}
	return c.fs.Rename(name+".tmp", name)
}

// clean removes everything but the bitmaps of the roots in ids.
func (c *cache) clean(ids map[string]bool) error {
	keep := make(map[string]bool, len(ids))
	for id := range ids {
		keep[bitmapName(id)] = true
	}
	files, err := c.fs.ReadDir(c.dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if keep[f.Name()] {
			continue
		}
		if err := c.fs.Remove(path.Join(c.dir, f.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
