package gc

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// site is a store with a collector, for ordinary tests.
type site struct {
	*Collector
	t     *testing.T
	store *twin
	roots *memRoots
	fs    disk.FS
}

func newSite(t *testing.T, packEntries int, can pack.Abilities) *site {
	t.Helper()
	s := &site{t: t, store: newTwin(packEntries, can), roots: &memRoots{}, fs: newFiles()}
	s.store.frames = true
	s.boot()
	return s
}

var canPunch = pack.Abilities{Punch: true}

func (s *site) boot() {
	s.t.Helper()
	c, err := New(Config{Store: s.store, Roots: s.roots, FS: s.fs, Dir: "gc", TTL: ttl})
	if err != nil {
		s.t.Fatal(err)
	}
	s.Collector = c
}

func (s *site) open() *Session {
	s.t.Helper()
	x, err := s.Open("backup", "vm/100")
	s.ok(err)
	return x
}

func (s *site) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// chunk is the i-th chunk of all tests.
func chunk(i int) chunktest.Chunk { return chunktest.Blob(uint64(i), 100) }

// put stores the chunks given by number.
func (s *site) put(x *Session, all ...int) {
	s.t.Helper()
	for _, i := range all {
		c := chunk(i)
		_, err := x.Put(context.Background(), c.Digest, c.Blob)
		s.ok(err)
	}
}

func digestsOf(all ...int) (ds []chunks.Digest) {
	for _, i := range all {
		ds = append(ds, chunk(i).Digest)
	}
	return ds
}

func index(all ...int) []Index { return []Index{Seq(slices.Values(digestsOf(all...)))} }

// backup makes a snapshot of the chunks given.
func (s *site) backup(id string, all ...int) *memRoot {
	s.t.Helper()
	x := s.open()
	s.put(x, all...)
	var r *memRoot
	s.ok(x.Finish(context.Background(), index(all...), func() error {
		r = s.roots.add(id, digestsOf(all...))
		return nil
	}))
	return r
}

func (s *site) collect(o Options) Report {
	s.t.Helper()
	r, err := s.Run(context.Background(), o)
	s.ok(err)
	return r
}

// holds checks which of the first ten chunks the store knows, as in "0 1 5".
func (s *site) holds(want string) {
	s.t.Helper()
	var got []string
	for i := range 10 {
		if _, ok := s.store.Lookup(chunk(i).Digest); ok {
			got = append(got, string(rune('0'+i)))
		}
	}
	if g := strings.Join(got, " "); g != want {
		s.t.Errorf("the store holds chunks %q, want %q", g, want)
	}
}

// wants fails the test unless err says all of parts.
func wants(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one about %q", parts)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q does not say %q", err, p)
		}
	}
}
