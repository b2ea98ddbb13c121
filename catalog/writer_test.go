package catalog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/listing"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
)

// hinted fails the test unless err says what somebody can do about it.
func hinted(t *testing.T, what string, err error) {
	t.Helper()
	var h interface{ Hint() string }
	if !errors.As(err, &h) || h.Hint() == "" {
		t.Errorf("%s: %v has no hint", what, err)
	}
}

func TestBeginRefuses(t *testing.T) {
	d, _, _ := newStore(t)
	must(t, d.CreateNamespace("a"))
	mustBackUp(t, d, "a", snap("vm/100", 5))
	running, err := d.Begin(t.Context(), "", snap("vm/7", 1), alice)
	must(t, err)
	defer running.Abort()
	for _, row := range []struct {
		what  string
		ns    Namespace
		s     Snapshot
		owner string
		want  error
	}{
		{"a namespace that is not there", "b", snap("vm/100", 9), alice, fs.ErrNotExist},
		{"somebody else's group", "a", snap("vm/100", 9), bob, ErrOwner},
		{"a token of the owner", "a", snap("vm/100", 9), alice + "!token", ErrOwner},
		{"the same time again", "a", snap("vm/100", 5), alice, fs.ErrExist},
		{"an earlier time", "a", snap("vm/100", 4), alice, fs.ErrExist},
		{"a group with a running backup", "", snap("vm/7", 2), alice, ErrBusy},
		{"the running snapshot itself", "", snap("vm/7", 1), alice, ErrBusy},
	} {
		_, err := d.Begin(t.Context(), row.ns, row.s, row.owner)
		wants(t, row.what, err, row.want)
		hinted(t, row.what, err)
	}
	if _, err := d.Begin(t.Context(), "", snap("vm/8", 1), "nobody"); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("an owner who is no user: %v", err)
	}
	if _, err := d.Owner("", group("vm/8")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refused backup made a group: %v", err)
	}
	must(t, backup(t.Context(), d, "a", snap("vm/100", 6), alice, 1))
}

// A namespace of all the length and depth that PBS allows takes a backup.
func TestLongestNames(t *testing.T) {
	d, _, _ := newStore(t)
	ns := Namespace("")
	for range 7 {
		child, err := ns.Child(strings.Repeat("n", 32))
		must(t, err)
		ns = child
		must(t, d.CreateNamespace(ns))
	}
	s := snap("vm/"+strings.Repeat("i", 255), 1)
	mustBackUp(t, d, ns, s)
	list, err := d.List(t.Context(), ListOptions{Depth: -1})
	if err != nil || len(list) != 1 || !list[0].Finished() {
		t.Errorf("list has %d, %v", len(list), err)
	}
}

// What is put and what the manifest says must agree, or nothing is published.
func TestFinishChecks(t *testing.T) {
	s := snap("vm/100", 1)
	other := chunktest.Encode([]byte("something else"), chunks.EncodeOptions{}).Blob
	for _, row := range []struct {
		what   string
		change func(w *Writer, m *Manifest) error
		want   string
	}{
		{"a manifest of another time", func(_ *Writer, m *Manifest) error { m.Time++; return nil }, "manifest is that of"},
		{"a manifest of another guest", func(_ *Writer, m *Manifest) error { m.ID = "101"; return nil }, "manifest is that of"},
		{"a file that was not sent", func(_ *Writer, m *Manifest) error {
			return m.Add(manifest.File{Name: "x.blob", Csum: sha256.Sum256(other)})
		}, "which was not sent"},
		{"another sum", func(_ *Writer, m *Manifest) error { m.Files[0].Csum[0]++; return nil }, "is not what the manifest says"},
		{"another size", func(_ *Writer, m *Manifest) error { m.Files[1].Size++; return nil }, "is not what the manifest says"},
		{"a chunk that was not sent", func(w *Writer, m *Manifest) error {
			x, err := index(1, 99)
			if err != nil {
				return err
			}
			return errors.Join(w.PutIndex("more.didx", x), m.Add(manifest.File{Name: "more.didx", Size: uint64(x.Size()), Csum: x.Csum()}))
		}, "1 chunks are missing"},
	} {
		d, mem, _ := newStore(t)
		w, err := d.Begin(t.Context(), "", s, alice)
		must(t, err)
		m, err := fill(t.Context(), w, s, 1, 2)
		must(t, errors.Join(err, row.change(w, m)))
		if err := w.Finish(t.Context(), m); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", row.what, err, row.want)
		}
		if _, err := d.OpenSnapshot(t.Context(), "", s); !errors.Is(err, ErrBusy) {
			t.Errorf("%s: the snapshot can be read: %v", row.what, err)
		}
		must(t, w.Abort())
		must(t, w.Abort()) // does nothing
		nothingLeft(t, d, mem, row.what)
	}
}

