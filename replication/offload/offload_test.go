package offload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/tier"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
	"github.com/holdfast-mesh/holdfast/replication/plan"
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

// A world is a datastore on a disk, and one in a bucket of a real server with a
// proxy in front.
type world struct {
	t        *testing.T
	proxy    *cloudtest.Proxy
	b        *bucket.Bucket
	cfg      tier.Config
	recovery string

	from *catalog.Datastore
	to   *tier.Tier
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func newKey(t *testing.T) *age.X25519Identity {
	t.Helper()
	key, err := seal.NewIdentity()
	must(t, err)
	return key
}

func newWorld(t *testing.T, encrypt bool) *world {
	t.Helper()
	w := &world{t: t, proxy: cloudtest.Front(t, cloudtest.Start(t))}
	w.b = cloudtest.Open(t, w.proxy.URL)
	dir := filepath.Join(t.TempDir(), "main")
	_, err := identity.Init(quick{}, dir, identity.MinPackBytes)
	must(t, err)
	w.from, err = catalog.Open(t.Context(), catalog.Config{Dir: dir, FS: quick{}})
	must(t, err)
	t.Cleanup(func() { must(t, w.from.Close()) })
	drawer := newKey(t)
	w.cfg, w.recovery = w.config("home"), drawer.String()
	must(t, tier.Create(t.Context(), w.cfg, encrypt, w.recovery))
	w.start()
	t.Cleanup(w.stop)
	return w
}

func (w *world) config(node string) tier.Config {
	return tier.Config{Dir: filepath.Join(w.t.TempDir(), node), Bucket: w.b, Node: node, Key: newKey(w.t), FS: quick{}, Grace: time.Nanosecond}
}

func (w *world) start() {
	w.t.Helper()
	var err error
	w.to, err = tier.Open(context.Background(), w.cfg)
	must(w.t, err)
}

// stop ends what has the bucket, as a process that is killed does: nothing is
// flushed by Close but what is durable anyway.
func (w *world) stop() {
	if w.to != nil {
		must(w.t, w.to.Close())
	}
	w.to = nil
}

// on has a hook see one request at a time, though uploads run in parallel. What the
// hook uses is used elsewhere with locked only: a request may outlive its run.
func (w *world) on(hook func(cloudtest.Request) *cloudtest.Fault) (locked func(func())) {
	var mu sync.Mutex
	w.proxy.On(func(r cloudtest.Request) *cloudtest.Fault {
		mu.Lock()
		defer mu.Unlock()
		return hook(r)
	})
	return func(do func()) {
		mu.Lock()
		defer mu.Unlock()
		do()
	}
}

// image is content that does not compress.
func image(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

const chunkSize = 256 << 10

func snapshot(t *testing.T, text string) naming.Snapshot {
	t.Helper()
	s, err := naming.ParseSnapshot(text)
	must(t, err)
	return s
}

// backup backs up one image as text, a snapshot.
func (w *world) backup(text string, content []byte) {
	t, ctx, s := w.t, context.Background(), snapshot(w.t, text)
	t.Helper()
	wr, err := w.from.Begin(ctx, "", s, "root@pam")
	must(t, err)
	b, err := chunks.NewFixedBuilder(int64(len(content)), chunkSize)
	must(t, err)
	for off := 0; off < len(content); off += chunkSize {
		part := content[off : off+chunkSize]
		blob, err := chunks.Encode(nil, part, chunks.EncodeOptions{})
		must(t, err)
		_, err = wr.Session().Put(ctx, chunks.Sum(part), blob)
		must(t, err, b.Put(int64(off), chunkSize, chunks.Sum(part)))
	}
	x, err := b.Finish(chunks.NewUUID(), time.Unix(1, 0))
	must(t, err)
	m := manifest.New(s)
	must(t, wr.PutIndex("disk.img.fidx", x), m.Add(manifest.File{Name: "disk.img.fidx", CryptMode: manifest.None, Size: uint64(x.Size()), Csum: x.Csum()}), wr.Finish(ctx, m))
}

func job() Job { return Job{ID: "up", Options: plan.Options{Owner: "root@pam"}} }

func (w *world) offloader(batch int64) *Offloader {
	w.t.Helper()
	o, err := New(Config{From: w.from, To: w.to, BatchBytes: batch})
	must(w.t, err)
	return o
}

func (w *world) run(j Job) Report {
	w.t.Helper()
	r, err := w.offloader(0).Run(w.t.Context(), j)
	must(w.t, err)
	return r
}

// wantOnNewMachine restores a snapshot from the bucket alone, with the recovery
// key, and compares it byte for byte.
func (w *world) wantOnNewMachine(all map[string][]byte) {
	w.t.Helper()
	cfg := w.config("new")
	cfg.ReadOnly = true
	must(w.t, tier.Attach(w.t.Context(), cfg, w.recovery, false))
	tr, err := tier.Open(w.t.Context(), cfg)
	must(w.t, err)
	defer func() { must(w.t, tr.Close()) }()
	for text, content := range all {
		wantImage(w.t, tr.Datastore(), text, content)
	}
}

func wantImage(t *testing.T, d *catalog.Datastore, text string, content []byte) {
	t.Helper()
	r, err := d.OpenSnapshot(t.Context(), "", snapshot(t, text))
	must(t, err)
	defer r.Close()
	x, err := r.Index("disk.img.fidx")
	must(t, err)
	for i, c := range x.All() {
		b, err := r.Chunks().Get(t.Context(), c, nil)
		must(t, err)
		piece, err := b.Decode(nil, nil)
		start, end := x.Range(i)
		if err != nil || !bytes.Equal(piece, content[start:end]) {
			t.Fatalf("%s is not what was backed up at %d: %v", text, start, err)
		}
	}
}

func names(t *testing.T, d *catalog.Datastore) string {
	t.Helper()
	list, err := d.List(t.Context(), catalog.ListOptions{Depth: -1})
	must(t, err)
	var all []string
	for _, i := range list {
		all = append(all, i.Snapshot().String())
	}
	return strings.Join(all, " ")
}

const (
	first  = "vm/100/2024-01-01T00:00:00Z"
	second = "vm/100/2024-01-02T00:00:00Z"
	third  = "vm/200/2024-01-03T00:00:00Z"
)

// What is offloaded is restored from the bucket alone, packs that are wholly wanted
// went as they are, the plan has said so before, and to do it again costs nothing.
// Pruning at one side takes nothing from the other.
func TestOffload(t *testing.T) {
	for _, encrypt := range []bool{false, true} {
		t.Run(fmt.Sprintf("encrypted=%v", encrypt), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, encrypt)
			one := image(1, 5*identity.MinPackBytes/4)
			two := append(bytes.Clone(one[:len(one)-4*chunkSize]), image(2, 4*chunkSize)...)
			w.backup(first, one)
			w.backup(second, two)
			_, err := w.to.Publish(t.Context()) // becoming owner is no part of a job
			must(t, err)
			o, err := New(Config{From: w.from, To: w.to, Now: func() time.Time { return time.Unix(0, 0) }}) // which chunks are read back
			must(t, err)
			pl, err := o.Plan(t.Context(), job())
			must(t, err)
			ctx, meter := bucket.Metered(t.Context())
			r, err := o.Run(ctx, job())
			must(t, err)
			if r.Snapshots != 2 || r.Chunks != len(one)/chunkSize+4 || (r.Whole > 0) == encrypt || r.Read == 0 {
				t.Errorf("report %+v", r)
			}
			if pl.Snapshots != 2 || pl.Chunks != r.Chunks || pl.Bytes != r.Bytes || pl.Packs != r.Packs || pl.Whole != r.Whole {
				t.Errorf("planned %+v, done %+v", pl, r)
			}
			in, out := meter.Bytes()
			t.Logf("planned %v, %d bytes in, %d out; made %v, %d in, %d out", pl.Requests, pl.Read, pl.Written, meter.Requests(), in, out)
			if off := math.Abs(float64(out-pl.Written)) / float64(out); !maps.Equal(pl.Requests, meter.Requests()) || off > 0.05 || float64(in) > 1.05*float64(pl.Read) {
				t.Errorf("planned %v, %d bytes in, %d out; made %v, %d in, %d out", pl.Requests, pl.Read, pl.Written, meter.Requests(), in, out)
			}
			w.wantOnNewMachine(map[string][]byte{first: one}) // the second one follows below

			again := w.run(job())
			if again.Snapshots+again.Chunks != 0 || len(again.Requests) != 0 {
				t.Errorf("again: %+v", again)
			}
			// The root that tells of files alone, and the one behind it, were not forecast
			// when a collection had come before.
			planned := func(what string) Report {
				t.Helper()
				pl, err := o.Plan(t.Context(), job())
				must(t, err)
				ctx, meter := bucket.Metered(t.Context())
				r, err := o.Run(ctx, job())
				must(t, err)
				in, out := meter.Bytes()
				t.Logf("%s: planned %v, %d bytes in, %d out; made %v, %d in, %d out", what, pl.Requests, pl.Read, pl.Written, meter.Requests(), in, out)
				if off := math.Abs(float64(out-pl.Written)) / float64(out); !maps.Equal(pl.Requests, meter.Requests()) || off > 0.05 && math.Abs(float64(out-pl.Written)) > 512 {
					t.Errorf("%s: planned %v, %d bytes in, %d out; made %v, %d in, %d out", what, pl.Requests, pl.Read, pl.Written, meter.Requests(), in, out)
				}
				return r
			}
			w.backup(third, two[:8*chunkSize])
			if r := planned("what is there already"); r.Snapshots != 1 || r.Chunks != 0 {
				t.Errorf("what is there already: %+v", r)
			}
			must(t, w.to.Datastore().Forget(t.Context(), "", snapshot(t, third)))
			planned("after it was removed there")
			must(t, w.to.Datastore().Forget(t.Context(), "", snapshot(t, third)))
			_, err = w.to.Datastore().EmptyTrash(t.Context(), true)
			must(t, err)
			_, err = w.to.Collect(t.Context(), gc.Options{})
			must(t, err)
			planned("after a collection")

			must(t, w.from.Forget(t.Context(), "", snapshot(t, second)))
			must(t, w.to.Datastore().Forget(t.Context(), "", snapshot(t, first)))
			w.run(job())
			if got := names(t, w.to.Datastore()); got != second+" "+third {
				t.Errorf("in the bucket are %s: what is pruned at one side is no matter of the other", got)
			}
			w.wantOnNewMachine(map[string][]byte{second: two, third: two[:8*chunkSize]})
		})
	}
}

