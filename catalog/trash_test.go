package catalog

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
)

// known reports which chunks of seeds the store has.
func known(d *Datastore, seeds ...uint64) (got []bool) {
	for _, seed := range seeds {
		got = append(got, d.Chunks().Known(chunk(seed).Digest))
	}
	return got
}

func all(got []bool, want bool) bool {
	for _, g := range got {
		if g != want {
			return false
		}
	}
	return true
}

func TestForgottenSnapshotComesBack(t *testing.T) {
	d, _, clock := newStore(t)
	s := snap("vm/100", 1)
	mustBackUp(t, d, "", s, 1, 2, 3)
	must(t, d.SetNotes("", s, "keep me"))
	must(t, d.Forget(t.Context(), "", s))
	if list, err := d.Trash(); err != nil || len(list) != 1 || list[0].Snapshot != s || list[0].Owner != alice ||
		!list[0].Removed.Equal(clock.Now()) || !list[0].Until.Equal(clock.Now().Add(DefaultTrashDelay)) {
		t.Fatalf("trash is %+v, %v", list, err)
	}
	wants(t, "forget it again", d.Forget(t.Context(), "", s), fs.ErrNotExist)
	clock.advance(DefaultTrashDelay - time.Second)
	_, err := d.Collect(t.Context(), gc.Options{})
	must(t, err)
	must(t, d.Undo(t.Context(), "", s))
	must(t, verify(t.Context(), d, "", s, []uint64{1, 2, 3}))
	if m, err := d.Manifest("", s); err != nil || m.Notes() != "keep me" {
		t.Errorf("manifest came back with notes %q, %v", m.Notes(), err)
	}
	err = d.Undo(t.Context(), "", s)
	wants(t, "undo it again", err, fs.ErrNotExist)
	hinted(t, "undo it again", err)

	must(t, d.Forget(t.Context(), "", s))
	clock.advance(DefaultTrashDelay)
	// The plan did not know that the trash is emptied first, and promised nothing.
	r, err := d.Collect(t.Context(), gc.Options{DryRun: true})
	if must(t, err); r.Plan.DeadChunks != 3 {
		t.Errorf("a dry run says that %d chunks go, want 3", r.Plan.DeadChunks)
	}
	if list, _ := d.Trash(); len(list) != 1 || !all(known(d, 1, 2, 3), true) {
		t.Error("a dry run removed something")
	}
	_, err = d.Collect(t.Context(), gc.Options{})
	must(t, err)
	if list, _ := d.Trash(); len(list) != 0 || !all(known(d, 1, 2, 3), false) {
		t.Errorf("after the delay the trash is %+v, chunks are there: %v", list, known(d, 1, 2, 3))
	}
}

func TestUndoRefuses(t *testing.T) {
	d, _, _ := newStore(t)
	s := snap("vm/100", 1)
	mustBackUp(t, d, "", s, 1)
	must(t, d.Forget(t.Context(), "", s))
	w, err := d.Begin(t.Context(), "", s, alice) // as there is none of that time, it may be made again
	must(t, err)
	wants(t, "while a backup of the group is running", d.Undo(t.Context(), "", s), ErrBusy)
	m, err := fill(t.Context(), w, s, 2)
	must(t, err)
	must(t, w.Finish(t.Context(), m))
	wants(t, "while there is another of that name", d.Undo(t.Context(), "", s), fs.ErrExist)
	must(t, verify(t.Context(), d, "", s, []uint64{2}))

	must(t, d.Forget(t.Context(), "", s)) // the trash has both
	if list, err := d.Trash(); err != nil || len(list) != 2 {
		t.Fatalf("trash is %+v, %v", list, err)
	}
	removed, err := d.EmptyTrash(t.Context(), true)
	if err != nil || removed != 2 {
		t.Errorf("%d were removed, %v", removed, err)
	}
}

