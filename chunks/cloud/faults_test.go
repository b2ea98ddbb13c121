package cloud

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// A kind is one kind of request, and work that makes it.
type kind struct {
	name string
	is   func(cloudtest.Request) bool
	work func(t *testing.T, st *Store, confirmed []chunktest.Chunk) error
}

func putBelow(part string) func(cloudtest.Request) bool {
	return func(r cloudtest.Request) bool { return r.Class == "put" && strings.Contains(r.Key, part) }
}

func getBelow(part string) func(cloudtest.Request) bool {
	return func(r cloudtest.Request) bool { return r.Class == "get" && strings.Contains(r.Key, part) }
}

func upload(t *testing.T, st *Store, _ []chunktest.Chunk) error {
	_, err := st.Offload(t.Context(), OffloadOptions{})
	return err
}

// rebuild reads all that a new machine needs.
func rebuild(t *testing.T, st *Store, _ []chunktest.Chunk) error {
	dir := t.TempDir()
	cfg := st.cfg
	cfg.Local, cfg.Dir = local(t, dir), filepath.Join(dir, "cloud")
	again, err := Open(t.Context(), cfg, st.format.Store)
	if err != nil {
		return errors.Join(err, cfg.Local.Close())
	}
	defer stop(again)
	files := 0
	err = again.EachFile(t.Context(), func(string, []byte) error { files++; return nil })
	if err == nil && again.meta.Doubtful() { // an answer that is cut is like an object that is
		return errors.New(again.Stats().Doubt)
	}
	if err == nil && files == 0 {
		t.Error("the rebuild shows no file")
	}
	return err
}

var kinds = []kind{
	{"put a pack", putBelow("/p/"), upload},
	{"put an index object", putBelow("/i/"), upload},
	{"put a bundle", putBelow("/s/"), upload},
	{"put a root", putBelow("/r/"), upload},
	{"renew the lease", putBelow("/owner"), func(t *testing.T, st *Store, _ []chunktest.Chunk) error { return st.renew(t.Context()) }},
	{"ask who owns", getBelow("/owner"), upload},
	{"read the format", getBelow("/format"), rebuild},
	{"read a root", getBelow("/r/"), rebuild},
	{"read an index object", getBelow("/i/"), rebuild},
	{"read a bundle", getBelow("/s/"), rebuild},
	{"read a stretch", getBelow("/p/"), func(t *testing.T, st *Store, cs []chunktest.Chunk) error {
		_, err := st.Bypass().Get(t.Context(), cs[3].Digest, nil)
		return err
	}},
	{"list", func(r cloudtest.Request) bool { return r.Class == "list" }, func(t *testing.T, st *Store, _ []chunktest.Chunk) error {
		_, err := st.Audit(t.Context(), AuditOptions{DeleteOrphans: true})
		return err
	}},
	{"delete", func(r cloudtest.Request) bool { return r.Class == "delete" && r.HTTP.Method == http.MethodPost }, func(t *testing.T, st *Store, _ []chunktest.Chunk) error {
		n, err := st.Sweep(t.Context())
		if err == nil && n < 2 {
			t.Errorf("%d packs were there to delete", n)
		}
		return err
	}},
}

// A faulty is one way of going wrong.
type faulty struct {
	name  string
	fault cloudtest.Fault
	up    cloudtest.Fault // of requests whose body goes up, if it is another one
	want  error           // nil: any
	slow  bool            // it would take long with a client that is as patient as ours is
}

var faulties = []faulty{
	{name: "a storm of 403", fault: cloudtest.Fault{Status: 403, Code: "AccessDenied"}, want: bucket.ErrDenied},
	{name: "a bucket that was deleted", fault: cloudtest.Fault{Status: 404, Code: "NoSuchBucket"}, want: bucket.ErrNoBucket},
	{name: "throttling", fault: cloudtest.Fault{Status: 503, Code: "SlowDown"}, want: bucket.ErrThrottled, slow: true},
	{name: "a clock that is off", fault: cloudtest.Fault{Status: 403, Code: "RequestTimeTooSkewed"}, want: bucket.ErrClock},
	{name: "connections that break", fault: cloudtest.Fault{Reset: true}},
	{name: "answers that are lost", fault: cloudtest.Fault{Reset: true, After: true}},
	{name: "errors inside", fault: cloudtest.Fault{Status: 500, Code: "InternalError"}},
	{name: "bodies that are cut", fault: cloudtest.Fault{Cut: 40}, up: cloudtest.Fault{CutUp: 40}},
	{name: "bodies that are cut and look whole", fault: cloudtest.Fault{Cut: 40, Shrink: true}, up: cloudtest.Fault{CutUp: 40}},
	{name: "bodies that are flipped", fault: cloudtest.Fault{Flip: 45}, up: cloudtest.Fault{FlipUp: 45}},
	{name: "bodies that stall", fault: cloudtest.Fault{Stall: 40}, up: cloudtest.Fault{Hang: true}, slow: true},
	{name: "answers that do not come", fault: cloudtest.Fault{Hang: true}, want: bucket.ErrSilent, slow: true},
}

