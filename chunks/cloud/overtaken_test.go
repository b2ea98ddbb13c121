package cloud

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/identity"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// ownerFails lets the requests for the owner fail from the one of that number on; -1:
// none.
func (s *site) ownerFails(from int64) {
	met := atomic.Int64{}
	s.proxy.On(func(r cloudtest.Request) *cloudtest.Fault {
		if from < 0 || !getBelow("/owner")(r) || met.Add(1) <= from {
			return nil
		}
		return &cloudtest.Fault{Status: 403, Code: "AccessDenied"}
	})
}

// A late is an owner that has sent a root and does not know whether it counts.
type late struct {
	*site
	dir  string
	st   *Store
	gc   *gc.Collector
	more []chunktest.Chunk // what that root names first
}

// newLate has an owner with something in the bucket, and more that is only here.
func newLate(t *testing.T) *late {
	t.Helper()
	l := &late{site: newSite(t, false), dir: t.TempDir()}
	l.st = l.owner(l.dir, func(c *Config) { c.Node = "n" })
	old := put(t, l.st, 3000, 1, 3)
	offload(t, l.st)
	l.more = put(t, l.st, 3000, 100, 3)
	if err := l.st.PutFile("vm/1", []byte("b")); err != nil {
		t.Fatal(err)
	}
	l.gc = collector(t, l.st, naming("all", slices.Concat(old, l.more)))
	return l
}

// collect collects garbage as a tier does: also if the bucket does not answer.
func (l *late) collect(t *testing.T) {
	t.Helper()
	_ = l.st.Secure(t.Context())
	collect(t, l.gc)
}

// wantKept wants each chunk to be here or with whoever owns the bucket now.
func (l *late) wantKept(t *testing.T, other *Store, when string) {
	t.Helper()
	for _, c := range l.more {
		if !l.st.local.Known(c.Digest) && (other == nil || !other.Confirmed(c.Digest)) {
			t.Fatalf("%s a chunk is neither on the disk nor in the bucket", when)
		}
	}
}

// seconds are what may come after an offload that does not know whether its root counts.
var seconds = map[string]func(ctx context.Context, t *testing.T, l *late) error{
	"offload": func(ctx context.Context, _ *testing.T, l *late) error {
		_, err := l.st.Offload(ctx, OffloadOptions{})
		return err
	},
	"refresh, offload": func(ctx context.Context, _ *testing.T, l *late) error {
		_ = l.st.Refresh(ctx)
		_, err := l.st.Offload(ctx, OffloadOptions{})
		return err
	},
	"refresh, collect": func(ctx context.Context, t *testing.T, l *late) error {
		_ = l.st.Refresh(ctx)
		l.collect(t)
		return nil
	},
	"flush, collect, offload": func(ctx context.Context, t *testing.T, l *late) error {
		err := l.st.Flush(ctx, nil)
		l.collect(t)
		_, again := l.st.Offload(ctx, OffloadOptions{})
		return errors.Join(err, again)
	},
	"sweep, collect, sweep": func(ctx context.Context, t *testing.T, l *late) error {
		_, err := l.st.Sweep(ctx)
		l.collect(t)
		_, again := l.st.Sweep(ctx)
		return errors.Join(err, again)
	},
	"refresh, audit, collect": func(ctx context.Context, t *testing.T, l *late) error {
		_ = l.st.Refresh(ctx)
		_, err := l.st.Audit(ctx, AuditOptions{})
		l.collect(t)
		return err
	},
	"refresh, stop, start, collect, offload": func(ctx context.Context, t *testing.T, l *late) error {
		_ = l.st.Refresh(ctx)
		stop(l.st)
		l.st = l.node(l.dir, func(c *Config) { c.Node = "n" })
		l.gc = collector(t, l.st, naming("all", l.more))
		err := l.st.Acquire(ctx, AcquireOptions{})
		l.collect(t)
		_, again := l.st.Offload(ctx, OffloadOptions{})
		return errors.Join(err, again)
	},
}

