package cloud

import (
	"errors"
	"strings"
	"testing"

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

func upload(t *testing.T, st *Store, _ []chunktest.Chunk) error {
	_, err := st.Offload(t.Context(), OffloadOptions{})
	return err
}

var kinds = []kind{
	{"put a pack", putBelow("/p/"), upload},
	{"put an index object", putBelow("/i/"), upload},
	{"put a root", putBelow("/r/"), upload},
	{"renew the lease", putBelow("/owner"), func(t *testing.T, st *Store, _ []chunktest.Chunk) error { return st.renew(t.Context()) }},
	{"ask who owns", func(r cloudtest.Request) bool { return r.Class == "get" && strings.HasSuffix(r.Key, "/owner") }, upload},
	{"read a stretch", func(r cloudtest.Request) bool { return r.Class == "get" && strings.Contains(r.Key, "/p/") },
		func(t *testing.T, st *Store, cs []chunktest.Chunk) error {
			_, err := st.Bypass().Get(t.Context(), cs[3].Digest, nil)
			return err
		}},
	{"list", func(r cloudtest.Request) bool { return r.Class == "list" }, func(t *testing.T, st *Store, _ []chunktest.Chunk) error {
		_, err := st.Audit(t.Context(), AuditOptions{DeleteOrphans: true})
		return err
	}},
	{"delete", func(r cloudtest.Request) bool { return r.Class == "delete" }, func(t *testing.T, st *Store, _ []chunktest.Chunk) error {
		n, err := st.Sweep(t.Context())
		if err == nil && n == 0 {
			t.Error("nothing was there to delete")
		}
		return err
	}},
}

// Whatever goes wrong with whichever kind of request, the work fails with the
// error that says so, does what was left when it is over, and nothing is lost.
func TestEveryFaultOfEveryRequest(t *testing.T) {
	faults := []struct {
		name  string
		fault cloudtest.Fault
		want  error // nil: any
	}{
		{"a storm of 403", cloudtest.Fault{Status: 403, Code: "AccessDenied"}, bucket.ErrDenied},
		{"a bucket that was deleted", cloudtest.Fault{Status: 404, Code: "NoSuchBucket"}, bucket.ErrNoBucket},
		{"throttling", cloudtest.Fault{Status: 503, Code: "SlowDown"}, bucket.ErrThrottled},
		{"a clock that is off", cloudtest.Fault{Status: 403, Code: "RequestTimeTooSkewed"}, bucket.ErrClock},
		{"connections that break", cloudtest.Fault{Reset: true}, nil},
		{"answers that are lost", cloudtest.Fault{Reset: true, After: true}, nil},
		{"errors inside", cloudtest.Fault{Status: 500, Code: "InternalError"}, nil},
	}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, true)
			dir, small := t.TempDir(), func(c *Config) { c.PackBytes = 40_000 }
			st := s.owner(dir, small)
			all := put(t, st, 10_000, 1, 20)
			doomed := put(t, st, 10_001, 1000, uint64(3*len(kinds)))
			offload(t, st)
			for i, k := range kinds {
				all = append(all, put(t, st, 10_000, uint64(10_000+10*i), 3)...)
				kill(t, st, doomed[3*i:3*i+3])
				s.proxy.On(func(r cloudtest.Request) *cloudtest.Fault {
					if k.is(r) {
						return &f.fault
					}
					return nil
				})
				// A write whose answer is lost is known to be done by its mark.
				err := k.work(t, st, all[:20])
				if lost := f.fault.After && err == nil; !lost && (err == nil || f.want != nil && !errors.Is(err, f.want)) {
					t.Errorf("%s: %v, want %v", k.name, err, f.want)
				}
				s.proxy.On(nil)
				if err := k.work(t, st, all[:20]); err != nil && k.name != "delete" {
					t.Errorf("%s, when it is over: %v", k.name, err)
				}
				wantAll(t, st, all)
				stop(st)
				s.b = cloudtest.Open(t, s.proxy.URL) // which has forgotten that it was to slow down
				st = s.owner(dir, small)
			}
			if _, err := st.Sweep(t.Context()); err != nil {
				t.Error(err)
			}
			offload(t, st)
			wantAll(t, s.node(t.TempDir()), all)
		})
	}
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
