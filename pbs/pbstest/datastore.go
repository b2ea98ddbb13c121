package pbstest

import (
	"context"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

// NewDatastore returns an empty datastore in memory, open until the test ends.
func NewDatastore(t testing.TB) *catalog.Datastore {
	t.Helper()
	mem := disktest.NewMem()
	mem.Disable(disk.Abilities{Direct: true}) // else it is measured, and memory is slow where races are looked for
	return Open(t, mem, "/store")
}

// Open makes a datastore in dir and opens it until the test ends.
func Open(t testing.TB, fsys disk.FS, dir string) *catalog.Datastore {
	t.Helper()
	if _, err := identity.Init(fsys, dir, 0); err != nil {
		t.Fatal(err)
	}
	d, err := catalog.Open(context.Background(), catalog.Config{Dir: dir, FS: fsys})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}
