package tier

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/tier/filename"
	"github.com/holdfast-mesh/holdfast/catalog/verify"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
)

// quick is the machine's file system that does not wait for the disk: processes
// that die lose nothing that was written.
type quick struct{ disk.OS }

func (q quick) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := q.OS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return quickFile{f}, nil
}

func (quick) SyncDir(string) error { return nil }

type quickFile struct{ disk.File }

func (quickFile) Sync() error { return nil }

// A site is a bucket of a real server, with a proxy in front.
type site struct {
	t      *testing.T
	server *cloudtest.Server
	proxy  *cloudtest.Proxy
	b      *bucket.Bucket
}

func newSite(t *testing.T) *site {
	t.Helper()
	srv := cloudtest.Start(t)
	p := cloudtest.Front(t, srv)
	return &site{t, srv, p, cloudtest.Open(t, p.URL)}
}

// config is that of a node with an empty directory and a key of its own.
func (s *site) config(node string) Config {
	s.t.Helper()
	key, err := seal.NewIdentity()
	if err != nil {
		s.t.Fatal(err)
	}
	return Config{Dir: filepath.Join(s.t.TempDir(), node), Bucket: s.b, Node: node, Key: key, FS: quick{}, CacheBytes: 2 << 20, Grace: time.Nanosecond}
}

