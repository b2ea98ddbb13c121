package catalog

import (
	"errors"
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

func TestNamespaces(t *testing.T) {
	d, _, _ := newStore(t)
	wants(t, "a parent that is not there", d.CreateNamespace("a/b"), fs.ErrNotExist)
	ns := Namespace("")
	for _, n := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		child, err := ns.Child(n)
		must(t, err)
		ns = child
		must(t, errors.Join(d.CreateNamespace(ns), d.CreateNamespace(ns))) // twice is no error
	}
	if _, err := ns.Child("h"); err == nil {
		t.Error("there is an eighth level")
	}
	must(t, disk.MkdirAll(d.FS, path.Join(d.nsDir(ns), "ns", "h"), 0o755))
	list, err := d.Namespaces(t.Context(), "", -1)
	if err != nil || len(list) != 8 || list[7] != ns {
		t.Errorf("namespaces are %q, %v", list, err)
	}
	must(t, d.FS.Remove(path.Join(d.nsDir(ns), "ns", "h")))

	mustBackUp(t, d, "a/b", snap("vm/100", 1))
	if err := d.RemoveNamespace(t.Context(), "", true); err == nil {
		t.Error("the root was removed")
	}
	wants(t, "one that is not there", d.RemoveNamespace(t.Context(), "x", false), fs.ErrNotExist)
	err = d.RemoveNamespace(t.Context(), "a", false)
	if err == nil || !strings.Contains(err.Error(), "vm/100") {
		t.Errorf("a namespace with snapshots: %v", err)
	}
	hinted(t, "a namespace with snapshots", err)
	must(t, verify(t.Context(), d, "a/b", snap("vm/100", 1), []uint64{1, 2, 3}))
	must(t, d.SetProtected("a/b", snap("vm/100", 1), true))
	wants(t, "a namespace with a protected snapshot", d.RemoveNamespace(t.Context(), "a", true), ErrProtected)
	must(t, d.SetProtected("a/b", snap("vm/100", 1), false))
	must(t, d.RemoveNamespace(t.Context(), "a", true))
	if list, err := d.Namespaces(t.Context(), "", -1); err != nil || len(list) != 1 {
		t.Errorf("namespaces are %q, %v", list, err)
	}
	if list, err := d.Trash(); err != nil || len(list) != 1 {
		t.Errorf("trash is %+v, %v", list, err)
	}
}

// A group from which everything was forgotten does not keep its namespace; a
// file that somebody put there does.
func TestRemoveNamespaceWithLeftovers(t *testing.T) {
	d, _, _ := newStore(t)
	must(t, d.CreateNamespace("a"))
	mustBackUp(t, d, "a", snap("vm/100", 1))
	must(t, d.Forget(t.Context(), "a", snap("vm/100", 1)))
	readme := path.Join(d.nsDir("a"), "README")
	must(t, disk.WriteFileAtomic(d.FS, readme, nil, 0o600))
	if err := d.RemoveNamespace(t.Context(), "a", false); err == nil {
		t.Error("a namespace with a file of somebody's was removed")
	}
	must(t, d.FS.Remove(readme))
	must(t, d.RemoveNamespace(t.Context(), "a", false))
}
