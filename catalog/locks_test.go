package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
)

// Who may work beside whom: the table of PBS protocol notes §9.5. All locks
// are tried, never waited for.
func TestWhoMayWorkBesideWhom(t *testing.T) {
	base, next := snap("vm/100", 1), snap("vm/100", 2)
	holders := map[string]func(t *testing.T, d *Datastore) func(){
		"a backup": func(t *testing.T, d *Datastore) func() {
			w, err := d.Begin(t.Context(), "", next, alice)
			must(t, err)
			return func() { must(t, w.Abort()) }
		},
		"a reader": func(t *testing.T, d *Datastore) func() {
			r, err := d.OpenSnapshot(t.Context(), "", base)
			must(t, err)
			return r.Close
		},
	}
	ctx := t.Context()
	for _, row := range []struct {
		holder, what string
		call         func(*Datastore) error
		want         error
	}{
		{"a backup", "another backup of the group", func(d *Datastore) error { return backup(ctx, d, "", snap("vm/100", 3), alice, 1) }, ErrBusy},
		{"a backup", "a backup of another group", func(d *Datastore) error { return backup(ctx, d, "", snap("vm/101", 3), alice, 1) }, nil},
		{"a backup", "forgetting its base", func(d *Datastore) error { return d.Forget(ctx, "", base) }, ErrBusy},
		{"a backup", "forgetting itself", func(d *Datastore) error { return d.Forget(ctx, "", next) }, ErrBusy},
		{"a backup", "forgetting an older snapshot", func(d *Datastore) error { return d.Forget(ctx, "", snap("vm/100", 0)) }, nil},
		{"a backup", "forgetting the group", func(d *Datastore) error { return second(d.ForgetGroup(ctx, "", base.Group)) }, ErrBusy},
		{"a backup", "removing the namespace of another", func(d *Datastore) error { return d.RemoveNamespace(ctx, "a", true) }, nil},
		{"a backup", "reading its base", func(d *Datastore) error { return verify(ctx, d, "", base, []uint64{1, 2, 3}) }, nil},
		{"a backup", "reading itself", func(d *Datastore) error { return second2(d.OpenSnapshot(ctx, "", next)) }, ErrBusy},
		{"a backup", "protecting its base", func(d *Datastore) error { return d.SetProtected("", base, true) }, ErrBusy},
		{"a backup", "notes on its base", func(d *Datastore) error { return d.SetNotes("", base, "x") }, nil},
		{"a backup", "taking something back into its group", func(d *Datastore) error {
			return errors.Join(d.Forget(ctx, "", snap("vm/100", 0)), d.Undo(ctx, "", snap("vm/100", 0)))
		}, ErrBusy},
		{"a backup", "a collection", func(d *Datastore) error { _, err := d.Collect(ctx, gc.Options{}); return err }, nil},
		{"a reader", "another reader", func(d *Datastore) error { return verify(ctx, d, "", base, []uint64{1, 2, 3}) }, nil},
		{"a reader", "forgetting it", func(d *Datastore) error { return d.Forget(ctx, "", base) }, ErrBusy},
		{"a reader", "forgetting the group", func(d *Datastore) error { return second(d.ForgetGroup(ctx, "", base.Group)) }, ErrBusy},
		{"a reader", "a backup on top of it", func(d *Datastore) error { return backup(ctx, d, "", next, alice, 1) }, nil},
		{"a reader", "the state of verification", func(d *Datastore) error {
			return d.UpdateManifest("", base, func(m *Manifest) error {
				return m.SetVerifyState(manifest.VerifyState{State: "ok", UPID: "UPID:x"})
			})
		}, nil},
		{"a reader", "protecting it", func(d *Datastore) error { return d.SetProtected("", base, true) }, ErrBusy},
	} {
		d, _, _ := newStore(t)
		must(t, d.CreateNamespace("a"))
		mustBackUp(t, d, "", snap("vm/100", 0))
		mustBackUp(t, d, "", base)
		free := holders[row.holder](t, d)
		wants(t, "beside "+row.holder+", "+row.what, row.call(d), row.want)
		free()
		if row.want == ErrBusy && row.what != "reading itself" && row.what != "forgetting itself" {
			if err := row.call(d); errors.Is(err, ErrBusy) {
				t.Errorf("after %s, %s: %v", row.holder, row.what, err)
			}
		}
		if d.locks.held.Len() > 0 {
			t.Errorf("after %s and %s there are locks: %v", row.holder, row.what, d.locks.held.Len())
		}
	}
}

func TestLocksAreGivenBackOnce(t *testing.T) {
	var l locks
	one, err := l.shared("x")
	must(t, err)
	two, err := l.shared("x")
	must(t, err)
	one()
	one()
	if _, err := l.exclusive("x"); !errors.Is(err, ErrBusy) {
		t.Errorf("exclusive while there is a reader: %v", err)
	}
	two()
	free, err := l.exclusive("x")
	must(t, err)
	wants(t, "shared while it is taken", second3(l.shared("x")), ErrBusy)
	free()
	free()
	three, err := l.shared("x")
	must(t, err)
	three()
	if n := l.held.Len(); n != 0 {
		t.Errorf("%d are held", n)
	}
}

