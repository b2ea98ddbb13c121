package cloud

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
)

func TestOneOwner(t *testing.T) {
	s := newSite(t, false)
	home := s.owner(t.TempDir())
	cs := put(t, home, 10_000, 1, 20)
	offload(t, home)

	dc := s.node(t.TempDir(), func(c *Config) { c.Node = "dc" })
	wantAll(t, dc, cs) // anybody with the key may read
	if _, err := dc.Offload(t.Context(), OffloadOptions{}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("a reader offloads: %v", err)
	}
	if err := dc.Acquire(t.Context(), AcquireOptions{}); !errors.Is(err, ErrOwned) {
		t.Errorf("the lease has not ended: %v", err)
	}
	more := put(t, home, 10_000, 100, 20)
	offload(t, home)
	if err := dc.Acquire(t.Context(), AcquireOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	wantAll(t, dc, append(cs, more...)) // what was confirmed before counts
	late := put(t, home, 10_000, 200, 20)
	if _, err := home.Offload(t.Context(), OffloadOptions{}); !errors.Is(err, ErrFenced) {
		t.Errorf("the old owner offloads: %v", err)
	}
	if _, err := home.Sweep(t.Context()); !errors.Is(err, ErrFenced) {
		t.Errorf("the old owner sweeps: %v", err)
	}
	home.fenced, home.onlyRead = false, false // as if it had not heard yet
	if _, err := home.Audit(t.Context(), AuditOptions{DeleteOrphans: true}); !errors.Is(err, ErrFenced) {
		t.Errorf("the old owner audits: %v", err)
	}
	wantAll(t, home, late) // not confirmed, so still on its disk
	last := put(t, dc, 10_000, 300, 20)
	offload(t, dc)
	wantAll(t, s.node(t.TempDir()), append(append(cs, more...), last...))
	o, err := dc.Owner(t.Context())
	if err != nil || o.Node != "dc" || o.Epoch != 2 {
		t.Errorf("owner is %+v, %v", o, err)
	}
}

// Two nodes take the bucket from each other again and again, and both upload
// and delete. What an owner was told is confirmed is there for everyone.
func TestTwoOwnersRace(t *testing.T) {
	rounds := 12
	if os.Getenv("HOLDFAST_SOAK") != "" {
		rounds = 1000
	}
	s := newSite(t, false)
	nodes := []*Store{
		s.node(t.TempDir(), func(c *Config) { c.Node = "a" }),
		s.node(t.TempDir(), func(c *Config) { c.Node = "b" }),
	}
	type result struct{ confirmed []chunktest.Chunk }
	results := make(chan result, 2)
	for i, st := range nodes {
		go func() {
			var r result
			for round := range rounds {
				if err := st.Acquire(context.Background(), AcquireOptions{Force: true}); err != nil && !errors.Is(err, ErrOwned) {
					t.Error(err)
				}
				cs := put(t, st, 2000, uint64(i+1)<<32+uint64(10*round), 2)
				if _, err := st.Offload(context.Background(), OffloadOptions{}); err == nil {
					r.confirmed = append(r.confirmed, cs...)
				} else if !raceError(err) {
					t.Error(err)
				}
				if _, err := st.Sweep(context.Background()); err != nil && !raceError(err) {
					t.Error(err)
				}
			}
			results <- r
		}()
	}
	var all []chunktest.Chunk
	for range nodes {
		all = append(all, (<-results).confirmed...)
	}
	if len(all) == 0 {
		t.Error("nobody ever confirmed anything")
	}
	reader := s.node(t.TempDir(), func(c *Config) { c.Node = "reader" })
	wantAll(t, reader, all)
	t.Logf("%d of %d chunks were confirmed in %d rounds", len(all), 4*rounds, rounds)
}

// raceError reports whether a loser may see err.
func raceError(err error) bool {
	return errors.Is(err, ErrFenced) || errors.Is(err, ErrReadOnly) || errors.Is(err, ErrOwned) || errors.Is(err, bucket.ErrExists)
}

// A store that ignores conditions is refused, unless somebody answers for it.
func TestUnfencedStore(t *testing.T) {
	s := newSite(t, false)
	can := cloudtest.Full
	can.Replace = false
	st := s.node(t.TempDir(), func(c *Config) { c.Bucket = s.b.With(can) })
	if err := st.Acquire(t.Context(), AcquireOptions{Force: true}); !errors.Is(err, ErrUnfenced) {
		t.Errorf("acquire: %v", err)
	}
	if err := st.Acquire(t.Context(), AcquireOptions{SingleWriter: true}); err != nil {
		t.Fatal(err)
	}
	cs := put(t, st, 1000, 1, 3)
	offload(t, st)
	wantAll(t, st, cs)
}

// Somebody who can write into the bucket cannot make us believe a root.
func TestForgedRoots(t *testing.T) {
	s, other := newSite(t, false), newSite(t, false)
	st, stranger := s.owner(t.TempDir()), other.owner(t.TempDir())
	cs := put(t, st, 1000, 1, 3)
	put(t, stranger, 1000, 1, 3)
	offload(t, st)
	offload(t, stranger)
	part := s.b.Sub(layout.Root + s.id.String())
	body, _, err := part.Get(t.Context(), layout.RootKey(st.head.Seq), 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	theirs, _, err := other.b.Sub(layout.Root+other.id.String()).Get(t.Context(), layout.RootKey(stranger.head.Seq), 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	next := layout.Seq{Epoch: 9, N: 9}
	forged := map[string][]byte{
		"another store's":     theirs,
		"an old one, renamed": body,
		"changed":             bytes.Replace(body, []byte(`"packs":1`), []byte(`"packs":2`), 1),
		"no JSON":             []byte("no"),
	}
	for name, b := range forged {
		if _, err := part.PutBytes(t.Context(), layout.RootKey(next), b, bucket.PutOption{}); err != nil {
			t.Fatal(err)
		}
		was := st.Stats().Root
		if err := st.Refresh(t.Context()); err != nil || st.Stats().Root != was || st.Stats().Behind != next.String() {
			t.Errorf("%s: %v; the root was believed, or nothing is said of it: %+v", name, err, st.Stats())
		}
		wantAll(t, st, cs)
	}
}

// While nothing happens, nothing is asked but the renewal of the lease.
func TestIdleDay(t *testing.T) {
	s := newSite(t, false)
	st := s.owner(t.TempDir())
	put(t, st, 1000, 1, 3)
	offload(t, st)
	s.proxy.Reset()
	renewals := int(24 * time.Hour / (st.cfg.Lease / 3))
	for range renewals {
		if err := st.renew(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.proxy.Total(); n != renewals || renewals > 12 {
		t.Errorf("%d renewals took %v", renewals, s.proxy.Counts())
	}
	if _, err := st.Offload(t.Context(), OffloadOptions{}); err != nil || s.proxy.Total() != renewals {
		t.Errorf("an offload of nothing took %v, %v", s.proxy.Counts(), err)
	}
}

func TestAudit(t *testing.T) {
	s := newSite(t, false)
	st := s.owner(t.TempDir(), func(c *Config) { c.PackBytes = 40_000 })
	cs := put(t, st, 10_000, 1, 330) // 110 packs
	offload(t, st)
	s.proxy.Reset()
	r, err := st.Audit(t.Context(), AuditOptions{})
	if err != nil || len(r.Missing)+len(r.Wrong) > 0 || r.Objects < 110 {
		t.Fatalf("audit: %+v, %v", r, err)
	}
	if n := s.proxy.Total(); n > 8 { // three of them are what PutBack reads
		t.Errorf("the audit took %v", s.proxy.Counts())
	}
	untrue := map[string]cloudtest.Fault{
		"empty 200": {Empty: true},
		"no canary": {Rewrite: func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("canary"), []byte("cankry")) }},
		"half of it, and no more to come": {Rewrite: func(b []byte) []byte {
			from, to := bytes.Index(b, []byte("<Contents>")), bytes.LastIndex(b, []byte("</Contents>"))
			return append(bytes.Clone(b[:from]), b[to+len("</Contents>"):]...)
		}},
	}
	for name, f := range untrue {
		s.proxy.On(func(r cloudtest.Request) *cloudtest.Fault {
			if r.Class == "list" {
				return &f
			}
			return nil
		})
		if _, err := st.Audit(t.Context(), AuditOptions{DeleteOrphans: true}); !errors.Is(err, bucket.ErrListing) {
			t.Errorf("%s: %v", name, err)
		}
		s.proxy.On(nil)
		wantAll(t, st, cs[:10])
	}
	lose(t, s, st, cs)
}

// lose takes a pack out of the bucket behind our back, and then many.
func lose(t *testing.T, s *site, st *Store, cs []chunktest.Chunk) {
	t.Helper()
	packs := st.table.all()
	part := s.b.Sub(layout.Root + s.id.String())
	if err := part.Delete(t.Context(), layout.PackKey(packs[7].id)); err != nil {
		t.Fatal(err)
	}
	orphan := layout.PackKey([16]byte{1})
	if _, err := part.PutBytes(t.Context(), orphan, []byte("x"), bucket.PutOption{}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond) // object times are in seconds
	r, err := st.Audit(t.Context(), AuditOptions{DeleteOrphans: true})
	if err != nil || len(r.Missing) != 1 || r.Missing[0] != packs[7].id || len(r.Orphans) != 1 || r.Orphans[0] != orphan {
		t.Fatalf("audit of a lost pack: %+v, %v", r, err)
	}
	var again []chunktest.Chunk
	for _, c := range cs {
		if !st.Known(c.Digest) {
			again = append(again, c)
		}
	}
	if n := len(again) + r.Rescued; n == 0 || n > 4 {
		t.Fatalf("%d chunks are denied, %d were still on the disk", len(again), r.Rescued)
	}
	for _, c := range again { // whoever has them stores them again
		if _, err := st.Put(t.Context(), c.Digest, c.Blob); err != nil {
			t.Fatal(err)
		}
	}
	offload(t, st)
	wantAll(t, st, cs)
	for _, p := range packs[20:40] {
		if err := part.Delete(t.Context(), layout.PackKey(p.id)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := st.Audit(t.Context(), AuditOptions{DeleteOrphans: true}); !errors.Is(err, bucket.ErrListing) {
		t.Errorf("a fifth of all packs vanished and the audit said %v", err)
	}
	// A bucket that was put back to an older state has neither in a listing nor when each
	// is asked for: backups were told that it had the chunks until an audit believed it.
	again = nil
	for _, c := range cs {
		if !st.Known(c.Digest) {
			again = append(again, c)
		}
	}
	for _, c := range again {
		if _, err := st.Put(t.Context(), c.Digest, c.Blob); err != nil {
			t.Fatal(err)
		}
	}
	wantAll(t, st, cs)
}

func TestStoreStatsAreJSON(t *testing.T) {
	s := newSite(t, false)
	st := s.owner(t.TempDir())
	put(t, st, 1000, 1, 3)
	offload(t, st)
	b, err := json.Marshal(st.Stats())
	if err != nil || !strings.Contains(string(b), `"packs":1`) {
		t.Errorf("%s, %v", b, err)
	}
}
