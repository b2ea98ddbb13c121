package catalog

import (
	"path"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

func TestGuardForbids(t *testing.T) {
	filter := func(s string) (f Filters) {
		must(t, f.Set(s))
		return f
	}
	s := snap("vm/100", 10)
	at := func(d time.Duration) time.Time { return time.Unix(s.Time, 0).Add(d) }
	const day = 24 * time.Hour
	for _, row := range []struct {
		what  string
		guard Guard
		now   time.Time
		want  string
	}{
		{"nothing is guarded", Guard{}, at(0), ""},
		{"a snapshot of the future, and nothing is guarded", Guard{}, at(-day), ""},
		{"a young one", Guard{MinRetention: Duration(7 * day)}, at(7*day - time.Second), "it is kept for 168h0m0s, until 2026-01-18T12:00:00Z"},
		{"one that is old enough", Guard{MinRetention: Duration(7 * day)}, at(7 * day), ""},
		{"one of the future", Guard{MinRetention: Duration(time.Second)}, at(-day), "it is kept for 1s, until 2026-01-11T12:00:01Z"},
		{"a frozen group", Guard{Frozen: filter("group:vm/100")}, at(999 * day), "its group is frozen"},
		{"another frozen group", Guard{Frozen: filter("group:vm/101")}, at(0), ""},
		{"all but one are frozen", Guard{Frozen: filter("exclude:group:vm/100")}, at(0), ""},
		{"a delay is no retention", Guard{DeletionDelay: Duration(9 * day)}, at(0), ""},
	} {
		if got := row.guard.Forbids(s, row.now); got != row.want {
			t.Errorf("%s: %q, want %q", row.what, got, row.want)
		}
	}
}

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
	if removed, err := d.EmptyTrash(t.Context(), true); removed != 0 || err != nil {
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
		if removed, err := d.EmptyTrash(t.Context(), all); removed != 0 || err != nil {
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
