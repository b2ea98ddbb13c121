package cloud

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/identity"
)

// Backup, offload, restore and rebuild on a new machine, each within its
// budget of requests; nothing can be read in the bucket of an encrypted store.
func TestRoundTripWithFewRequests(t *testing.T) {
	for _, encrypt := range []bool{false, true} {
		t.Run(fmt.Sprint("encrypted=", encrypt), func(t *testing.T) {
			s := newSite(t, encrypt)
			st := s.owner(t.TempDir())
			cs := put(t, st, 100_000, 1, 200) // 20 MB: 5 packs of 4 MiB
			if err := st.PutFile("host/a/1/index.json", []byte("a manifest that nobody may read")); err != nil {
				t.Fatal(err)
			}
			s.proxy.Reset()
			r := offload(t, st)
			if r.Chunks != 200 || r.Evicted != 200 || r.Packs < 5 || r.Packs > 6 {
				t.Errorf("offload: %+v", r)
			}
			if n := s.proxy.Counts()["put"]; n > r.Packs+6 {
				t.Errorf("%v requests to upload %d packs", s.proxy.Counts(), r.Packs)
			}
			if left, err := st.local.Missing(t.Context(), []chunks.Digest{cs[0].Digest, cs[199].Digest}); err != nil || len(left) != 2 {
				t.Errorf("after the offload the disk lacks %d of 2 chunks, %v", len(left), err)
			}
			s.proxy.Reset()
			wantAll(t, st, cs)
			if n := s.proxy.Counts()["get"]; n > 2*(2*r.Packs+3) {
				t.Errorf("%d requests for two full reads of %d packs", n, r.Packs)
			}
			stop(st)

			s.proxy.Reset()
			again := s.node(t.TempDir()) // nothing but the bucket and the key
			files, err := again.Files(t.Context())
			if err != nil || string(files["host/a/1/index.json"]) != "a manifest that nobody may read" {
				t.Errorf("files of the bucket: %v, %v", files, err)
			}
			if n := s.proxy.Total(); n > 7 {
				t.Errorf("the rebuild took %v", s.proxy.Counts())
			}
			wantAll(t, again, cs)
			if encrypt {
				nothingLeaks(t, s, cs)
			}
		})
	}
}

// nothingLeaks looks for digests and content in the server's own files.
func nothingLeaks(t *testing.T, s *site, cs []chunktest.Chunk) {
	t.Helper()
	seen := 0
	for _, f := range bucketFiles(t, s) {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		seen += len(b)
		for _, c := range cs[:20] {
			if strings.Contains(string(b), string(c.Digest[:16])) || strings.Contains(string(b), string(c.Blob[100:132])) {
				t.Fatalf("%s shows chunk %s", f, c.Digest.Short())
			}
		}
		if strings.Contains(string(b), "manifest that nobody") || strings.Contains(string(b), "index.json") {
			t.Fatalf("%s shows a manifest", f)
		}
	}
	if seen < 20_000_000 {
		t.Fatalf("only %d bytes were looked at", seen)
	}
}

