package warden

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
	"github.com/holdfast-mesh/holdfast/consensus/guard"
)

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// A store of groups with snapshots, one a day, whose trash keeps nothing for long.
func store(t *testing.T, c Config, groups, snapshots int) *catalog.Datastore {
	dir := t.TempDir()
	_, err := identity.Init(disk.OS{}, dir, 0)
	must(t, err)
	d, err := catalog.Open(t.Context(), catalog.Config{Dir: dir, Warden: c.Of("main")})
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	none := catalog.Duration(0)
	must(t, d.SetSettings(catalog.Settings{TrashDelay: &none}))
	for g := range groups {
		for s := snapshots - 1; s >= 0; s-- {
			w, err := d.Begin(t.Context(), "", at(g, s), "op@pbs")
			must(t, err)
			must(t, w.Finish(t.Context(), &catalog.Manifest{Type: naming.VM, ID: fmt.Sprint(100 + g), Time: at(g, s).Time}))
		}
	}
	return d
}

func at(g, s int) catalog.Snapshot {
	const day = 24 * time.Hour
	taken := time.Now().Truncate(day).Add(-time.Duration(s+1) * day)
	return catalog.Snapshot{Group: catalog.Group{Type: naming.VM, ID: fmt.Sprint(100 + g)}, Time: taken.Unix()}
}

func config(t *testing.T) Config {
	g, err := guard.Open(guard.Config{Dir: t.TempDir()})
	must(t, err)
	t.Cleanup(func() { must(t, g.Close()) })
	return Config{Guard: g, Age: func() time.Duration { return 0 }, Room: func(string) (disk.Space, error) { return disk.Space{TotalBytes: 100, FreeBytes: 50}, nil }}
}

func empty(t *testing.T, d *catalog.Datastore) int {
	t.Helper()
	n, err := d.EmptyTrash(t.Context(), false)
	must(t, err)
	return n
}

// What floors keep is neither forgotten nor pruned, and one that was raised later
// keeps what is in the trash.
func TestFloors(t *testing.T) {
	c := config(t)
	d := store(t, c, 1, 4)
	must(t, d.Forget(t.Context(), "", at(0, 0)))
	must(t, c.Guard.Raise("op", guard.Floor{Scope: "main", MinAge: int64(72 * time.Hour / time.Second)}))
	if err := d.Forget(t.Context(), "", at(0, 1)); !errors.Is(err, catalog.ErrGuarded) || !strings.Contains(err.Error(), "main keeps") {
		t.Errorf("forget: %v", err)
	}
	if n := empty(t, d); n != 0 {
		t.Errorf("%d went from the trash", n)
	}
	list, err := d.Prune(t.Context(), catalog.PruneOptions{Keep: catalog.Keep{Last: 1}})
	must(t, err)
	kept := 0
	for _, p := range list {
		if p.Keep {
			kept++
		}
	}
	if kept != 1 { // a day old one is in the trash; of those of 2, 3 and 4 days the newest stays by rule and floor
		t.Errorf("%d of %d are kept: %+v", kept, len(list), list)
	}
	if err := c.Of("main").MayLeave(); !errors.Is(err, catalog.ErrGuarded) {
		t.Errorf("destroy: %v", err)
	}
	must(t, c.Of("other").MayLeave(), c.Of("other").MayDestroy(t.Context(), d.Tree))
}

// Much at once opens the breaker before anything goes for good; when a person has
// looked, that goes, and no more.
func TestBreaker(t *testing.T) {
	c := config(t)
	d := store(t, c, 6, 5)
	for g := range 5 {
		for s := range 5 {
			must(t, d.Forget(t.Context(), "", at(g, s)))
		}
	}
	if n := empty(t, d); n != 0 || c.Guard.Tripped() == "" {
		t.Fatalf("%d went, the breaker is open: %q", n, c.Guard.Tripped())
	}
	must(t, d.Undo(t.Context(), "", at(0, 0)))
	time.Sleep(1100 * time.Millisecond) // the guard notes seconds
	must(t, c.Guard.CloseBreaker("op", "five guests were given up"))
	if n := empty(t, d); n != 24 || c.Guard.Tripped() != "" {
		t.Errorf("%d went, the breaker is open: %q", n, c.Guard.Tripped())
	}
}

// Whoever closed the breaker while the clock was three years ahead had looked at all that
// was removed in the next three years: it did not open any more, and whole datastores
// could be destroyed.
func TestBreakerThatWasClosedInTheFuture(t *testing.T) {
	c := config(t)
	ahead := time.Duration(0)
	g, err := guard.Open(guard.Config{Dir: t.TempDir(), Now: func() time.Time { return time.Now().Add(ahead) }})
	must(t, err)
	defer func() { must(t, g.Close()) }()
	c.Guard = g
	d := store(t, c, 6, 5)
	ahead = 3 * 365 * 24 * time.Hour
	must(t, g.CloseBreaker("op", "looked"))
	ahead = 0
	for g := range 5 {
		for s := range 5 {
			must(t, d.Forget(t.Context(), "", at(g, s)))
		}
	}
	if n := empty(t, d); n != 0 || g.Tripped() == "" {
		t.Errorf("%d went, the breaker is open: %q", n, g.Tripped())
	}
	if err := c.Of("main").MayDestroy(t.Context(), d.Tree); !errors.Is(err, catalog.ErrGuarded) {
		t.Errorf("destroy: %v", err)
	}
}

// Without the ledger for more than a day the trash stays, unless the disk is full.
func TestTrashWaitsForTheLedger(t *testing.T) {
	c := config(t)
	age, free := 25*time.Hour, int64(50)
	c.Age = func() time.Duration { return age }
	c.Room = func(string) (disk.Space, error) { return disk.Space{TotalBytes: 100, FreeBytes: free}, nil }
	d := store(t, c, 1, 3)
	must(t, d.Forget(t.Context(), "", at(0, 0)), d.Forget(t.Context(), "", at(0, 1)))
	if n := empty(t, d); n != 0 {
		t.Errorf("%d went after %s without the ledger", n, age)
	}
	free = 4
	if n := empty(t, d); n != 2 {
		t.Errorf("%d went though the disk is full", n)
	}
	age, free = time.Hour, 50
	must(t, d.Forget(t.Context(), "", at(0, 2)))
	if n := empty(t, d); n != 1 {
		t.Errorf("%d went after an hour", n)
	}
}