// Of two removed snapshots of one name, the one that was removed last comes
// back.
func TestUndoTakesTheLatest(t *testing.T) {
	d, _, clock := newStore(t)
	s := snap("vm/100", 1)
	for _, seed := range []uint64{1, 2, 3} {
		mustBackUp(t, d, "", s, seed)
		must(t, d.Forget(t.Context(), "", s))
		clock.advance(time.Minute)
	}
	must(t, d.Undo(t.Context(), "", s))
	must(t, verify(t.Context(), d, "", s, []uint64{3}))
}

func TestUndoOfGroupThatIsGone(t *testing.T) {
	d, _, _ := newStore(t)
	must(t, errors.Join(d.CreateNamespace("a"), d.CreateNamespace("a/b")))
	mustBackUp(t, d, "a/b", snap("vm/100", 1), 1)
	must(t, d.RemoveNamespace(t.Context(), "a", true))
	if ok, err := d.HasNamespace("a"); ok || err != nil {
		t.Fatalf("namespace is there: %v, %v", ok, err)
	}
	must(t, d.Undo(t.Context(), "a/b", snap("vm/100", 1)))
	must(t, verify(t.Context(), d, "a/b", snap("vm/100", 1), []uint64{1}))
	if owner, err := d.Owner("a/b", group("vm/100")); err != nil || owner != alice {
		t.Errorf("owner is %q, %v", owner, err)
	}
}

// A snapshot that was damaged when it was forgotten comes back as it was.
func TestUndoOfDamagedSnapshot(t *testing.T) {
	d, _, _ := newStore(t)
	s := snap("vm/100", 1)
	mustBackUp(t, d, "", s, 1, 2)
	must(t, d.Forget(t.Context(), "", s))
	ref, ok := d.Chunks().Lookup(chunk(1).Digest)
	if !ok {
		t.Fatal("the chunk is not there")
	}
	must(t, d.Chunks().Quarantine(ref))
	must(t, d.Undo(t.Context(), "", s))
	if i, err := d.Describe("", s); err != nil || !i.Finished() || len(d.Collector().Leases()) > 0 {
		t.Errorf("it is %+v, %v; leases %v", i, err, d.Collector().Leases())
	}
}

// An entry of the trash that cannot be read keeps its chunks, and nobody from
// emptying the rest.
func TestDamagedEntryOfTrash(t *testing.T) {
	d, mem, _ := newStore(t)
	for day, seed := range []uint64{1, 2} {
		mustBackUp(t, d, "", snap("vm/100", day+1), seed)
	}
	for day := range 2 {
		must(t, d.Forget(t.Context(), "", snap("vm/100", day+1)))
	}
	list, err := d.Trash()
	must(t, err)
	damaged, other := list[0], list[1]
	origin := path.Join(d.Dir, trashDir, damaged.id, originFile)
	mem.TruncateFile(origin, 10)
	list, err = d.Trash()
	if len(list) != 1 || err == nil || !strings.Contains(err.Error(), damaged.id) {
		t.Errorf("trash is %+v, %v", list, err)
	}
	if err := d.Undo(t.Context(), "", damaged.Snapshot); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("undo of it: %v", err)
	}
	must(t, d.Undo(t.Context(), "", other.Snapshot))
	must(t, d.Forget(t.Context(), "", other.Snapshot))
	removed, err := d.EmptyTrash(t.Context(), true)
	if removed != 1 || err == nil {
		t.Errorf("%d were removed, %v", removed, err)
	}
	if report, err := d.Collect(t.Context(), gc.Options{}); err == nil || report.IndexFiles != 1 {
		t.Errorf("collection found %d indexes, %v", report.IndexFiles, err)
	}
	seed := uint64(damaged.Snapshot.Time-day0.Unix()) / 86400
	if !all(known(d, seed), true) || !all(known(d, 3-seed), false) {
		t.Errorf("chunks are there: %v", known(d, 1, 2))
	}
}