// of is what happens to a request.
func (f *faulty) of(r cloudtest.Request) *cloudtest.Fault {
	if r.Class == "put" && (f.up.Hang || f.up.CutUp+f.up.FlipUp > 0) {
		return &f.up
	}
	return &f.fault
}

// Whatever goes wrong with whichever kind of request, the work fails with the
// error that says so, does what was left when it is over, and nothing is lost.
func TestEveryFaultOfEveryRequest(t *testing.T) {
	for _, f := range faulties {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, true)
			w := &weather{site: s, faulty: f, dir: t.TempDir()}
			w.open()
			w.all = put(t, w.st, 10_000, 1, 20)
			w.doomed = put(t, w.st, 10_001, 1000, uint64(dooms*len(kinds)))
			offload(t, w.st)
			for i, k := range kinds {
				w.try(t, i, k)
			}
			if _, err := w.st.Sweep(t.Context()); err != nil {
				t.Error(err)
			}
			offload(t, w.st)
			wantAll(t, s.node(t.TempDir()), w.all)
		})
	}
}

// dooms is how many chunks die before each kind of request: more than a pack has.
const dooms = 9

// weather is a store and what goes wrong with it.
type weather struct {
	*site
	faulty
	dir    string
	st     *Store
	all    []chunktest.Chunk // must not be lost
	doomed []chunktest.Chunk
}

func (w *weather) open() {
	w.st = w.owner(w.dir, func(c *Config) { c.PackBytes = 40_000 })
}

// with opens the store anew, with another bucket.
func (w *weather) with(b *bucket.Bucket) {
	stop(w.st)
	w.b = b
	w.open()
}

// hasty returns a bucket that waits for little.
func (w *weather) hasty(t *testing.T) *bucket.Bucket {
	t.Helper()
	b, err := bucket.New(bucket.Config{
		Endpoint: w.proxy.URL, Region: cloudtest.Region, Bucket: cloudtest.Name, PathStyle: true, Can: cloudtest.Full,
		Account: cloudtest.Account(t, bucket.AccountConfig{Answer: 500 * time.Millisecond}), Backoff: time.Millisecond, Attempts: 2, Stall: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// try lets every request of a kind go wrong.
func (w *weather) try(t *testing.T, i int, k kind) {
	t.Helper()
	w.all = append(w.all, put(t, w.st, 10_000, uint64(10_000+10*i), 3)...)
	if err := w.st.PutFile(fmt.Sprint("vm/", i), []byte{byte(i)}); err != nil {
		t.Fatal(err)
	}
	kill(t, w.st, w.doomed[dooms*i:dooms*(i+1)])
	if w.slow {
		w.with(w.hasty(t))
	}
	met := atomic.Int64{}
	w.proxy.On(func(r cloudtest.Request) *cloudtest.Fault {
		if k.is(r) {
			met.Add(1)
			return w.of(r)
		}
		return nil
	})
	// A write whose answer is lost is known to be done by its mark; an owner's object that
	// looks damaged, and is what we wrote last, is written anew.
	err := k.work(t, w.st, w.all[:20])
	mended := k.name == "ask who owns" && (w.fault.Shrink || w.fault.Flip > 0)
	if lost := (w.fault.After || mended) && err == nil; !lost && (err == nil || w.want != nil && !errors.Is(err, w.want)) {
		t.Errorf("%s: %v, want %v", k.name, err, w.want)
	}
	if met.Load() == 0 && !w.slow {
		t.Errorf("%s: no such request was made", k.name)
	}
	w.proxy.On(nil)
	if w.slow {
		w.with(cloudtest.Open(t, w.proxy.URL)) // which was never told to slow down
	}
	if err := k.work(t, w.st, w.all[:20]); err != nil && k.name != "delete" {
		t.Errorf("%s, when it is over: %v", k.name, err)
	}
	wantMany(t, w.st, w.all)
}

// kill condemns chunks and has what the bucket keeps of them buried.
func kill(t *testing.T, st *Store, cs []chunktest.Chunk) {
	t.Helper()
	dead := &pack.Set{}
	for _, c := range cs {
		r, ok := st.Lookup(c.Digest)
		if !ok {
			continue // with the rest of its pack
		}
		words := make([]uint64, r.Entry/64+1)
		words[r.Entry/64] = 1 << (r.Entry % 64)
		dead.OrRow(r.Pack, words)
	}
	st.Condemn(dead)
	for n := range dead.Rows() {
		if _, err := st.Reclaim(t.Context(), n, pack.Copy, plainSwitch); err != nil {
			t.Fatal(err)
		}
	}
}
