package cache

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// Of a cache that is given up nothing is left but what is not its own.
func TestRemove(t *testing.T) {
	for name, foreign := range map[string]bool{"alone": false, "beside others": true} {
		dir := filepath.Join(t.TempDir(), "cache")
		c, err := Open(Config{Dir: dir, Bound: 8 << 20})
		if err != nil {
			t.Fatal(err)
		}
		for i := range uint64(20) {
			k := chunktest.Blob(i, 100_000)
			c.Put(k.Digest, k.Blob)
		}
		if err := c.Pin("a", []byte("pinned")); err != nil || c.Stats().Files < 2 {
			t.Fatalf("%v, %+v", err, c.Stats())
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		theirs := filepath.Join(dir, "photo.jpg")
		if foreign {
			if err := os.WriteFile(theirs, []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := Remove(disk.OS{}, dir); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		left, err := os.ReadDir(dir)
		if foreign && (err != nil || len(left) != 1 || left[0].Name() != "photo.jpg") || !foreign && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: left are %v, %v", name, left, err)
		}
	}
}