// A job that is cut off at any request, before or after the store has done what it
// was asked, leaves nothing half there, and the next run ends it.
func TestCutAtEveryRequest(t *testing.T) {
	t.Parallel()
	const batch = 6 * chunkSize
	one, two := image(1, 12*chunkSize), image(2, 12*chunkSize)
	probe := newWorld(t, false)
	probe.backup(first, one)
	probe.backup(third, two)
	probe.proxy.Reset()
	_, err := probe.offloader(batch).Run(t.Context(), job())
	must(t, err)
	total := probe.proxy.Total()
	if total < 12 {
		t.Fatalf("%d requests are too few to cut at", total)
	}
	all := os.Getenv("HOLDFAST_SOAK") != ""
	for n := 1; n <= total; n++ {
		for _, after := range []bool{false, true} {
			if !all && (n%5 != 1 || !after) {
				continue // those that are left have each kind of step
			}
			t.Run(fmt.Sprintf("%d,after=%v", n, after), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, n%3 == 0)
				w.backup(first, one)
				w.backup(third, two)
				if !w.cutIfReached(n, after, batch) {
					return // this run needed fewer: the encrypted one packs otherwise
				}
				_, err := w.to.Collect(t.Context(), gc.Options{}) // whatever is half there must not confuse it
				must(t, err)
				r := w.run(job())
				if len(r.Errors) > 0 || names(t, w.to.Datastore()) != first+" "+third {
					t.Fatalf("%+v; there are %s", r, names(t, w.to.Datastore()))
				}
				w.wantOnNewMachine(map[string][]byte{first: one, third: two})
			})
		}
	}
}

