package catalog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
)

// A disk that fails one operation, any, makes one step fail with an error that
// names the trouble, or none at all. Work goes on without a start, a start
// finds everything that was acknowledged, and so does one after a power cut.
func TestFailingDisk(t *testing.T) {
	for _, c := range histories(1) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHistory()
			must(t, h.run(t.Context(), c.steps(h)))
			step := 13
			switch {
			case os.Getenv("HOLDFAST_SOAK") != "":
				step = 1
			case raceEnabled:
				step = 67
			}
			failed := 0
			for at := 1; at <= h.mem.Ops() && !t.Failed(); at += step {
				failed += failOnce(t, c, at)
			}
			if t.Logf("%d of %d operations failed a step", failed, h.mem.Ops()/step); failed == 0 {
				t.Error("no step ever failed: the test tests nothing")
			}
		})
	}
}

// failOnce runs a history on a disk that fails the operation at, and looks at
// what is left. It returns whether a step failed.
func failOnce(t *testing.T, c historyCase, at int) (failed int) {
	t.Helper()
	h := newHistory()
	broken := fmt.Errorf("operation %d: %w", at, syscall.EIO)
	h.mem.FailAt(at, broken)
	err := h.run(t.Context(), c.steps(h))
	if err != nil && !errors.Is(err, syscall.EIO) && !strings.Contains(err.Error(), gc.ErrLost.Error()) {
		t.Errorf("%v became %v", broken, err)
	}
	if h.d == nil { // failed before it was opened; that may be repeated
		if err == nil {
			t.Errorf("%v went unseen", broken)
		}
		return 1
	}
	power := h.mem.CrashLosing // before or after the process ended in order
	after := h.clone(nil)
	if at%2 == 0 {
		after.mem = power()
		h.d.Close() // fails; it lets go of goroutines
	} else {
		h.d.Close() // may fail as well
		after.mem = power()
	}
	if err := after.check(t.Context()); err != nil {
		t.Errorf("after %v: %v", broken, err)
	}
	if err != nil {
		return 1
	}
	return 0
}

// After a failed operation the same datastore, still open, does what it did
// before.
func TestWorkGoesOnAfterFailure(t *testing.T) {
	type method struct {
		name string
		do   func(context.Context, *Datastore) error
	}
	s := snap("vm/100", 1)
	for _, m := range []method{
		{"back up", func(ctx context.Context, d *Datastore) error {
			return backup(ctx, d, "", snap("vm/100", 2), alice, 4, 5)
		}},
		{"forget", func(ctx context.Context, d *Datastore) error { return d.Forget(ctx, "", s) }},
		{"take back", func(ctx context.Context, d *Datastore) error { return d.Undo(ctx, "", snap("vm/100", 0)) }},
		{"protect", func(_ context.Context, d *Datastore) error { return d.SetProtected("", s, true) }},
		{"note", func(_ context.Context, d *Datastore) error { return d.SetNotes("", s, "x") }},
		{"give away", func(_ context.Context, d *Datastore) error { return d.SetOwner("", s.Group, alice) }},
		{"make a namespace", func(_ context.Context, d *Datastore) error { return d.CreateNamespace("a") }},
		{"empty the trash", func(ctx context.Context, d *Datastore) error { return second(d.EmptyTrash(ctx, true)) }},
		{"collect", func(ctx context.Context, d *Datastore) error { _, err := d.Collect(ctx, gc.Options{}); return err }},
	} {
		for at := 1; ; at++ {
			d, mem, _ := newStore(t)
			mustBackUp(t, d, "", snap("vm/100", 0))
			must(t, d.Forget(t.Context(), "", snap("vm/100", 0)))
			mustBackUp(t, d, "", s)
			ops := mem.Ops()
			mem.SetHook(func(op disktest.Op) error {
				if op.Seq == ops+at {
					return syscall.EIO
				}
				return nil
			})
			err := m.do(t.Context(), d)
			mem.SetHook(nil)
			last := mem.Ops() < ops+at
			if err != nil && !errors.Is(err, syscall.EIO) && !errors.Is(err, gc.ErrLost) {
				t.Errorf("%s, operation %d: %v", m.name, at, err)
			}
			if then := workOn(t.Context(), d, s); then != nil {
				t.Errorf("%s, operation %d failed with %v; then %v", m.name, at, err, then)
			}
			must(t, d.Close())
			if last {
				break
			}
		}
	}
}

