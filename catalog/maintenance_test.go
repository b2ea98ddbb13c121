package catalog

import (
	"errors"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/gc"
)

// Every method that works on a datastore minds its maintenance: what writes
// is refused in both modes, what reads in one. Writers and readers that are
// open may go on to their end, and a Tree knows nothing of all this.
func TestMaintenance(t *testing.T) {
	d, mem, clock := newStore(t)
	must(t, d.CreateNamespace("a"))
	s, g := snap("vm/100", 1), group("vm/100")
	mustBackUp(t, d, "", s)
	mustBackUp(t, d, "", snap("vm/100", 2))
	must(t, d.Forget(t.Context(), "", snap("vm/100", 2)))
	ctx, log := t.Context(), config(s, nil)
	writes := map[string]func() error{
		"Begin":           func() error { return backup(ctx, d, "", snap("vm/100", 9), alice, 1) },
		"Forget":          func() error { return d.Forget(ctx, "", s) },
		"ForgetGroup":     func() error { return second(d.ForgetGroup(ctx, "", g)) },
		"Undo":            func() error { return d.Undo(ctx, "", snap("vm/100", 2)) },
		"EmptyTrash":      func() error { return second(d.EmptyTrash(ctx, true)) },
		"Prune":           func() error { _, err := d.Prune(ctx, PruneOptions{Keep: Keep{Last: 1}}); return err },
		"Collect":         func() error { _, err := d.Collect(ctx, gc.Options{}); return err },
		"CreateNamespace": func() error { return d.CreateNamespace("b") },
		"RemoveNamespace": func() error { return d.RemoveNamespace(ctx, "a", true) },
		"SetNotes":        func() error { return d.SetNotes("", s, "x") },
		"SetGroupNotes":   func() error { return d.SetGroupNotes("", g, "x") },
		"SetOwner":        func() error { return d.SetOwner("", g, bob) },
		"SetProtected":    func() error { return d.SetProtected("", s, true) },
		"AddLog":          func() error { return d.AddLog("", s, log) },
		"UpdateManifest":  func() error { return d.UpdateManifest("", s, func(*Manifest) error { return nil }) },
	}
	reads := map[string]func() error{
		"OpenSnapshot": func() error { return verify(ctx, d, "", s, []uint64{1, 2, 3}) },
		"Prune, dry": func() error {
			_, err := d.Prune(ctx, PruneOptions{Keep: Keep{Last: 1}, DryRun: true})
			return err
		},
		"Usage": func() error { _, err := d.Usage(ctx); return err },
	}
	files := func() (names []string) {
		for _, name := range mem.Names() {
			if name != path.Join(storeDir, settingsFile) && !strings.HasPrefix(name, storeDir+"/index/") {
				names = append(names, name)
			}
		}
		return names
	}
	before := files()
	check := func(mode Mode, methods map[string]func() error, refused bool) {
		t.Helper()
		for what, call := range methods {
			err := call()
			switch {
			case !refused && err != nil:
				t.Errorf("%s in mode %q: %v", what, mode, err)
			case refused && (!errors.Is(err, ErrMaintenance) || !strings.Contains(err.Error(), "moving the disk")):
				t.Errorf("%s in mode %q: %v, want a refusal with the message", what, mode, err)
			case refused:
				hinted(t, what, err)
			}
		}
	}
	for _, mode := range []Mode{ReadOnly, Offline} {
		must(t, d.SetSettings(Settings{Maintenance: Maintenance{Mode: mode, Message: "moving the disk"}}))
		must(t, d.Close())
		d = openStore(t, mem, storeDir, clock) // it stays so over a start
		check(mode, writes, true)
		check(mode, reads, mode == Offline)
		if _, err := d.List(ctx, ListOptions{Depth: -1}); err != nil {
			t.Errorf("a list in mode %q: %v", mode, err)
		}
	}
	must(t, d.SetSettings(Settings{}))
	check(InService, reads, false)
	if after := files(); !slices.Equal(after, before) {
		t.Errorf("files are %q, were %q", after, before)
	}
}

// A backup that is under way when maintenance begins may end.
func TestMaintenanceLetsBackupsEnd(t *testing.T) {
	d, _, _ := newStore(t)
	s := snap("vm/100", 1)
	w, err := d.Begin(t.Context(), "", s, alice)
	must(t, err)
	must(t, d.SetSettings(Settings{Maintenance: Maintenance{Mode: ReadOnly}}))
	m, err := fill(t.Context(), w, s, 1)
	must(t, err)
	must(t, w.Finish(t.Context(), m))
	must(t, verify(t.Context(), d, "", s, []uint64{1}))
}