func TestForgetRefuses(t *testing.T) {
	d, _, _ := newStore(t)
	mustBackUp(t, d, "", snap("vm/100", 1))
	mustBackUp(t, d, "", snap("vm/100", 2))
	must(t, d.SetProtected("", snap("vm/100", 1), true))
	r, err := d.OpenSnapshot(t.Context(), "", snap("vm/100", 2))
	must(t, err)
	defer r.Close()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, row := range []struct {
		what string
		err  error
		want error
	}{
		{"a protected snapshot", d.Forget(t.Context(), "", snap("vm/100", 1)), ErrProtected},
		{"one that is being read", d.Forget(t.Context(), "", snap("vm/100", 2)), ErrBusy},
		{"one that is not there", d.Forget(t.Context(), "", snap("vm/100", 3)), fs.ErrNotExist},
		{"a group that is not there", second(d.ForgetGroup(t.Context(), "", group("vm/7"))), fs.ErrNotExist},
		{"a namespace that is not there", d.Forget(t.Context(), "a", snap("vm/100", 1)), fs.ErrNotExist},
	} {
		wants(t, row.what, row.err, row.want)
		hinted(t, row.what, row.err)
	}
	wants(t, "a client that went away", d.Forget(cancelled, "", snap("vm/100", 2)), context.Canceled)
	if list, err := d.Trash(); err != nil || len(list) != 0 {
		t.Errorf("trash is %+v, %v", list, err)
	}
}

func second(_ int, err error) error { return err }

// A snapshot that was never finished is no snapshot: it is removed at once,
// whatever guards the others.
func TestForgetUnfinished(t *testing.T) {
	d, _, _ := newStore(t)
	must(t, d.SetGuard(Guard{MinRetention: Duration(1000 * 24 * time.Hour)}))
	s := snap("vm/100", 1)
	must(t, disk.MkdirAll(d.FS, d.snapDir("", s), 0o755))
	must(t, disk.WriteFileAtomic(d.FS, path.Join(d.snapDir("", s), "x.blob"), []byte("x"), 0o600))
	must(t, d.Forget(t.Context(), "", s))
	if _, err := d.Describe("", s); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	if list, err := d.Trash(); err != nil || len(list) != 0 {
		t.Errorf("trash is %+v, %v", list, err)
	}
}

func TestForgetGroup(t *testing.T) {
	d, _, _ := newStore(t)
	g := group("vm/100")
	for day := range 4 {
		mustBackUp(t, d, "", snap("vm/100", day))
	}
	must(t, errors.Join(d.SetGroupNotes("", g, "notes"), d.SetProtected("", snap("vm/100", 2), true)))
	removed, err := d.ForgetGroup(t.Context(), "", g)
	if removed != 3 || !errors.Is(err, ErrProtected) || !strings.Contains(err.Error(), "only partially deleted") {
		t.Fatalf("%d removed, %v", removed, err)
	}
	if owner, err := d.Owner("", g); owner != alice {
		t.Errorf("owner of what is left is %q, %v", owner, err)
	}
	must(t, d.SetProtected("", snap("vm/100", 2), false))
	must(t, disk.WriteFileAtomic(d.FS, path.Join(d.groupDir("", g), "owner.tmp-0123456789abcdef"), []byte("x"), 0o600)) // of a crash
	if removed, err := d.ForgetGroup(t.Context(), "", g); removed != 1 || err != nil {
		t.Fatalf("%d removed, %v", removed, err)
	}
	if _, err := d.FS.Stat(d.groupDir("", g)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the group is still there: %v", err)
	}
	must(t, backup(t.Context(), d, "", snap("vm/100", 9), bob, 1)) // the name is free
	must(t, disk.WriteFileAtomic(d.FS, path.Join(d.groupDir("", g), "README"), []byte("x"), 0o600))
	if removed, err := d.ForgetGroup(t.Context(), "", g); removed != 1 || err != nil {
		t.Errorf("%d removed, %v", removed, err)
	}
	if _, err := d.FS.Stat(path.Join(d.groupDir("", g), "README")); err != nil {
		t.Errorf("what somebody put there: %v", err)
	}
}
