package tier

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
)

// A taking is a node that takes the bucket over by force, past the proxy.
type taking struct {
	cfg      Config
	recovery string
	tr       *Tier
}

func (s *site) taking(recovery string) *taking {
	cfg := s.config("other")
	cfg.Bucket = cloudtest.Open(s.t, s.server.URL)
	return &taking{cfg: cfg, recovery: recovery}
}

// take takes over, and collects all garbage there is: a first collection names it as
// dead, a second one deletes it, the grace being nothing.
func (o *taking) take(s *site) {
	if err := Attach(s.t.Context(), o.cfg, o.recovery, true); err != nil {
		s.t.Errorf("take over: %v", err)
		return
	}
	o.tr, _ = s.open(o.cfg)
	o.collect(s)
}

func (o *taking) collect(s *site) {
	for range 3 {
		if _, err := o.tr.Collect(s.t.Context(), gc.Options{}); err != nil {
			s.t.Errorf("collection of the new owner: %v", err)
		}
	}
}

// wantWhole wants every chunk of every snapshot that a node claims to have.
func wantWhole(t *testing.T, when string, tr *Tier) {
	t.Helper()
	list, err := tr.Datastore().List(t.Context(), catalog.ListOptions{Depth: -1})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		for _, f := range i.Files {
			x, err := tr.Datastore().ReadIndex(i.Namespace, i.Snapshot(), f.Name)
			if err != nil {
				continue
			}
			for _, d := range x.All() {
				b, err := tr.Datastore().Chunks().Get(t.Context(), d, nil)
				if err != nil || b.Verify(d, nil) != nil {
					t.Errorf("%s: %s of %s: a chunk is neither on the disk nor in the bucket: %v", when, i.Snapshot(), tr.cfg.Node, err)
					return
				}
			}
		}
	}
}

// An offload wrote a root that let chunks leave the disk, and a second one with their
// snapshot. Whoever took the bucket over between the two did not have the snapshot,
// and its collection deleted the chunks, of which no copy was left anywhere.
func TestTakeOverAtEachStepOfAnOffload(t *testing.T) {
	for n := 0; ; n++ {
		if steps := takenOverAt(t, n); steps <= n {
			if steps < 7 { // pack, index, root, owner; bundle, root, owner
				t.Errorf("an offload took %d requests: the test saw too few steps", steps)
			}
			return
		}
		if t.Failed() {
			t.Fatalf("taken over before request %d", n)
		}
	}
}

// takenOverAt has another node take the bucket over before that request of an offload,
// and returns how many requests there were.
func takenOverAt(t *testing.T, n int) int {
	s := newSite(t)
	cfg := s.config("home")
	recovery := s.create(cfg, n%2 == 0)
	tr, stop := s.open(cfg)
	first, second := image(1, 6*chunkSize), image(2, 6*chunkSize)
	mustBackup(t, tr, day1, first)
	offload(t, tr, OffloadOptions{})
	mustBackup(t, tr, day2, slices.Concat(first[:2*chunkSize], second))
	other := s.taking(recovery)
	s.proxy.Reset()
	var once sync.Once
	s.proxy.On(func(cloudtest.Request) *cloudtest.Fault {
		if s.proxy.Total() == n+1 {
			once.Do(func() { other.take(s) })
		}
		return nil
	})
	_, _ = tr.Offload(t.Context(), OffloadOptions{})
	steps := s.proxy.Total()
	s.proxy.On(nil)
	if other.tr == nil {
		return steps
	}
	_, _ = tr.Offload(t.Context(), OffloadOptions{})
	_, _ = tr.Collect(t.Context(), gc.Options{})
	other.collect(s)
	wantWhole(t, "after the take-over", tr)
	wantWhole(t, "after the take-over", other.tr)
	stop()
	tr, stop = s.open(cfg)
	defer stop()
	_, _ = tr.Refresh(t.Context())
	_, _ = tr.Collect(t.Context(), gc.Options{})
	wantWhole(t, "after a start and a refresh", tr)
	return steps
}

