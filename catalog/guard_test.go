package catalog

import (
	"errors"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/held"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// The guard holds whatever way somebody tries, and stays over a start.
func TestGuardIsAFloor(t *testing.T) {
	d, mem, clock := newStore(t)
	must(t, d.CreateNamespace("a"))
	for _, s := range []Snapshot{snap("vm/100", 1), snap("vm/100", 25), snap("ct/1", 1)} {
		mustBackUp(t, d, "a", s)
	}
	var frozen Filters
	must(t, frozen.Set("type:ct"))
	short := Duration(time.Minute)
	must(t, d.SetSettings(Settings{TrashDelay: &short}))
	guard := Guard{MinRetention: Duration(14 * 24 * time.Hour), DeletionDelay: Duration(48 * time.Hour), Frozen: frozen}
	must(t, d.SetGuard(guard))
	must(t, d.Close())
	d = openStore(t, mem, storeDir, clock)

	wants(t, "forget a young snapshot", d.Forget(t.Context(), "a", snap("vm/100", 25)), ErrGuarded)
	wants(t, "forget a frozen one", d.Forget(t.Context(), "a", snap("ct/1", 1)), ErrGuarded)
	wants(t, "remove the namespace", d.RemoveNamespace(t.Context(), "a", true), ErrGuarded)
	if list, err := d.Trash(); err != nil || len(list) != 1 || list[0].Snapshot != snap("vm/100", 1) || !list[0].Until.Equal(clock.Now().Add(48*time.Hour)) {
		t.Errorf("trash is %+v, %v", list, err) // what was old enough went there
	}
	mustBackUp(t, d, "a", snap("vm/100", 26))
	plan, err := d.Prune(t.Context(), PruneOptions{Depth: -1, Keep: Keep{Last: 1}})
	must(t, err)
	for _, p := range plan {
		if !p.Keep || p.Reason == "" {
			t.Errorf("prune says %+v", p)
		}
	}
	// "A delay of the trash that nobody goes below, whoever asks": whoever had the machine
	// emptied all at once.
	if removed, err := d.EmptyTrash(t.Context(), true); removed != 0 || !errors.Is(err, ErrGuarded) {
		t.Errorf("%d were removed before the delay of the guard, %v", removed, err)
	}
	clock.advance(47 * time.Hour)
	if removed, err := d.EmptyTrash(t.Context(), false); removed != 0 || err != nil {
		t.Errorf("%d were removed before the delay, %v", removed, err)
	}
	clock.advance(time.Hour)
	if removed, err := d.EmptyTrash(t.Context(), false); removed != 1 || err != nil {
		t.Errorf("%d were removed after the delay, %v", removed, err)
	}
}

// `gc --empty-trash` emptied the trash at once, whatever delay the guard had: what an
// ordinary command of the same user undoes is no protection. It says what stays, and
// takes what is only kept by a setting.
func TestEmptyTrashWaitsForTheGuard(t *testing.T) {
	d, _, clock := newStore(t)
	for day := range 3 {
		mustBackUp(t, d, "", snap("vm/100", day+1))
	}
	must(t, d.Forget(t.Context(), "", snap("vm/100", 1)))
	clock.advance(30 * time.Hour)
	must(t, d.SetGuard(Guard{DeletionDelay: Duration(48 * time.Hour)}))
	must(t, d.Forget(t.Context(), "", snap("vm/100", 2)))
	last := clock.Now().Add(48 * time.Hour)
	for _, want := range []struct {
		after         time.Duration
		removed, stay int
	}{{0, 0, 2}, {18*time.Hour - time.Second, 0, 2}, {time.Second, 1, 1}, {30*time.Hour - time.Second, 0, 1}, {time.Second, 1, 0}} {
		clock.advance(want.after)
		removed, err := d.EmptyTrash(t.Context(), true)
		stay, is := err.(*held.InTrash)
		switch {
		case removed != want.removed || is != (want.stay > 0) || !is && err != nil:
			t.Fatalf("at %s: %d were removed, %v; want %+v", clock.Now(), removed, err, want)
		case is && (stay.Count() != want.stay || !stay.Until.Equal(last) || !errors.Is(err, ErrGuarded)):
			t.Errorf("at %s: %v; want %d until %s", clock.Now(), err, want.stay, last)
		}
		if is {
			hinted(t, "what stays", err)
		}
	}
	must(t, d.Forget(t.Context(), "", snap("vm/100", 3)))
	must(t, d.SetGuard(Guard{}))
	if removed, err := d.EmptyTrash(t.Context(), true); removed != 1 || err != nil {
		t.Errorf("without the guard %d were removed, %v", removed, err)
	}
}

// A clock that was three years ahead for a moment let young snapshots be forgotten, and
// with that they were gone. They stay in the trash while the guard keeps them.
func TestGuardedSnapshotForgottenInTheFuture(t *testing.T) {
	d, _, clock := newStore(t)
	none := Duration(0)
	must(t, d.SetSettings(Settings{TrashDelay: &none}))
	must(t, d.SetGuard(Guard{MinRetention: Duration(60 * 24 * time.Hour)})) // it is of a month ago
	s := snap("vm/100", 1)
	mustBackUp(t, d, "", s)
	clock.jump(3 * year)
	must(t, d.Forget(t.Context(), "", s))
	clock.jump(-3 * year)
	clock.advance(24 * time.Hour)
	for _, all := range []bool{false, true} {
		if removed, err := d.EmptyTrash(t.Context(), all); removed != 0 || all != errors.Is(err, ErrGuarded) || !all && err != nil {
			t.Errorf("all of it, %t: %d were removed, %v", all, removed, err)
		}
	}
	must(t, d.Undo(t.Context(), "", s))
	must(t, d.SetGuard(Guard{}))
	must(t, d.Forget(t.Context(), "", s))
	goes(t, "it is not guarded", d, 1)
}

func TestSettingsThatCannotBeRead(t *testing.T) {
	for _, file := range []string{settingsFile, guardFile} {
		for what, content := range map[string]string{"half a file": `{"min-retention": "1`, "a negative time": `{"min-retention":"-1h","trash-delay":"-1h"}`, "no JSON": "x"} {
			d, mem, c := newStore(t)
			must(t, d.Close())
			must(t, disk.WriteFileAtomic(mem, path.Join(storeDir, file), []byte(content), 0o600))
			_, err := Open(t.Context(), Config{Dir: storeDir, FS: mem, Now: c.Now})
			if err == nil || !strings.Contains(err.Error(), file) {
				t.Errorf("%s in %s: %v", what, file, err) // never "no guard"
			}
			hinted(t, what, err)
			must(t, mem.Remove(path.Join(storeDir, file)))
			must(t, openStore(t, mem, storeDir, c).Close())
		}
	}
}
