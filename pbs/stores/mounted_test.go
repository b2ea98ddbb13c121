package stores_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
	"github.com/holdfast-mesh/holdfast/pbs/stores/away"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
)

// Right after the directory of a datastore was removed, a backup was refused as "namespace
// not found", and its list as "ENOENT": that it is there was believed for a second.
func TestDirectoryIsGone(t *testing.T) {
	w := storestest.New(t, "store1")
	if _, err := w.Get("store1"); err != nil {
		t.Fatal(err)
	}
	file, aside := storestest.Dir+"store1/"+identity.File, storestest.Dir+"aside"
	must(t, w.FS.Rename(file, aside))
	_, got := w.Get("store1")
	_, _, used := w.Use("store1", true)
	for _, err := range []error{got, used} {
		var hint interface{ Hint() string }
		if err == nil || !away.Is(err.Error()) || !errors.Is(err, identity.ErrNotStore) || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "put the directory back") {
			t.Fatalf("%v", err)
		}
	}
	must(t, w.FS.Rename(aside, file))
	if _, err := w.Get("store1"); err != nil {
		t.Errorf("it is back, and: %v", err)
	}
}
