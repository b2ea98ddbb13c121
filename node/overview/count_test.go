package overview

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// A new node that made a datastore of what a bucket has showed 0 snapshots until its
// feed had said more.
func TestHeld(t *testing.T) {
	dir := t.TempDir()
	for name, finished := range map[string]bool{
		"vm/100/2026-01-01T00:00:00Z": true, "vm/100/2026-01-02T00:00:00Z": false,
		"ns/a/host/web/2026-01-01T00:00:00Z": true, "ns/a/ns/b/ct/7/2026-01-01T00:00:00Z": true,
	} {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(at, 0o750); err != nil {
			t.Fatal(err)
		}
		if finished {
			if err := os.WriteFile(filepath.Join(at, "index.json.blob"), []byte("x"), 0o640); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n, err := Held(t.Context(), catalog.Tree{FS: disk.OS{}, Dir: dir}); err != nil || n != 3 {
		t.Errorf("%d snapshots, %v", n, err)
	}
}