func second3(_ func(), err error) error { return err }

// gone reports whether err says that something was removed meanwhile.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// tolerable reports whether err is one that work at the same time may cause.
func tolerable(err error) bool {
	return err == nil || errors.Is(err, ErrBusy) || errors.Is(err, gc.ErrRunning) || errors.Is(err, context.Canceled)
}

// Backups of several groups, prunes, readers, collections, lists, notes and
// undos at the same time: nobody loses a chunk of what is live, and lists have
// whole snapshots.
func TestEverythingAtOnce(t *testing.T) {
	d, _, clock := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rounds := 12
	if raceEnabled {
		rounds = 6
	}
	content := sync.Map{} // seeds by snapshot
	var work, backups errgroup.Group
	for g := range 3 {
		backups.Go(func() error {
			rng := rand.New(rand.NewPCG(uint64(g), 2))
			for day := range rounds {
				s, seeds := snap(fmt.Sprintf("vm/%d", 100+g), day), []uint64{rng.Uint64N(30), rng.Uint64N(30), rng.Uint64N(30)}
				content.Store(s, seeds)
				if err := backup(ctx, d, "", s, alice, seeds...); !tolerable(err) { // somebody may be undoing
					return fmt.Errorf("backup %s: %w", s, err)
				}
			}
			return nil
		})
	}
	again := func(what string, do func(rng *rand.Rand) error) {
		work.Go(func() error {
			rng := rand.New(rand.NewPCG(7, 7))
			for ctx.Err() == nil {
				if err := do(rng); !tolerable(err) {
					return fmt.Errorf("%s: %w", what, err)
				}
			}
			return nil
		})
	}
	again("collect", func(*rand.Rand) error {
		clock.advance(DefaultTrashDelay / 4)
		_, err := d.Collect(ctx, gc.Options{Urgent: true})
		return err
	})
	again("prune", func(*rand.Rand) error {
		_, err := d.Prune(ctx, PruneOptions{Depth: -1, Keep: Keep{Last: 2}})
		return err
	})
	again("read", func(rng *rand.Rand) error { return readSome(ctx, d, rng, &content) })
	again("list", func(*rand.Rand) error {
		list, err := d.List(ctx, ListOptions{Depth: -1})
		for _, i := range list {
			if i.Finished() && len(i.Files) != 3 {
				return fmt.Errorf("snapshot %s has files %v", i.Snapshot(), i.Files)
			}
		}
		return err
	})
	if err := backups.Wait(); err != nil {
		t.Error(err)
	}
	cancel()
	if err := work.Wait(); err != nil {
		t.Error(err)
	}
	checkAll(t, d, &content)
}

// readSome reads a snapshot, writes down that it is good, and takes one back
// from the trash now and then.
func readSome(ctx context.Context, d *Datastore, rng *rand.Rand, content *sync.Map) error {
	list, err := d.List(ctx, ListOptions{Depth: -1})
	if err != nil || len(list) == 0 {
		return err
	}
	s := list[rng.IntN(len(list))].Snapshot()
	seeds, _ := content.Load(s)
	err = verify(ctx, d, "", s, seeds.([]uint64))
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	err = d.UpdateManifest("", s, func(m *Manifest) error {
		return m.SetVerifyState(manifest.VerifyState{State: "ok", UPID: "UPID:x"})
	})
	if err != nil && !gone(err) {
		return err
	}
	if trash, err := d.Trash(); err == nil && len(trash) > 0 && rng.IntN(3) == 0 {
		if err := d.Undo(ctx, "", trash[0].Snapshot); !tolerable(err) && !gone(err) {
			return err
		}
	}
	return nil
}

// checkAll reads everything that is live or in the trash at the end.
func checkAll(t *testing.T, d *Datastore, content *sync.Map) {
	t.Helper()
	ctx := t.Context()
	trash, err := d.Trash()
	must(t, err)
	for _, e := range trash {
		must(t, d.Undo(ctx, "", e.Snapshot))
	}
	list, err := d.List(ctx, ListOptions{Depth: -1})
	must(t, err)
	for _, i := range list {
		seeds, _ := content.Load(i.Snapshot())
		if err := verify(ctx, d, "", i.Snapshot(), seeds.([]uint64)); err != nil {
			t.Errorf("snapshot %s: %v", i.Snapshot(), err)
		}
	}
	if len(list) < 6 || d.locks.held.Len() > 0 || len(d.Collector().Leases()) > 0 {
		t.Errorf("%d snapshots are left; locks %v, leases %v", len(list), d.locks.held.Len(), d.Collector().Leases())
	}
}
