package cloud

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/identity"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/lock"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
)

// lockedSite is a site whose bucket has Object Lock.
func lockedSite(t *testing.T, p lock.Policy) *site {
	srv := cloudtest.Start(t)
	front := cloudtest.Front(t, srv)
	key, err := seal.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, server: srv, proxy: front, b: cloudtest.Lockable(t, front.URL, p), key: key}
	s.id, err = identity.Create(t.Context(), s.b, identity.Options{Encrypt: true, Recipients: []age.Recipient{key.Recipient()}, Proof: key, PackBytes: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// until returns until when each object of a store is locked.
func until(t *testing.T, st *Store) map[string]time.Time {
	t.Helper()
	all, err := st.b.ListAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	locks := map[string]time.Time{}
	for key := range all {
		if locks[key], err = st.b.Retention(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	return locks
}

// Everything but the owner's object is locked when it is written, and nobody can
// delete it, with our own key either.
func TestObjectsAreLocked(t *testing.T) {
	p := lock.Policy{Mode: lock.Compliance, Days: 7}
	s := lockedSite(t, p)
	st := s.owner(t.TempDir())
	defer stop(st)
	put(t, st, 300_000, 1, 40)
	offload(t, st)
	locks := until(t, st)
	if len(locks) < 6 {
		t.Fatalf("there are only %v", slices.Sorted(maps.Keys(locks)))
	}
	for key, at := range locks {
		left := time.Until(at)
		switch {
		case key == layout.OwnerKey || strings.HasPrefix(key, layout.CanaryDir):
			if !at.IsZero() {
				t.Errorf("%s is locked until %s, and has to be replaced for every lease", key, at)
			}
		case left < 7*24*time.Hour-time.Minute || left > 8*24*time.Hour:
			t.Errorf("%s is locked until %s", key, at)
		default:
			if err := st.b.Delete(t.Context(), key); !errors.Is(err, bucket.ErrDenied) {
				t.Errorf("%s can be deleted: %v", key, err)
			}
		}
	}
}

// What nothing needs is deleted when its lock has ended, and not before.
func TestGarbageIsHeld(t *testing.T) {
	s := lockedSite(t, lock.Policy{Mode: lock.Governance, Days: 7})
	st := s.owner(t.TempDir())
	defer stop(st)
	roots := snapshots{}
	c := collector(t, st, roots)
	roots.backup(t, c, "gone", blobs(90_000, 1, 90))
	offload(t, st)
	keep := blobs(90_000, 1000, 90)
	roots.backup(t, c, "kept", keep)
	offload(t, st)
	delete(roots, "gone")
	if _, err := c.Run(t.Context(), gc.Options{}); err != nil {
		t.Fatal(err)
	}
	s.proxy.Reset()
	for range 2 {
		if n, err := st.Sweep(t.Context()); n != 0 || err != nil {
			t.Fatalf("it deleted %d packs that are locked: %v", n, err)
		}
	}
	if n := s.proxy.Counts()["delete"]; n > 0 {
		t.Errorf("%d times it tried to delete what is locked", n)
	}
	if held := st.Stats(); held.Buried == 0 || held.Held.Before(time.Now().Add(6*24*time.Hour)) {
		t.Errorf("%d packs are buried and held until %s", held.Buried, held.Held)
	}
	// A bill that left out what is condemned and lies there still was half of the truth.
	var lies int64
	if err := st.b.List(t.Context(), "p/", func(page []bucket.Info) error {
		for _, o := range page {
			lies += o.Size
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if is := st.Stats(); is.Condemned == 0 || is.Bytes+is.Condemned != lies {
		t.Errorf("%d bytes of packs are needed and %d condemned; %d lie in the bucket", is.Bytes, is.Condemned, lies)
	}
	if r, err := st.Audit(t.Context(), AuditOptions{DeleteOrphans: true}); err != nil || len(r.Missing) > 0 {
		t.Errorf("audit: %+v, %v", r, err)
	}
	st.mu.Lock()
	for i := range st.head.Dead { // the week is over, but for the server
		st.head.Dead[i].Held = time.Time{}
	}
	st.mu.Unlock()
	if n, err := st.Sweep(t.Context()); n != 0 || err != nil {
		t.Errorf("the server has them locked still: %d, %v", n, err)
	}
	wantAll(t, st, keep)
}

// Locks are renewed for what is needed while half of their time is left.
func TestLocksAreRenewed(t *testing.T) {
	s := lockedSite(t, lock.Policy{Mode: lock.Governance, Days: 7})
	st := s.owner(t.TempDir())
	defer stop(st)
	var cs []chunktest.Chunk
	cs = append(cs, put(t, st, 300_000, 1, 30)...)
	offload(t, st)
	// The first collection renewed all locks, seconds after they were set.
	s.proxy.Reset()
	if _, err := st.Sweep(t.Context()); err != nil || s.proxy.Total() > 0 {
		t.Errorf("the first sweep took %v, %v", s.proxy.Counts(), err)
	}
	st.b = st.b.Locked(lock.Policy{Mode: lock.Governance, Days: 90})
	if _, err := st.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	fresh := 0
	for key, at := range until(t, st) {
		if left := time.Until(at); left > 89*24*time.Hour {
			fresh++
		} else if strings.HasPrefix(key, layout.PackDir) || key == layout.FormatKey {
			t.Errorf("%s is locked until %s", key, at)
		}
	}
	s.proxy.Reset()
	if _, err := st.Sweep(t.Context()); err != nil || s.proxy.Total() > 0 {
		t.Errorf("a second sweep took %v, %v", s.proxy.Counts(), err)
	}
	if fresh < 4 {
		t.Errorf("%d objects are locked anew", fresh)
	}
	// Locks that had been renewed for a shorter time lapsed before the next renewal.
	st.b = st.b.Locked(lock.Policy{Mode: lock.Governance, Days: 120})
	if _, err := st.Sweep(t.Context()); err != nil || s.proxy.Counts()["put"] < 4 {
		t.Errorf("a longer policy took %v, %v", s.proxy.Counts(), err)
	}
	st.b = st.b.Locked(lock.Policy{Mode: lock.Governance, Days: 30}) // a shorter one is no reason to fail
	st.mu.Lock()
	st.head.Locked = time.Time{}
	st.mu.Unlock()
	if _, err := st.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	wantAll(t, st, cs)
}

// A bucket without Object Lock is no silent success.
func TestBucketWithoutLock(t *testing.T) {
	s := newSite(t, true)
	s.b = s.b.Locked(lock.Policy{Mode: lock.Governance, Days: 7})
	st := s.owner(t.TempDir())
	defer stop(st)
	put(t, st, 300_000, 1, 5)
	if _, err := st.Offload(t.Context(), OffloadOptions{}); err == nil {
		t.Error("objects are said to be locked in a bucket that cannot lock any")
	}
}