// workOn does everything that an operator would try after a failure.
func workOn(ctx context.Context, d *Datastore, s Snapshot) error {
	if _, err := d.Manifest("", s); err != nil { // it is in the trash
		if err := d.Undo(ctx, "", s); err != nil {
			return err
		}
	}
	if err := verify(ctx, d, "", s, []uint64{1, 2, 3}); err != nil {
		return err
	}
	if err := backup(ctx, d, "", snap("vm/100", 7), alice, 1, 6, 7); err != nil {
		return err
	}
	if err := errors.Join(d.SetProtected("", s, true), d.SetProtected("", s, false), d.Forget(ctx, "", s), d.Undo(ctx, "", s)); err != nil {
		return err
	}
	if _, err := d.Collect(ctx, gc.Options{}); err != nil {
		return err
	}
	return errors.Join(verify(ctx, d, "", s, []uint64{1, 2, 3}), verify(ctx, d, "", snap("vm/100", 7), []uint64{1, 6, 7}))
}

// A namespace whose maker failed to make it durable becomes durable with the
// first backup in it.
func TestHalfMadeNamespace(t *testing.T) {
	d, mem, clock := newStore(t)
	mem.SetHook(func(op disktest.Op) error {
		if op.Kind == disktest.SyncDir {
			return syscall.EIO
		}
		return nil
	})
	for ns := Namespace("a"); ; { // until it is there
		err := d.CreateNamespace(ns)
		wants(t, "make a namespace", err, syscall.EIO)
		if there, err := d.HasNamespace(ns); there || err != nil {
			must(t, err)
			break
		}
	}
	mem.SetHook(nil)
	mustBackUp(t, d, "a", snap("vm/100", 1))
	mem = mem.CrashLosing()
	d.Close() // fails; it lets go of goroutines
	d = openStore(t, mem, storeDir, clock)
	must(t, verify(t.Context(), d, "a", snap("vm/100", 1), []uint64{1, 2, 3}))
}

// A full disk refuses backups with an error that says so and what to do, and
// lets the trash be emptied and garbage be collected.
func TestFullDisk(t *testing.T) {
	for free := int64(0); free <= 40; free += 2 {
		d, mem, clock := newStore(t)
		mustBackUp(t, d, "", snap("vm/100", 1), 1, 2, 3)
		mustBackUp(t, d, "", snap("vm/100", 2), 3, 4, 5)
		must(t, d.Forget(t.Context(), "", snap("vm/100", 1)))
		s, err := mem.Space(storeDir)
		must(t, err)
		mem.SetLimit(s.TotalBytes - s.FreeBytes + free*4096)
		acked := map[int][]uint64{2: {3, 4, 5}}
		full := false
		for day := 3; day < 40 && !full; day++ {
			seeds := []uint64{uint64(day) * 3, uint64(day)*3 + 1, uint64(day)*3 + 2}
			err := backup(t.Context(), d, "", snap("vm/100", day), alice, seeds...)
			switch {
			case err == nil:
				acked[day] = seeds
			case errors.Is(err, chunks.ErrNoSpace):
				full = true
			default:
				t.Errorf("%d pages free, backup %d: %v", free, day, err)
			}
		}
		if !full {
			t.Fatalf("%d pages free, and the disk never got full", free)
		}
		if at := int(free / 2 % 2); at == 1 { // a start on a full disk
			d.Close() // fails if what was put last cannot be written
			d = openStore(t, mem, storeDir, clock)
		}
		if removed, err := d.EmptyTrash(t.Context(), true); removed != 1 || err != nil {
			t.Errorf("%d pages free, %d were removed from the trash, %v", free, removed, err)
		}
		if _, err := d.Collect(t.Context(), gc.Options{Urgent: true}); err != nil {
			t.Errorf("%d pages free, collect: %v", free, err)
		}
		if !all(known(d, 1, 2), false) {
			t.Errorf("%d pages free, garbage is still there", free)
		}
		for day, seeds := range acked {
			if err := verify(t.Context(), d, "", snap("vm/100", day), seeds); err != nil {
				t.Errorf("%d pages free, snapshot %d: %v", free, day, err)
			}
		}
		mem.SetLimit(0)
		must(t, backup(t.Context(), d, "", snap("vm/100", 90), alice, 1, 2, 3))
		d.Close() // as above
	}
}