// Whoever has lost the bucket and does not know it takes nothing off its disk that the
// new owner never saw: whichever question who owns it stays without an answer, whatever
// it does next, and whenever the other one came.
func TestOvertakenOwnerKeepsWhatNobodySaw(t *testing.T) {
	for name, second := range seconds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, before := range []bool{true, false} {
				for _, fails := range []int64{0, 1, -1} {
					overtaken(t, second, before, fails)
				}
			}
		})
	}
}

func overtaken(t *testing.T, second func(context.Context, *testing.T, *late) error, before bool, fails int64) {
	t.Helper()
	l := newLate(t)
	var other *Store
	take := func() {
		other = l.node(t.TempDir(), func(c *Config) { c.Node = "m" })
		if err := other.Acquire(t.Context(), AcquireOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	if before {
		take()
	}
	l.ownerFails(0)
	if r, err := l.st.Offload(t.Context(), OffloadOptions{}); err == nil || r.Evicted > 0 {
		t.Fatalf("nobody said who owns the bucket: %+v, %v", r, err)
	}
	l.wantKept(t, nil, "after the first try")
	l.ownerFails(-1)
	if !before {
		take()
	}
	l.ownerFails(fails)
	_ = second(t.Context(), t, l)
	l.ownerFails(-1)
	put(t, other, 3000, 200, 3)
	offload(t, other)
	l.wantKept(t, other, "after the second try")
	if _, err := l.st.Offload(t.Context(), OffloadOptions{}); !errors.Is(err, ErrFenced) && !errors.Is(err, ErrReadOnly) {
		t.Errorf("offload by who was overtaken: %v", err)
	}
	l.collect(t)
	l.wantKept(t, other, "after a collection")
	if err := l.st.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.collect(t)
	l.wantKept(t, other, "after a refresh and a collection")
	wantAll(t, l.st, l.more)
	if err := l.st.Acquire(t.Context(), AcquireOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	offload(t, l.st)
	wantAll(t, l.node(t.TempDir()), l.more) // in the end it is in the bucket
}

// An owner that is the owner still goes on where it was.
func TestLateRootCounts(t *testing.T) {
	for name, second := range seconds {
		l := newLate(t)
		l.ownerFails(0)
		if _, err := l.st.Offload(t.Context(), OffloadOptions{}); err == nil {
			t.Fatal("nobody said who owns the bucket")
		}
		l.ownerFails(-1)
		if err := second(t.Context(), t, l); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		offload(t, l.st)
		for _, c := range l.more {
			if l.st.local.Known(c.Digest) {
				t.Errorf("%s: a chunk is still on the disk", name)
			}
		}
		wantAll(t, l.st, l.more)
	}
}

// What another store on this disk has is not called safe in the bucket, and let go
// there, before the root that names it is known to count.
func TestAdoptAfterTakeOver(t *testing.T) {
	for _, fails := range []int64{0, -1} {
		s := newSite(t, false)
		st := s.owner(t.TempDir())
		from := t.TempDir()
		src := local(t, from)
		defer src.Close()
		put(t, src, 10_000, 1, 5)
		other := s.node(t.TempDir(), func(c *Config) { c.Node = "m" })
		if err := other.Acquire(t.Context(), AcquireOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
		pin := func() error { t.Error("it is said to be in the bucket"); return nil }
		s.ownerFails(0)
		if _, err := st.Adopt(t.Context(), loads(t, src, from), pin); err == nil {
			t.Error("nobody said who owns the bucket")
		}
		s.ownerFails(fails)
		if _, err := st.Adopt(t.Context(), nil, pin); err == nil {
			t.Error("the second time either")
		}
		if err := st.Flush(t.Context(), nil); err == nil {
			t.Error("nor when it was published")
		}
	}
}

// A root that is newer than any of ours can be, and that we did not write, is enough to
// know that the bucket is another's, whatever its owner's object says.
func TestForeignRootFences(t *testing.T) {
	l := newLate(t)
	name := l.object(l.st, layout.OwnerKey)
	ours, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	other := l.owner(t.TempDir(), func(c *Config) { c.Node = "m" })
	put(t, other, 3000, 200, 3)
	offload(t, other)
	if _, err := l.st.b.PutBytes(t.Context(), layout.OwnerKey, ours, bucket.PutOption{}); err != nil { // as of a bucket that was put back in part
		t.Fatal(err)
	}
	if err := l.st.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.st.Offload(t.Context(), OffloadOptions{}); !errors.Is(err, ErrFenced) {
		t.Errorf("offload: %v", err)
	}
	l.wantKept(t, nil, "after it")
}

// A pack that a root named which never counted leaves the older ones with the same
// chunks in their place.
func TestOlderPackIsFoundAgain(t *testing.T) {
	l := newLate(t)
	packs, err := l.st.meta.Indexes(t.Context(), &l.st.head)
	if err != nil {
		t.Fatal(err)
	}
	h, twin := l.st.Newest(), packs[0]
	twin.ID = format.NewID()
	l.st.adopt(&h, append(slices.Clone(packs), twin))
	l.st.adopt(&h, packs)
	for _, row := range packs[0].Rows {
		if !l.st.Confirmed(row.Digest) {
			t.Fatal("a chunk is not known any more")
		}
	}
}

// An owner's object that is damaged is written anew by who wrote it last; if that was
// somebody else the error names the command, and the audit still says what else is wrong.
func TestOwnerIsMended(t *testing.T) {
	damages := map[string]func(b []byte) []byte{
		"cut":    func(b []byte) []byte { return b[:len(b)/2] },
		"zeroed": func(b []byte) []byte { return make([]byte, len(b)) },
		"empty":  func([]byte) []byte { return nil },
	}
	for name, damage := range damages {
		l := newLate(t)
		file := l.object(l.st, layout.OwnerKey)
		harm := func() {
			whole, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			rewrite(t, file, damage(whole))
		}
		harm()
		if r, err := l.st.Audit(t.Context(), AuditOptions{}); err != nil || r.Objects == 0 {
			t.Fatalf("%s: audit by who wrote it: %+v, %v", name, r, err)
		}
		if o, err := l.st.Owner(t.Context()); err != nil || o.Node != "n" || o.Epoch != l.st.Stats().Epoch {
			t.Errorf("%s: after it the owner is %+v, %v", name, o, err)
		}
		if err := l.st.renew(t.Context()); err != nil {
			t.Errorf("%s: renew: %v", name, err)
		}
		other := l.node(t.TempDir(), func(c *Config) { c.Node = "m" })
		if err := other.Acquire(t.Context(), AcquireOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
		harm()
		l.losePacks(l.st)
		r, err := l.st.Audit(t.Context(), AuditOptions{DeleteOrphans: true})
		var hinted interface{ Hint() string }
		if !errors.Is(err, identity.ErrDamaged) || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "holdfast datastore take-over NAME --force") {
			t.Errorf("%s: audit by who did not: %v", name, err)
		}
		if len(r.Missing) != 1 || r.Deleted != 0 || l.st.Stats().Lost != 0 {
			t.Errorf("%s: it found %+v, and believes that %d are lost", name, r, l.st.Stats().Lost)
		}
		if _, err := l.st.Offload(t.Context(), OffloadOptions{}); !errors.Is(err, identity.ErrDamaged) {
			t.Errorf("%s: offload: %v", name, err)
		}
		l.wantKept(t, nil, name)
		if err := other.renew(t.Context()); err != nil { // replaces it, as nobody came between
			t.Errorf("%s: renew by who wrote it: %v", name, err)
		}
	}
}

// An audit does not take for orphans what a root of ours names that an offload wrote
// without hearing so.
func TestAuditKeepsALateRoot(t *testing.T) {
	l := newLate(t)
	l.ownerFails(0)
	if _, err := l.st.Offload(t.Context(), OffloadOptions{}); err == nil {
		t.Fatal("nobody said who owns the bucket")
	}
	l.ownerFails(-1)
	time.Sleep(1100 * time.Millisecond) // object times are in seconds
	if _, err := l.st.Audit(t.Context(), AuditOptions{DeleteOrphans: true}); err != nil {
		t.Fatal(err)
	}
	wantAll(t, l.node(t.TempDir()), l.more)
	offload(t, l.st)
	wantAll(t, l.node(t.TempDir()), l.more)
}