// cutIfReached runs a job that is cut off at its n-th request, if it needs as many.
func (w *world) cutIfReached(n int, after bool, batch int64) (reached bool) {
	w.t.Helper()
	seen := 0
	locked := w.on(func(cloudtest.Request) *cloudtest.Fault {
		seen++
		switch {
		case seen == n && after:
			return &cloudtest.Fault{Status: 403, Code: "AccessDenied", After: true}
		case seen >= n:
			return &cloudtest.Fault{Status: 403, Code: "AccessDenied"}
		}
		return nil
	})
	_, _ = w.offloader(batch).Run(w.t.Context(), job()) // whatever it says
	w.proxy.On(nil)
	w.stop()
	w.start()
	locked(func() { reached = seen >= n })
	return reached
}

// What a run that was cut off had sent is not sent again.
func TestGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	content := image(1, 40*chunkSize)
	w.backup(first, content)
	packs := map[string]int{}
	limit := 3
	locked := w.on(func(r cloudtest.Request) *cloudtest.Fault {
		if r.Class == "put" && strings.Contains(r.Key, "/p/") {
			if packs[r.Key]++; len(packs) > limit {
				delete(packs, r.Key)
				return &cloudtest.Fault{Status: 403, Code: "AccessDenied"}
			}
		}
		return nil
	})
	batch := int64(8 * chunkSize)
	if _, err := w.offloader(batch).Run(t.Context(), job()); !errors.Is(err, bucket.ErrDenied) {
		t.Fatalf("cut off: %v", err)
	}
	w.stop()
	w.start()
	locked(func() { limit = 1000 })
	r, err := w.offloader(batch).Run(t.Context(), job())
	must(t, err)
	if r.Chunks >= 40 || r.Snapshots != 1 {
		t.Errorf("the second run sent %d of 40 chunks again", r.Chunks)
	}
	locked(func() {
		if len(packs) > 6 {
			t.Errorf("%d packs were sent for 40 chunks in batches of 8", len(packs))
		}
	})
	w.proxy.On(nil)
	w.wantOnNewMachine(map[string][]byte{first: content})
}