// PBS takes files that the manifest does not list. They are kept like the
// others: shown, readable, and with chunks that no collection takes.
func TestFileThatIsNotListed(t *testing.T) {
	d, _, _ := newStore(t)
	s := snap("vm/100", 1)
	w, err := d.Begin(t.Context(), "", s, alice)
	must(t, err)
	m, err := fill(t.Context(), w, s, 1, 2)
	must(t, err)
	extra := chunktest.Encode([]byte("of nobody else"), chunks.EncodeOptions{})
	_, err = w.Session().Put(t.Context(), extra.Digest, extra.Blob)
	must(t, err)
	var b chunks.DynamicBuilder
	must(t, b.Append(14, extra.Digest))
	x, err := b.Finish(chunks.NewUUID(), time.Unix(1, 0))
	must(t, err)
	must(t, w.PutIndex("more.didx", x))
	if got := w.Unlisted(m); !slices.Equal(got, []string{"more.didx"}) {
		t.Errorf("unlisted: %v", got)
	}
	must(t, w.Finish(t.Context(), m))
	_, err = d.Collect(t.Context(), gc.Options{})
	must(t, err)
	if _, err := d.Chunks().Get(t.Context(), extra.Digest, nil); err != nil {
		t.Errorf("its chunk is gone: %v", err)
	}
	info, err := d.Describe("", s)
	must(t, err)
	if !slices.ContainsFunc(info.Files, func(f listing.File) bool { return f.Name == "more.didx" }) {
		t.Errorf("it is not shown: %+v", info.Files)
	}
}

// nothingLeft fails the test unless all that is left of backups is owners.
func nothingLeft(t *testing.T, d *Datastore, mem *disktest.Mem, what string) {
	t.Helper()
	for _, file := range mem.Names() {
		top, _, below := strings.Cut(strings.TrimPrefix(file, d.Dir+"/"), "/")
		if below && top != "packs" && top != "index" && top != "gc" && path.Base(file) != ownerName {
			t.Errorf("%s: there is still %s", what, file)
		}
	}
	if leases := d.Collector().Leases(); len(leases) > 0 {
		t.Errorf("%s: there is still a lease %+v", what, leases)
	}
}

