package catalog

import (
	"fmt"
	"slices"
	"testing"
)

// Whoever watches hears of all that comes, goes and changes, when it is so.
func TestWatch(t *testing.T) {
	d, _, _ := newStore(t)
	var heard []string
	d.Watch(func(ns Namespace, g Group) {
		list, err := d.Snapshots(t.Context(), ns, g)
		heard = append(heard, fmt.Sprint(ns, " ", g, " ", len(list), " ", err == nil))
	})
	must(t, d.CreateNamespace("a"))
	s := snap("vm/100", 1)
	expect := func(what string, want ...string) {
		t.Helper()
		if !slices.Equal(heard, want) {
			t.Errorf("%s: heard %q, want %q", what, heard, want)
		}
		heard = nil
	}
	mustBackUp(t, d, "a", s, 1, 2)
	expect("backup", "a vm/100 1 true")
	must(t, d.SetNotes("a", s, "notes"))
	expect("notes", "a vm/100 1 true")
	must(t, d.Forget(t.Context(), "a", s))
	expect("forget", "a vm/100 0 true")
	must(t, d.Undo(t.Context(), "a", s))
	expect("undo", "a vm/100 1 true")
	if _, err := d.ForgetGroup(t.Context(), "a", s.Group); err != nil {
		t.Fatal(err)
	}
	expect("forget the group", "a vm/100 0 true")
}