// bucketFiles lists the objects as the server keeps them.
func bucketFiles(t *testing.T, s *site) (names []string) {
	t.Helper()
	err := filepath.Walk(s.dir(), func(name string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// A process that dies at any request of an offload, whether the bucket has
// done it or not, loses nothing, and its successor finishes the work.
func TestCrashAtEveryRequest(t *testing.T) {
	s := newSite(t, true)
	dir := t.TempDir()
	st := s.owner(dir)
	var all []chunktest.Chunk
	steps := 0
	for n := 0; ; n++ {
		for _, after := range []bool{false, true} {
			all = append(all, put(t, st, 3000, uint64(1000*n+len(all)), 3)...)
			if err := st.PutFile(fmt.Sprint("file", n), []byte{byte(n)}); err != nil {
				t.Fatal(err)
			}
			dead := cloudtest.Fault{Status: 403, Code: "AccessDenied"}
			s.proxy.Reset()
			s.proxy.On(func(r cloudtest.Request) *cloudtest.Fault {
				f := dead
				switch total := s.proxy.Total(); {
				case total <= n:
					return nil
				case total == n+1:
					f.After = after
				}
				return &f
			})
			_, err := st.Offload(t.Context(), OffloadOptions{})
			s.proxy.On(nil)
			if err == nil {
				steps = max(n, 1)
			}
			wantAll(t, st, all)
			stop(st)
			st = s.node(dir)
			wantAll(t, st, all)
			if err := st.Acquire(t.Context(), AcquireOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if steps > 0 {
			break
		}
		offload(t, st) // what was left is no work of the next one, which looks for each pack
	}
	if steps < 4 {
		t.Errorf("an offload takes %d requests: the test saw too few steps", steps)
	}
	if _, err := st.Offload(t.Context(), OffloadOptions{}); err != nil {
		t.Fatal(err)
	}
	stop(st)
	again := s.node(t.TempDir())
	wantAll(t, again, all)
	files, err := again.Files(t.Context())
	for n := range steps {
		if c := files[fmt.Sprint("file", n)]; len(c) != 1 || c[0] != byte(n) {
			t.Errorf("file %d is %v, %v", n, c, err)
		}
	}
}

// The same for every change of the local disk; every third one in a short run.
func TestCrashAtEveryChangeOfTheDisk(t *testing.T) {
	s := newSite(t, false)
	dir := t.TempDir()
	var all []chunktest.Chunk
	stride := 4
	if os.Getenv("HOLDFAST_SOAK") != "" {
		stride = 1
	}
	for n := 0; ; n += stride {
		fsys := &failing{}
		st := s.node(dir, func(c *Config) { c.FS = fsys })
		if err := st.Acquire(t.Context(), AcquireOptions{}); err != nil {
			t.Fatal(err)
		}
		all = append(all, put(t, st, 3000, uint64(1000*n), 3)...)
		if err := st.PutFile(fmt.Sprint("file", n), []byte{byte(n)}); err != nil {
			t.Fatal(err)
		}
		fsys.failAfter(n)
		_, err := st.Offload(t.Context(), OffloadOptions{})
		stop(st)
		st = s.node(dir)
		wantAll(t, st, all)
		if err := st.Acquire(t.Context(), AcquireOptions{}); err != nil {
			t.Fatal(err)
		}
		offload(t, st)
		wantAll(t, st, all)
		stop(st)
		if err == nil {
			if n < 12 {
				t.Errorf("an offload changes the disk %d times: the test saw too few steps", n)
			}
			break
		}
	}
	st := s.node(t.TempDir())
	wantAll(t, st, all)
	if files, err := st.Files(t.Context()); err != nil || len(files) < 3 {
		t.Errorf("files: %d, %v", len(files), err)
	}
}

// What is young stays; what is old goes, also after a restart.
func TestOffloadByAge(t *testing.T) {
	s := newSite(t, false)
	dir := t.TempDir()
	st := s.owner(dir)
	cs := put(t, st, 1000, 1, 10)
	r, err := st.Offload(t.Context(), OffloadOptions{After: 200 * time.Millisecond})
	if err != nil || r.Packs != 0 {
		t.Errorf("young chunks were uploaded: %+v, %v", r, err)
	}
	time.Sleep(250 * time.Millisecond)
	stop(st)
	st = s.owner(dir)
	if r, err = st.Offload(t.Context(), OffloadOptions{After: 200 * time.Millisecond}); err != nil || r.Evicted != 10 {
		t.Errorf("old chunks stayed: %+v, %v", r, err)
	}
	wantAll(t, st, cs)
}

// A backup does not wait for a bucket that is not there, and nothing leaves
// the disk.
func TestBucketAway(t *testing.T) {
	s := newSite(t, false)
	st := s.owner(t.TempDir())
	faults := map[string]cloudtest.Fault{
		"denied":    {Status: 403, Code: "AccessDenied"},
		"throttled": {Status: 503, Code: "SlowDown"},
		"gone":      {Status: 404, Code: "NoSuchBucket"},
		"reset":     {Reset: true},
	}
	wants := map[string]error{"denied": bucket.ErrDenied, "throttled": bucket.ErrThrottled, "gone": bucket.ErrNoBucket}
	var all []chunktest.Chunk
	for name, f := range faults {
		s.proxy.On(func(cloudtest.Request) *cloudtest.Fault { return &f })
		all = append(all, put(t, st, 1000, uint64(len(all)), 10)...)
		_, err := st.Offload(t.Context(), OffloadOptions{})
		if err == nil || wants[name] != nil && !errors.Is(err, wants[name]) {
			t.Errorf("%s: %v", name, err)
		}
		wantAll(t, st, all)
	}
	s.proxy.On(nil)
	if r := offload(t, st); r.Evicted != len(all) {
		t.Errorf("afterwards %+v", r)
	}
	wantAll(t, st, all)
}

// A flipped or cut body is never handed out: it is read again or refused.
func TestDamagedBodies(t *testing.T) {
	for _, encrypt := range []bool{false, true} {
		s := newSite(t, encrypt)
		st := s.owner(t.TempDir())
		cs := put(t, st, 50_000, 1, 20)
		offload(t, st)
		for _, at := range []int64{1, 97, 200, 30_000} {
			s.proxy.On(func(r cloudtest.Request) *cloudtest.Fault { return &cloudtest.Fault{Flip: at} })
			if _, err := st.Get(t.Context(), cs[7].Digest, nil); !errors.Is(err, chunks.ErrCorrupt) {
				t.Errorf("encrypted %t, byte %d flipped: %v", encrypt, at, err)
			}
		}
		s.proxy.On(nil)
		wantAll(t, st, cs)
	}
}

func TestWrongKeys(t *testing.T) {
	s, other := newSite(t, true), newSite(t, true)
	st := s.owner(t.TempDir())
	put(t, st, 1000, 1, 3)
	offload(t, st)
	for name, change := range map[string]func(*Config){
		"no key":        func(c *Config) { c.Keys = nil },
		"another's":     func(c *Config) { c.Keys[0] = other.key },
		"no such store": func(c *Config) { c.Bucket = c.Bucket.Sub("elsewhere") },
	} {
		dir := t.TempDir()
		cfg := Config{Local: local(t, dir), Bucket: s.b, Dir: filepath.Join(dir, "cloud"), Node: "n", Keys: ids(s)}
		change(&cfg)
		store, err := Open(t.Context(), cfg, s.id)
		if err == nil {
			stop(store)
		}
		var hinted interface{ Hint() string }
		if !errors.As(err, &hinted) || hinted.Hint() == "" {
			t.Errorf("%s: %v", name, err)
		}
		_ = cfg.Local.Close()
	}
	if _, err := identity.Create(t.Context(), s.b, identity.Options{Recipients: recipients(s), Proof: s.key}); !errors.Is(err, ErrTaken) {
		t.Errorf("a second store: %v", err)
	}
	if _, err := identity.Create(t.Context(), s.b.Sub("x"), identity.Options{Recipients: recipients(s), Proof: other.key}); err == nil {
		t.Error("a store was made that the recovery key does not open")
	}
	if found, err := identity.Stores(t.Context(), s.b.Sub("x")); err != nil || len(found) != 0 {
		t.Errorf("what could not be proved stayed: %v, %v", found, err)
	}
	if found, err := identity.Stores(t.Context(), s.b); err != nil || len(found) != 1 || found[0] != s.id {
		t.Errorf("stores: %v, %v", found, err)
	}
}

// A backup of the very chunks that are on their way finds them, and a
// cancelled offload goes on later.
func TestCancelledOffload(t *testing.T) {
	s := newSite(t, false)
	st := s.owner(t.TempDir())
	cs := put(t, st, 100_000, 1, 100)
	ctx, cancel := context.WithCancel(t.Context())
	s.proxy.On(func(r cloudtest.Request) *cloudtest.Fault {
		if r.Class == "put" && r.N > 0 {
			cancel()
			return &cloudtest.Fault{Hang: true}
		}
		return nil
	})
	s.proxy.Reset()
	began := time.Now()
	if _, err := st.Offload(ctx, OffloadOptions{}); !errors.Is(err, context.Canceled) || time.Since(began) > 20*time.Second {
		t.Errorf("cancelled: %v after %s", err, time.Since(began))
	}
	s.proxy.On(nil)
	wantAll(t, st, cs)
	if known, err := st.Put(t.Context(), cs[3].Digest, cs[3].Blob); err != nil || !known {
		t.Errorf("put of what is on its way: %t, %v", known, err)
	}
	if r := offload(t, st); r.Evicted != 100 {
		t.Errorf("afterwards %+v", r)
	}
	wantAll(t, st, cs)
}

// A root that was written though its offload never heard so is no reason for
// the next offload to fail: it reads that root and comes behind it.
func TestOffloadComesBehindARootOfItsOwn(t *testing.T) {
	s := newSite(t, false)
	st := s.owner(t.TempDir())
	all := put(t, st, 1000, 0, 10)
	s.proxy.On(func(r cloudtest.Request) *cloudtest.Fault {
		if r.Class == "put" && strings.Contains(r.Key, "/r/") {
			return &cloudtest.Fault{Status: 403, Code: "AccessDenied", After: true}
		}
		return nil
	})
	if _, err := st.Offload(t.Context(), OffloadOptions{}); err == nil {
		t.Fatal("an offload whose root was denied went well")
	}
	s.proxy.On(nil)
	all = append(all, put(t, st, 1000, 100, 10)...)
	r := offload(t, st)
	wantAll(t, st, all)
	if r.Chunks != 10 || st.Stats().Waiting != 0 {
		t.Errorf("the offload after it did %+v, want the ten new chunks; %d packs wait", r, st.Stats().Waiting)
	}
	wantAll(t, s.owner(t.TempDir()), all) // and a new machine sees all of it
}