// open opens a tier until the test ends, or close is called.
func (s *site) open(cfg Config) (t *Tier, close func()) {
	s.t.Helper()
	t, err := Open(s.t.Context(), cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	closed := false
	close = func() {
		if !closed {
			closed = true
			if err := t.Close(); err != nil {
				s.t.Error(err)
			}
		}
	}
	s.t.Cleanup(close)
	return t, close
}

func (s *site) create(cfg Config, encrypt bool) (recovery string) {
	s.t.Helper()
	key, err := seal.NewIdentity()
	if err == nil {
		err = Create(s.t.Context(), cfg, encrypt, key.String())
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return key.String()
}

// image is content that does not compress.
func image(seed uint64, n int) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	rng.Read(b)
	return b
}

const chunkSize = 64 << 10

func snapshot(t *testing.T, text string) catalog.Snapshot {
	t.Helper()
	s, err := naming.ParseSnapshot(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// backup backs up one image as text, a snapshot.
func backup(t *testing.T, d *catalog.Datastore, text string, content []byte) error {
	t.Helper()
	return backupIn(t, d, text, content, func() {})
}

// backupIn is backup that calls then when all chunks were sent.
func backupIn(t *testing.T, d *catalog.Datastore, text string, content []byte, then func()) error {
	t.Helper()
	ctx, s := context.Background(), snapshot(t, text)
	w, err := d.Begin(ctx, "", s, "root@pam")
	if err != nil {
		return err
	}
	b, err := chunks.NewFixedBuilder(int64(len(content)), chunkSize)
	if err != nil {
		t.Fatal(err)
	}
	for off := 0; off < len(content); off += chunkSize {
		part := content[off : off+chunkSize]
		blob, err := chunks.Encode(nil, part, chunks.EncodeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Session().Put(ctx, chunks.Sum(part), blob); err != nil {
			return errors.Join(err, w.Abort())
		}
		if err := b.Put(int64(off), chunkSize, chunks.Sum(part)); err != nil {
			t.Fatal(err)
		}
	}
	then()
	x, err := b.Finish(chunks.NewUUID(), time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	m := manifest.New(s)
	conf, err := chunks.Encode(nil, []byte("of "+text), chunks.EncodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		w.PutIndex("disk.img.fidx", x), m.Add(manifest.File{Name: "disk.img.fidx", CryptMode: manifest.None, Size: uint64(x.Size()), Csum: x.Csum()}),
		w.PutBlob("vm.conf.blob", conf), m.Add(manifest.File{Name: "vm.conf.blob", CryptMode: manifest.None, Size: uint64(len(conf)), Csum: sha256.Sum256(conf)}),
	)
	if err == nil {
		err = w.Finish(ctx, m)
	}
	if err != nil {
		return errors.Join(err, w.Abort())
	}
	return nil
}

func mustBackup(t *testing.T, tr *Tier, text string, content []byte) {
	t.Helper()
	if err := backup(t, tr.Datastore(), text, content); err != nil {
		t.Fatalf("back up %s: %v", text, err)
	}
}

// wantImage restores a snapshot and compares it byte for byte.
func wantImage(t *testing.T, tr *Tier, text string, content []byte) {
	t.Helper()
	r, err := tr.Datastore().OpenSnapshot(t.Context(), "", snapshot(t, text))
	if err != nil {
		t.Fatalf("restore %s: %v", text, err)
	}
	defer r.Close()
	x, err := r.Index("disk.img.fidx")
	if err != nil {
		t.Fatal(err)
	}
	var got []byte
	for _, d := range x.All() {
		b, err := r.Chunks().Get(t.Context(), d, nil)
		if err != nil {
			t.Fatalf("restore %s: %v", text, err)
		}
		if got, err = b.Decode(got, nil); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, content) {
		// Decode may replace, and not append: compare piece by piece then.
		at := 0
		for _, d := range x.All() {
			b, _ := r.Chunks().Get(t.Context(), d, nil)
			piece, err := b.Decode(nil, nil)
			if err != nil || !bytes.Equal(piece, content[at:at+len(piece)]) {
				t.Fatalf("%s is not what was backed up at %d (%v)", text, at, err)
			}
			at += len(piece)
		}
		if at != len(content) {
			t.Fatalf("%s has %d bytes, want %d", text, at, len(content))
		}
	}
}

func offload(t *testing.T, tr *Tier, opt OffloadOptions) OffloadReport {
	t.Helper()
	r, err := tr.Offload(t.Context(), opt)
	if err != nil {
		t.Fatalf("offload: %v", err)
	}
	return r
}

func names(t *testing.T, tr *Tier) string {
	t.Helper()
	list, err := tr.Datastore().List(t.Context(), catalog.ListOptions{Depth: -1})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, i := range list {
		all = append(all, i.Snapshot().String())
	}
	return strings.Join(all, " ")
}

const (
	day1 = "vm/100/2026-01-01T00:00:00Z"
	day2 = "vm/100/2026-01-02T00:00:00Z"
	day3 = "vm/100/2026-01-03T00:00:00Z"
)

// All sites are gone; with the bucket and the recovery key a new machine has
// every snapshot that was offloaded, with its notes, owner and protection, and
// goes on with it as owner.
func TestRebuildFromTheBucketAlone(t *testing.T) {
	for _, encrypt := range []bool{false, true} {
		t.Run(fmt.Sprint("encrypted=", encrypt), func(t *testing.T) {
			s := newSite(t)
			cfg := s.config("home")
			recovery := s.create(cfg, encrypt)
			tr, close := s.open(cfg)
			first := image(1, 40*chunkSize)
			second := append(image(2, 10*chunkSize), first[10*chunkSize:]...)
			mustBackup(t, tr, day1, first)
			if err := tr.Datastore().SetNotes("", snapshot(t, day1), "before the change"); err != nil {
				t.Fatal(err)
			}
			if r := offload(t, tr, OffloadOptions{}); r.Mirror.Added != 1 || r.Evicted != 40 || r.Requests["put"] == 0 {
				t.Errorf("first offload: %+v", r)
			}
			mustBackup(t, tr, day2, second)
			if err := tr.Datastore().SetProtected("", snapshot(t, day2), true); err != nil {
				t.Fatal(err)
			}
			if r := offload(t, tr, OffloadOptions{}); r.Chunks != 10 || r.Mirror.Added != 1 {
				t.Errorf("second offload: %+v", r)
			}
			mustBackup(t, tr, day3, image(3, 2*chunkSize)) // never offloaded
			close()

			again := s.config("new")
			if err := Attach(t.Context(), again, "", true); !errors.Is(err, cloud.ErrNoKey) {
				t.Fatalf("attach without a key: %v", err)
			}
			if err := Attach(t.Context(), again, recovery, false); !errors.Is(err, cloud.ErrOwned) {
				t.Fatalf("attach while another node owns the bucket: %v", err)
			}
			for range 2 { // into the directory that an attempt has left, and one that was attached
				if err := Attach(t.Context(), again, recovery, true); err != nil {
					t.Fatal(err)
				}
			}
			if err := Create(t.Context(), again, false, recovery); err == nil || !strings.Contains(err.Error(), "cloud datastore already") {
				t.Errorf("another store is made in a directory that has one: %v", err)
			}
			s.proxy.Reset()
			nt, _ := s.open(again)
			if n := s.proxy.Total(); n != 0 {
				t.Errorf("opening a known directory took %v", s.proxy.Counts())
			}
			if got := names(t, nt); got != day2+" "+day1 {
				t.Fatalf("snapshots after the rebuild: %s", got)
			}
			wantImage(t, nt, day1, first)
			wantImage(t, nt, day2, second)
			m, err := nt.Datastore().Manifest("", snapshot(t, day1))
			if err != nil || m.Notes() != "before the change" {
				t.Errorf("notes: %q, %v", m.Notes(), err)
			}
			if on, err := nt.Datastore().Protected("", snapshot(t, day2)); err != nil || !on {
				t.Errorf("protected: %v, %v", on, err)
			}
			mustBackup(t, nt, day3, first)
			if r := offload(t, nt, OffloadOptions{}); r.Chunks != 0 || r.Mirror.Added != 1 {
				t.Errorf("a snapshot of chunks that the bucket has: %+v", r)
			}
			// The old owner is fenced, and keeps what it had.
			old, _ := s.open(cfg)
			if _, err := old.Offload(t.Context(), OffloadOptions{}); !errors.Is(err, cloud.ErrOwned) {
				t.Errorf("offload of the old owner: %v", err)
			}
			if err := backup(t, old.Datastore(), "vm/101/2026-01-03T00:00:00Z", first); err == nil {
				t.Error("the old owner takes backups")
			}
			wantImage(t, old, day3, image(3, 2*chunkSize))
		})
	}
}

// A snapshot whose chunks have not all arrived is not shown by the bucket.
func TestOnlyWhatCanBeRestoredIsShown(t *testing.T) {
	s := newSite(t)
	cfg := s.config("home")
	recovery := s.create(cfg, true)
	tr, _ := s.open(cfg)
	content := image(1, 4*chunkSize)
	mustBackup(t, tr, day1, content)
	if r := offload(t, tr, OffloadOptions{After: time.Hour}); r.Chunks != 0 || r.Mirror.Waiting != 1 || r.Mirror.Added != 0 {
		t.Errorf("offload of what is young: %+v", r)
	}
	ro := s.config("reader")
	ro.ReadOnly = true
	if err := Attach(t.Context(), ro, recovery, false); err != nil {
		t.Fatal(err)
	}
	reader, _ := s.open(ro)
	if got := names(t, reader); got != "" {
		t.Errorf("shown before its chunks are there: %s", got)
	}
	offload(t, tr, OffloadOptions{})
	if r, err := reader.Refresh(t.Context()); err != nil || r.Snapshots != 1 {
		t.Fatalf("refresh: %+v, %v", r, err)
	}
	wantImage(t, reader, day1, content)
	if err := backup(t, reader.Datastore(), day2, content); !errors.Is(err, cloud.ErrReadOnly) {
		t.Errorf("a backup to what is attached read-only: %v", err)
	}
	if err := tr.Datastore().Forget(t.Context(), "", snapshot(t, day1)); err != nil {
		t.Fatal(err)
	}
	offload(t, tr, OffloadOptions{})
	if r, err := reader.Refresh(t.Context()); err != nil || r.Snapshots != 0 || names(t, reader) != "" {
		t.Errorf("what the owner removed is still shown: %+v, %v, %s", r, err, names(t, reader))
	}
}

// Prune and garbage collection reach the bucket; what is left is whole, here and
// on a new machine, also when packs are rewritten.
func TestCollect(t *testing.T) {
	s := newSite(t)
	cfg := s.config("home")
	recovery := s.create(cfg, true)
	tr, _ := s.open(cfg)
	keep := image(1, 12*chunkSize)
	mustBackup(t, tr, day1, append(image(2, 30*chunkSize), keep...))
	offload(t, tr, OffloadOptions{})
	mustBackup(t, tr, day2, image(4, 8*chunkSize)) // a pack that dies as a whole
	offload(t, tr, OffloadOptions{})
	mustBackup(t, tr, day3, keep)
	offload(t, tr, OffloadOptions{})
	d := tr.Datastore()
	for _, x := range []string{day1, day2} {
		if err := d.Forget(t.Context(), "", snapshot(t, x)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.EmptyTrash(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	rebuilt := func(step string) {
		t.Helper()
		ro := s.config("ro-" + strings.ReplaceAll(step, " ", "-"))
		ro.ReadOnly = true
		if err := Attach(t.Context(), ro, recovery, false); err != nil {
			t.Fatal(err)
		}
		nt, close := s.open(ro)
		defer close()
		if got := names(t, nt); got != day3 {
			t.Errorf("%s: the bucket shows %s", step, got)
		}
		wantImage(t, nt, day3, keep)
	}
	s.proxy.Reset()
	r, err := tr.Collect(t.Context(), gc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if r.CondemnedChunks < 38 {
		t.Errorf("collected %+v", r)
	}
	wantImage(t, tr, day3, keep)
	rebuilt("after the collection")
	offload(t, tr, OffloadOptions{})
	wantImage(t, tr, day3, keep)
	rebuilt("after the next offload")
	r, err = tr.Collect(t.Context(), gc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := tr.Audit(t.Context()); err != nil {
		t.Fatal(err)
	}
	st := tr.Stats()
	if st.Packs != 1 || st.Dead != 0 {
		t.Errorf("the bucket holds %d packs with %d dead bytes; collected %+v", st.Packs, st.Dead, r)
	}
	rebuilt("at the end")
	report, err := verify.Run(t.Context(), d, verify.Options{Depth: -1})
	if err != nil || report.OK != 1 || report.Failed != 0 {
		t.Errorf("verify: %+v, %v", report, err)
	}
}

// While the bucket does not answer, the datastore opens, takes backups and
// restores what is here; the offload is made up for.
func TestBucketOutOfReach(t *testing.T) {
	s := newSite(t)
	cfg := s.config("home")
	s.create(cfg, true)
	_, close := s.open(cfg)
	close()
	s.proxy.On(func(cloudtest.Request) *cloudtest.Fault { return &cloudtest.Fault{Reset: true} })
	tr, close := s.open(cfg)
	content := image(1, 4*chunkSize)
	mustBackup(t, tr, day1, content)
	wantImage(t, tr, day1, content)
	if _, err := tr.Offload(t.Context(), OffloadOptions{}); err == nil {
		t.Error("an offload without a bucket")
	}
	close()
	tr, _ = s.open(cfg)
	wantImage(t, tr, day1, content)
	s.proxy.On(nil)
	if r := offload(t, tr, OffloadOptions{}); r.Mirror.Added != 1 || r.Evicted != 4 {
		t.Errorf("offload when the bucket is back: %+v", r)
	}
	wantImage(t, tr, day1, content)
}

// The loss of the cache, and of everything that is derived, costs requests only.
func TestLosses(t *testing.T) {
	s := newSite(t)
	cfg := s.config("home")
	s.create(cfg, true)
	tr, close := s.open(cfg)
	content := image(1, 8*chunkSize)
	mustBackup(t, tr, day1, content)
	offload(t, tr, OffloadOptions{})
	wantImage(t, tr, day1, content)
	close()
	for _, lost := range []string{"cloud/cache", "cloud/meta", "cloud/index", "cloud/mirror.json", "cloud/notes", "cloud/format.json"} {
		if err := os.RemoveAll(filepath.Join(cfg.Dir, lost)); err != nil {
			t.Fatal(err)
		}
		tr, close = s.open(cfg)
		wantImage(t, tr, day1, content)
		if r := offload(t, tr, OffloadOptions{}); r.Chunks != 0 || r.Mirror.Added != 0 || r.Mirror.Removed != 0 {
			t.Errorf("offload after the loss of %s: %+v", lost, r)
		}
		close()
	}
}

func TestBelongs(t *testing.T) {
	for name, want := range map[string]bool{
		"settings.json": true, "guard.json": false, "vm/100/owner": true, "vm/100/notes": true, "vm/100/key": false,
		day1 + "/index.json.blob": true, day1 + "/.protected": true, day1 + "/../../owner": false, "ns/a/" + day1 + "/disk.img.fidx": true,
		"../x": false, "/etc/passwd": false, "ns/../vm/100/owner": false, "packs/aa/owner": false, "": false, day1 + "/": false, "vm/../owner": false,
	} {
		if got := filename.Belong(name); got != want {
			t.Errorf("filename.Belong(%q) = %v", name, got)
		}
	}
}

func FuzzBelongs(f *testing.F) {
	f.Add(day1 + "/index.json.blob")
	f.Add("ns/a/vm/100/owner")
	f.Fuzz(func(t *testing.T, name string) {
		if filename.Belong(name) && (!filepath.IsLocal(name) || filepath.Clean(name) != name) {
			t.Errorf("%q would be written outside", name)
		}
	})
}

// tight is a disk that is full until something has left it.
type tight struct {
	quick
	free func() int64
}

func (f tight) Space(name string) (disk.Space, error) {
	s, err := f.quick.Space(name)
	s.FreeBytes = f.free()
	return s, err
}

// A backup waits for the bucket only when the disk is full, and then goes on.
func TestFullDiskWaitsForOffload(t *testing.T) {
	s := newSite(t)
	cfg := s.config("home")
	s.create(cfg, false)
	var tr *Tier
	full := false
	cfg.FS = tight{free: func() int64 {
		if full && tr.store.Stats().Packs == 0 {
			return 1 << 20
		}
		return 1 << 40
	}}
	tr, _ = s.open(cfg)
	content := image(1, 4*chunkSize)
	mustBackup(t, tr, day1, content)
	full = true
	if err := tr.Datastore().Room(); !errors.Is(err, chunks.ErrNoSpace) {
		t.Fatalf("room on a full disk: %v", err)
	}
	s.proxy.On(func(cloudtest.Request) *cloudtest.Fault { return &cloudtest.Fault{Reset: true} })
	if err := tr.Datastore().AwaitRoom(t.Context()); !errors.Is(err, chunks.ErrNoSpace) {
		t.Fatalf("room on a full disk without a bucket: %v", err)
	}
	s.proxy.On(nil)
	if err := tr.Datastore().AwaitRoom(t.Context()); err != nil {
		t.Fatalf("room after an offload: %v", err)
	}
	wantImage(t, tr, day1, content)
}