// Of a snapshot with a chunk that is damaged on the disk the others went to the bucket
// and left the disk, though the bucket was never told of the snapshot: a new owner
// deleted them. They stay on the disk for as long as the bucket has no snapshot that
// needs them, whatever is collected here, and go when it has.
func TestChunksStayUntilTheirSnapshotIsTold(t *testing.T) {
	s := newSite(t)
	cfg := s.config("home")
	recovery := s.create(cfg, false)
	tr, stop := s.open(cfg)
	content := image(1, 6*chunkSize)
	mustBackup(t, tr, day1, content)
	stop()
	whole := damageLocal(t, cfg.Dir)
	tr, stop = s.open(cfg)
	if r := offload(t, tr, OffloadOptions{}); r.Mirror.Waiting != 1 || r.Chunks != 6 || r.Evicted != 0 {
		t.Fatalf("offload of a snapshot that is damaged: %+v", r)
	}
	if _, err := tr.Collect(t.Context(), gc.Options{}); err != nil {
		t.Fatal(err)
	}
	whole()
	other := s.taking(recovery)
	other.take(s)
	wantImage(t, tr, day1, content)
	stop()
	tr, _ = s.open(cfg)
	if err := tr.TakeOver(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	wantImage(t, tr, day1, content)
	if r := offload(t, tr, OffloadOptions{}); r.Evicted != 6 || r.Mirror.Added != 1 {
		t.Errorf("offload when it is whole: %+v", r)
	}
	wantImage(t, tr, day1, content)
}

// damageLocal flips a byte in the middle of the largest local pack, and returns what
// flips it back.
func damageLocal(t *testing.T, dir string) (back func()) {
	t.Helper()
	packs, err := filepath.Glob(filepath.Join(dir, "packs", "*", "*.hfpk"))
	if err != nil || len(packs) != 1 {
		t.Fatalf("%d local packs, %v", len(packs), err)
	}
	flip := func() {
		b, err := os.ReadFile(packs[0])
		if err != nil {
			t.Fatal(err)
		}
		b[3*chunkSize] ^= 1
		if err := os.WriteFile(packs[0], b, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	flip()
	return flip
}

// What a backup in the making had sent left a full disk before there was a snapshot. A
// new owner deleted it, and the backup ended well. Now the bucket is told of the
// snapshot before anybody is told that the backup is done, and who has lost the bucket
// says so and has no such snapshot.
func TestABackupLargerThanTheDisk(t *testing.T) {
	for _, taken := range []bool{false, true} {
		s := newSite(t)
		cfg := s.config("home")
		recovery := s.create(cfg, false)
		var tr *Tier
		content := image(1, 6*chunkSize)
		first := chunks.Sum(content[:chunkSize])
		full := true
		cfg.FS = tight{free: func() int64 {
			if full && tr != nil && tr.store.Local().Known(first) {
				return 1 << 20
			}
			return 1 << 40
		}}
		tr, _ = s.open(cfg)
		other := s.taking(recovery)
		err := backupIn(t, tr.Datastore(), day1, content, func() {
			if err := tr.Datastore().AwaitRoom(t.Context()); err != nil {
				t.Fatalf("room: %v", err)
			}
			if full = false; taken {
				other.take(s)
			}
		})
		if !taken {
			if err != nil {
				t.Fatal(err)
			}
			other.take(s)
			if got := names(t, other.tr); got != day1 {
				t.Fatalf("the bucket was told of %q when the backup was done", got)
			}
			wantWhole(t, "after a take-over", other.tr)
			continue
		}
		if got := names(t, tr); !errors.Is(err, cloud.ErrFenced) || got != "" {
			t.Errorf("a backup of which the bucket has nothing any more ended with %v, and there is %q", err, got)
		}
	}
}