func TestFinishCanBeRepeated(t *testing.T) {
	d, _, _ := newStore(t)
	s := snap("vm/100", 1)
	w, err := d.Begin(t.Context(), "", s, alice)
	must(t, err)
	m, err := fill(t.Context(), w, s, 1, 2)
	must(t, err)
	x, err := index(3)
	must(t, err)
	must(t, errors.Join(w.PutIndex("more.didx", x), m.Add(manifest.File{Name: "more.didx", Size: uint64(x.Size()), Csum: x.Csum()})))
	var missing *gc.MissingError
	if err := w.Finish(t.Context(), m); !errors.As(err, &missing) || missing.Digests[0] != chunk(3).Digest {
		t.Fatalf("Finish without a chunk: %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	wants(t, "Finish of a client that went away", w.Finish(cancelled, m), context.Canceled)
	_, err = w.Session().Put(t.Context(), chunk(3).Digest, chunk(3).Blob)
	must(t, err)
	must(t, w.Finish(t.Context(), m))
	must(t, w.Abort()) // does nothing
	r, err := d.OpenSnapshot(t.Context(), "", s)
	must(t, err)
	r.Close()
}

func TestPutRefuses(t *testing.T) {
	d, mem, _ := newStore(t)
	w, err := d.Begin(t.Context(), "", snap("vm/100", 1), alice)
	must(t, err)
	x, err := index(1)
	must(t, err)
	b := chunktest.Encode([]byte("x"), chunks.EncodeOptions{}).Blob
	must(t, errors.Join(w.PutIndex("a.didx", x), w.PutBlob("a.blob", b)))
	before := mem.Names()
	for what, err := range map[string]error{
		"an index that is there":           w.PutIndex("a.didx", x),
		"an index called a blob":           w.PutIndex("b.blob", x),
		"a blob called an index":           w.PutBlob("b.fidx", b),
		"a manifest":                       w.PutBlob(manifestName, b),
		"a damaged blob":                   w.PutBlob("b.blob", append(slices.Clone(b), 'x')),
		"a name that leads elsewhere":      w.PutBlob("../b.blob", b),
		"a name without ending":            w.PutBlob("b", b),
		"a hidden name":                    w.PutBlob(".b.blob", b),
		"an index whose name leads deeper": w.PutIndex("b/c.didx", x),
	} {
		if err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	if after := mem.Names(); !slices.Equal(before, after) {
		t.Errorf("files are %q, were %q", after, before)
	}
	must(t, w.Abort())
}

// Clients may send a blob again: the last one counts (PBS protocol notes §3.4).
func TestABlobReplacesAnother(t *testing.T) {
	d, _, _ := newStore(t)
	s := snap("vm/100", 1)
	w, err := d.Begin(t.Context(), "", s, alice)
	must(t, err)
	first, last := chunktest.Encode([]byte("first"), chunks.EncodeOptions{}).Blob, chunktest.Encode([]byte("last"), chunks.EncodeOptions{}).Blob
	must(t, errors.Join(w.PutBlob("a.blob", first), w.PutBlob("a.blob", last)))
	m := manifest.New(s)
	must(t, m.Add(manifest.File{Name: "a.blob", Size: uint64(len(last)), Csum: sha256.Sum256(last), CryptMode: manifest.None}))
	must(t, w.Finish(t.Context(), m))
	r, err := d.OpenSnapshot(t.Context(), "", s)
	must(t, err)
	defer r.Close()
	if got, err := r.Blob("a.blob"); err != nil || !bytes.Equal(got, last) {
		t.Errorf("the blob is %q, %v, want the last one", got, err)
	}
}

// A file that could not be written may be put again, and does not count until
// then.
func TestPutCanBeRepeated(t *testing.T) {
	for _, kind := range []disktest.Kind{disktest.Create, disktest.Write, disktest.Sync, disktest.Rename} {
		d, mem, _ := newStore(t)
		s := snap("vm/100", 1)
		w, err := d.Begin(t.Context(), "", s, alice)
		must(t, err)
		m, err := fill(t.Context(), w, s, 1)
		must(t, err)
		b := chunktest.Encode([]byte("x"), chunks.EncodeOptions{}).Blob
		must(t, m.Add(manifest.File{Name: "x.blob", Size: uint64(len(b)), Csum: sha256.Sum256(b)}))
		broken := errors.New("the disk is broken")
		mem.SetHook(func(op disktest.Op) error {
			if op.Kind == kind {
				return broken
			}
			return nil
		})
		wants(t, kind.String(), w.PutBlob("x.blob", b), broken)
		mem.SetHook(nil)
		if err := w.Finish(t.Context(), m); err == nil || !strings.Contains(err.Error(), "not sent") {
			t.Errorf("%s failed, and Finish says %v", kind, err)
		}
		must(t, w.PutBlob("x.blob", b))
		must(t, w.Finish(t.Context(), m))
		names, err := d.Files("", s)
		if want := []string{configName, manifestName, archiveName, "x.blob"}; err != nil || !slices.Equal(names, want) {
			t.Errorf("%s: the snapshot has %q, %v", kind, names, err)
		}
	}
}

func TestPrevious(t *testing.T) {
	d, mem, _ := newStore(t)
	base := func(day int) (*Writer, Snapshot, bool) {
		t.Helper()
		w, err := d.Begin(t.Context(), "", snap("vm/100", day), alice)
		must(t, err)
		s, ok := w.Previous()
		return w, s, ok
	}
	w, _, ok := base(1)
	if x, err := w.PreviousIndex(archiveName); ok || x != nil || err != nil {
		t.Errorf("the first backup has a previous one: %v, %v", x, err)
	}
	must(t, w.Abort())
	mustBackUp(t, d, "", snap("vm/100", 2), 1, 2)
	mustBackUp(t, d, "", snap("vm/100", 3), 2, 3)
	must(t, d.FS.Mkdir(d.snapDir("", snap("vm/100", 4)), 0o755)) // somebody's that was never finished

	w, s, ok := base(5)
	if !ok || s != snap("vm/100", 3) {
		t.Fatalf("previous is %s, %v", s, ok)
	}
	want, err := index(2, 3)
	must(t, err)
	if x, err := w.PreviousIndex(archiveName); err != nil || x == nil || x.Csum() != want.Csum() {
		t.Errorf("previous index is %v, %v", x, err)
	}
	if x, err := w.PreviousIndex("other.didx"); x != nil || err != nil {
		t.Errorf("an index that the previous has not: %v, %v", x, err)
	}
	wants(t, "forget the base of a running backup", d.Forget(t.Context(), "", s), ErrBusy)
	must(t, d.Forget(t.Context(), "", snap("vm/100", 2))) // an older one may go
	must(t, d.UpdateManifest("", s, func(m *Manifest) error {
		return m.SetVerifyState(manifest.VerifyState{State: "failed", UPID: "UPID:x"})
	}))
	if x, err := w.PreviousIndex(archiveName); x != nil || err != nil {
		t.Errorf("the index of a damaged snapshot is built upon: %v, %v", x, err)
	}
	must(t, d.UpdateManifest("", s, func(m *Manifest) error {
		return m.SetVerifyState(manifest.VerifyState{State: "ok", UPID: "UPID:x"})
	}))
	mem.FlipBit(path.Join(d.snapDir("", s), archiveName), 4096+11)
	if x, err := w.PreviousIndex(archiveName); x != nil || err != nil {
		t.Errorf("a damaged index is built upon: %v, %v", x, err)
	}
	must(t, w.Abort())
	must(t, d.Forget(t.Context(), "", s))
}

// A snapshot that was made elsewhere may be older than those that are there.
func TestInsert(t *testing.T) {
	d, _, _ := newStore(t)
	for _, day := range []int{2, 6} {
		mustBackUp(t, d, "", snap("vm/100", day), uint64(day))
	}
	_, err := d.Insert(t.Context(), "", snap("vm/100", 2), alice)
	wants(t, "one that is there", err, fs.ErrExist)
	for day, want := range map[int]int64{1: 0, 4: snap("vm/100", 2).Time, 8: snap("vm/100", 6).Time} {
		w, err := d.Insert(t.Context(), "", snap("vm/100", day), alice)
		must(t, err)
		if prev, _ := w.Previous(); prev.Time != want {
			t.Errorf("before day %d comes %s", day, prev)
		}
		m, err := fill(t.Context(), w, snap("vm/100", day), uint64(day))
		must(t, err)
		must(t, w.Finish(t.Context(), m))
		must(t, verify(t.Context(), d, "", snap("vm/100", day), []uint64{uint64(day)}))
		must(t, d.Forget(t.Context(), "", snap("vm/100", day)))
	}
}

// A directory that a failing disk does not let go stays noted, and goes with
// the next start.
func TestAbortOnFailingDisk(t *testing.T) {
	d, mem, c := newStore(t)
	w, err := d.Begin(t.Context(), "", snap("vm/100", 1), alice)
	must(t, err)
	_, err = fill(t.Context(), w, snap("vm/100", 1), 1, 2)
	must(t, err)
	broken := errors.New("the disk is broken")
	mem.SetHook(func(op disktest.Op) error {
		if op.Kind == disktest.Remove {
			return broken
		}
		return nil
	})
	wants(t, "abort", w.Abort(), broken)
	mem.SetHook(nil)
	if _, err := d.Describe("", snap("vm/100", 1)); err != nil {
		t.Fatalf("the test tests nothing: %v", err)
	}
	must(t, d.Close())
	d = openStore(t, mem, storeDir, c)
	nothingLeft(t, d, mem, "after a start")
}

// A datastore may be named in any way that the system takes.
func TestInterruptedBackupOfUncleanPath(t *testing.T) {
	d, mem, c := newStore(t)
	must(t, d.Close())
	d = openStore(t, mem, "//store/./", c)
	_, err := d.Begin(t.Context(), "", snap("vm/100", 1), alice)
	must(t, err)
	mem = mem.CrashKeeping()
	d.Close() // fails; it lets go of goroutines
	d = openStore(t, mem, "//store/./", c)
	nothingLeft(t, d, mem, "after a start")
}

// What somebody else put among the notes of running backups, or into the
// trash, is left alone; what crashes left of our own is not.
func TestStartLeavesForeignFilesAlone(t *testing.T) {
	d, mem, c := newStore(t)
	mustBackUp(t, d, "", snap("vm/100", 1))
	must(t, d.Close())
	note := "01234567-89ab-cdef-0123-456789abcdef"
	put := func(name, content string) {
		t.Helper()
		f, err := mem.OpenFile(path.Join(storeDir, name), 0x42, 0o600) // create, read, write
		must(t, err)
		_, err = f.WriteAt([]byte(content), 0)
		must(t, errors.Join(err, f.Close()))
	}
	for _, dir := range []string{"running", "running/dir", "trash", "trash/by-hand", "trash/" + note} {
		_ = mem.Mkdir(path.Join(storeDir, dir), 0o700) // may be there
	}
	put("running/README", snap("vm/100", 1).Path())
	put("running/"+note, "../../etc")
	put("running/"+note[:35]+"0", "vm/100/2026-01-02T12:00:00Z\n") // finished
	put("running/x.tmp-0123456789abcdef", "half")
	put("settings.json.tmp-0123456789abcdef", "half")
	put("listing.tmp-0123456789abcdef", "half")
	put("trash/by-hand/x", "x")
	d = openStore(t, mem, storeDir, c)
	must(t, verify(t.Context(), d, "", snap("vm/100", 1), []uint64{1, 2, 3}))
	var left []string
	for _, name := range mem.Names() {
		if strings.HasPrefix(name, "/store/running") || strings.HasPrefix(name, "/store/trash") || strings.Contains(name, ".tmp-") {
			left = append(left, name)
		}
	}
	if want := []string{"/store/running/README", "/store/trash/by-hand/x"}; !slices.Equal(left, want) {
		t.Errorf("there are %q, want %q", left, want)
	}
}