// A chunk that is damaged here holds back its snapshot and the later ones of the
// group, by name, and nothing else.
func TestDamagedSource(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	one := image(1, 5*identity.MinPackBytes/4)
	w.backup(first, one)
	w.backup(second, one)
	w.backup(third, image(2, 4*chunkSize))
	found, err := filepath.Glob(filepath.Join(w.from.Dir, identity.PacksDir, "*", "*.hfpk"))
	must(t, err)
	var sealed string
	for _, name := range found {
		if info, err := os.Stat(name); err == nil && info.Size() > identity.MinPackBytes/2 {
			sealed = name
		}
	}
	f, err := os.OpenFile(sealed, os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("damage"), 700<<10)
	must(t, err, f.Close())
	r, err := w.offloader(0).Run(t.Context(), job())
	if !errors.Is(err, ErrSome) || len(r.Errors) != 1 || !strings.Contains(r.Errors[0], "1 chunks of disk.img.fidx are damaged or missing") {
		t.Errorf("%v: %v", err, r.Errors)
	}
	if got := names(t, w.to.Datastore()); got != third {
		t.Errorf("in the bucket are %q", got)
	}
}

// What is younger than the job's age waits; notes that changed follow.
func TestAfterAndNotes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	w.backup(first, image(1, 4*chunkSize))
	w.backup(second, image(2, 4*chunkSize))
	o, err := New(Config{From: w.from, To: w.to, Now: func() time.Time { return time.Date(2024, 1, 8, 12, 0, 0, 0, time.UTC) }})
	must(t, err)
	j := job()
	j.After = 7 * 24 * time.Hour
	_, err = o.Run(t.Context(), j)
	must(t, err)
	if got := names(t, w.to.Datastore()); got != first {
		t.Errorf("in the bucket are %q", got)
	}
	must(t, w.from.SetNotes("", snapshot(t, first), "of the old one"))
	r, err := o.Run(t.Context(), j)
	must(t, err)
	m, err := w.to.Datastore().Manifest("", snapshot(t, first))
	if err != nil || r.Renewed != 1 || m.Notes() != "of the old one" {
		t.Errorf("notes %q, %+v: %v", m.Notes(), r, err)
	}
}
