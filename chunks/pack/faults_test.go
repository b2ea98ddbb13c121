package pack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

const smallPack = 256 << 10 // so that a short history seals packs

// A story is a history of a store on a disk that fails at times. It remembers
// what it was promised.
type story struct {
	mem   *disktest.Mem
	s     *Store
	seed  uint64
	acked map[chunks.Digest]chunks.Blob // durable, by the word of the store
	dead  map[chunks.Digest]bool        // condemned by us: it may be there or not
	tried map[chunks.Digest]chunks.Blob // stored, but not promised yet
	errs  []error
}

func newStory(t testing.TB, m *disktest.Mem) *story {
	t.Helper()
	if _, err := identity.Init(m, "/store", identity.MinPackBytes); err != nil {
		t.Fatal(err)
	}
	return &story{mem: m, acked: map[chunks.Digest]chunks.Blob{}, dead: map[chunks.Digest]bool{}, tried: map[chunks.Digest]chunks.Blob{}}
}

// failed notes an error and reports whether there was one.
func (y *story) failed(err error) bool {
	if err != nil {
		y.errs = append(y.errs, err)
	}
	return err != nil
}

func (y *story) open() {
	s, err := Open(context.Background(), Config{FS: y.mem, Dir: "/store", Reserve: 1, Direct: DirectOn})
	if !y.failed(err) {
		s.SetPackBytes(smallPack)
		y.s = s
	}
}

func (y *story) close() {
	if y.s != nil {
		y.failed(y.s.Close())
		y.s = nil
	}
}

// put stores n new chunks of about size bytes, and again those of which it was
// not promised that they are there, and commits them. They count as promised
// if nothing has failed from the first Put to the Commit.
func (y *story) put(n, size int) {
	if y.s == nil {
		return
	}
	for range n {
		y.seed++
		c := chunktest.Blob(y.seed, size+int(y.seed*37%1000))
		y.tried[c.Digest] = c.Blob
	}
	failures, fresh := y.s.Failures(), map[chunks.Digest]chunks.Blob{}
	for _, d := range slices.SortedFunc(maps.Keys(y.tried), chunks.Digest.Compare) {
		b := y.tried[d]
		if _, err := y.s.Put(context.Background(), d, b); !y.failed(err) {
			fresh[d] = b
		}
	}
	if !y.failed(y.s.Commit(context.Background())) && y.s.Failures() == failures {
		maps.Copy(y.acked, fresh)
		for d := range fresh {
			delete(y.tried, d)
		}
	}
}

// collect condemns every third chunk that is promised, and reclaims them by
// one method after the other.
func (y *story) collect(t testing.TB, methods ...Method) {
	if y.s == nil {
		return
	}
	if _, _, err := y.s.BeginEpoch(context.Background()); y.failed(err) {
		return
	}
	set := &Set{}
	for i, d := range slices.SortedFunc(maps.Keys(y.acked), chunks.Digest.Compare) {
		if ref, ok := y.s.Lookup(d); ok && i%3 == 0 {
			set.Add(ref)
			y.dead[d] = true
			delete(y.acked, d)
		}
	}
	y.s.Condemn(set)
	if y.failed(y.s.SyncState(context.Background())) {
		return
	}
	for i, p := range y.s.Packs() {
		_, err := y.s.Reclaim(context.Background(), p.Number, methods[i%len(methods)], func(_ []Move, apply func()) { apply() })
		y.failed(err)
	}
}

// tell tells the whole history.
func (y *story) tell(t testing.TB) {
	y.open()
	y.put(10, 3000)
	y.put(12, 70<<10)
	y.put(20, 2000)
	y.close()
	y.open()
	y.collect(t, Punch, Copy, Reflink)
	y.put(8, 50<<10)
	y.put(5, 100)
	y.collect(t, Copy, Punch)
	y.close()
	y.open()
	y.put(4, 80<<10)
}

// check promises that everything that was acknowledged is there and right.
func (y *story) check(t testing.TB, when string) {
	t.Helper()
	for d, want := range y.acked {
		b, err := y.s.Get(context.Background(), d, nil)
		if err != nil || !bytes.Equal(b, want) {
			t.Fatalf("%s: LOST chunk %s, which was acknowledged: %v; health %+v", when, d.Short(), err, y.s.Health())
		}
		if !y.s.Known(d) {
			t.Fatalf("%s: chunk %s, which was acknowledged, is denied; health %+v", when, d.Short(), y.s.Health())
		}
	}
	report, err := y.s.Scrub(context.Background(), ScrubOptions{Deep: true})
	if err != nil {
		t.Fatalf("%s: scrub: %v", when, err)
	}
	for _, d := range report.Damaged {
		t.Errorf("%s: scrub finds chunk %s in pack %s at %d damaged: %s", when, d.Digest.Short(), d.Pack, d.Offset, d.Reason)
	}
}

// recover goes on when the disk works again: in the same process, after a
// stop, after a crash.
func (y *story) recover(t testing.TB) {
	t.Helper()
	again := func(when string) {
		before := len(y.errs)
		y.put(6, 3000)
		y.put(3, 70<<10)
		y.collect(t, Punch, Copy)
		for _, err := range y.errs[before:] {
			t.Errorf("%s the disk works again, and the store says: %v", when, err)
		}
		y.check(t, when)
	}
	if y.s == nil {
		y.open()
	} else {
		// What was lost on the way may be told once.
		_ = y.s.Commit(context.Background())
	}
	if y.s == nil {
		t.Fatalf("the disk works again, and Open says: %v", y.errs[len(y.errs)-1])
	}
	again("in the same process")
	before := len(y.errs)
	y.close()
	y.open()
	if len(y.errs) > before {
		t.Fatalf("the disk works again, and a restart says: %v", y.errs[before:])
	}
	again("after a restart")
	y.mem, y.s = y.mem.CrashLosing(), nil
	y.open()
	if y.s == nil {
		t.Fatalf("after a crash: %v", y.errs[len(y.errs)-1])
	}
	again("after a crash")
	y.close()
}

// A mishap makes operations of some kinds fail: the first of them at number k
// of those kinds.
type mishap struct {
	name  string
	err   error
	kinds []disktest.Kind
	lasts bool // all later ones fail as well, until the disk works again
}

// arm makes the k-th operation fail, and returns whether it was reached.
func (m mishap) arm(mem *disktest.Mem, k int64) (reached func() bool) {
	var n atomic.Int64
	mem.SetHook(func(op disktest.Op) error {
		if !slices.Contains(m.kinds, op.Kind) {
			return nil
		}
		if at := n.Add(1); at == k || at > k && m.lasts {
			return m.err
		}
		return nil
	})
	return func() bool { return n.Load() >= k }
}

var (
	needRoom = []disktest.Kind{disktest.Write, disktest.Create, disktest.Mkdir, disktest.Sync, disktest.Rename, disktest.Clone}
	changes  = append([]disktest.Kind{disktest.Truncate, disktest.Remove, disktest.SyncDir, disktest.Punch}, needRoom...)
	reads    = []disktest.Kind{disktest.Read, disktest.Open, disktest.Map, disktest.Stat, disktest.ReadDir, disktest.Space, disktest.Ident}
)

// TestFaultAtEveryOperation lets a history meet a full disk, or a disk that
// fails, at each of its operations in turn, once and for good, and promises:
// whatever was acknowledged stays; errors are told, and a full disk is called
// one; when the disk works again so does the store, without a restart.
func TestFaultAtEveryOperation(t *testing.T) {
	for _, m := range []mishap{
		{"a full disk, once", syscall.ENOSPC, needRoom, false},
		{"a full disk from then on", syscall.ENOSPC, needRoom, true},
		{"a failed change, once", syscall.EIO, changes, false},
		{"failed changes from then on", syscall.EIO, changes, true},
		{"a failed read, once", syscall.EIO, reads, false},
		{"failed reads from then on", syscall.EIO, reads, true},
	} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			step := int64(1)
			switch {
			case os.Getenv("HOLDFAST_SOAK") != "":
			case testing.Short() || raceEnabled:
				step = 7
			case slices.Contains(m.kinds, disktest.Read): // there are many, and they are much alike
				step = 5
			}
			var k, told int64
			for k = 1; ; k += step {
				y := newStory(t, disktest.NewMem())
				reached := m.arm(y.mem, k)
				y.tell(t)
				y.mem.SetHook(nil)
				if !reached() {
					break
				}
				for _, err := range y.errs {
					told++
					if m.err == syscall.ENOSPC && !errors.Is(err, chunks.ErrNoSpace) {
						t.Errorf("operation %d: a full disk is called %v", k, err)
					}
				}
				if y.recover(t); t.Failed() {
					t.Fatalf("with %s at operation %d; errors on the way: %q", m.name, k, y.errs)
				}
			}
			t.Logf("%d operations failed in turn, %d errors told, nothing lost", (k-1)/step, told)
		})
	}
}

// A full pack is sealed beside the work, with nobody to hear of a failure. The
// next Commit tells of it, or Close if that comes first.
func TestFailedSealIsTold(t *testing.T) {
	for _, by := range []string{"commit", "close"} {
		t.Run(by, func(t *testing.T) {
			y := newStory(t, disktest.NewMem())
			y.open()
			y.s.Abilities() // the probe syncs as well
			mishap{err: syscall.EIO, kinds: []disktest.Kind{disktest.Sync}}.arm(y.mem, 1)
			for i := range uint64(5) { // more than a pack
				c := chunktest.Blob(i, 70<<10)
				if _, err := y.s.Put(t.Context(), c.Digest, c.Blob); err != nil {
					t.Fatal(err)
				}
			}
			y.s.sealing.Wait()
			if n := y.s.Failures(); n != 1 {
				t.Fatalf("the test is void: %d packs failed", n)
			}
			if by == "commit" {
				if err := y.s.Commit(t.Context()); !errors.Is(err, syscall.EIO) {
					t.Errorf("commit says %v", err)
				}
				if err := y.s.Commit(t.Context()); err != nil {
					t.Errorf("and again: %v", err)
				}
				y.close()
				if len(y.errs) > 0 {
					t.Errorf("close says %v", y.errs)
				}
				return
			}
			if err := y.s.Close(); !errors.Is(err, syscall.EIO) {
				t.Errorf("close says %v", err)
			}
			if y.open(); y.s == nil || y.s.Health().Clean {
				t.Errorf("after a stop that failed: %v", y.errs)
			}
			y.close()
		})
	}
}

// TestGarbageCollectionOnFullDisk fills a disk to the last block. Then chunks
// are refused, and a collection still works and makes room.
func TestGarbageCollectionOnFullDisk(t *testing.T) {
	for _, tt := range []struct {
		name    string
		without disk.Abilities
		method  Method
	}{
		{"by punching", disk.Abilities{}, Punch},
		{"by dropping", disk.Abilities{Punch: true, Clone: true}, Drop},
	} {
		t.Run(tt.name, func(t *testing.T) {
			y := newStory(t, disktest.NewMem())
			y.mem.Disable(tt.without)
			y.mem.SetLimit(8 << 20)
			y.open()
			for len(y.errs) == 0 {
				y.put(10, 70<<10)
			}
			for _, err := range y.errs {
				if !errors.Is(err, chunks.ErrNoSpace) {
					t.Errorf("a full disk is called %v", err)
				}
			}
			clear(y.tried) // what found no room
			space, err := y.mem.Space("/store")
			if err != nil {
				t.Fatal(err)
			}
			y.mem.SetLimit(8<<20 - space.FreeBytes) // somebody else took the rest
			for _, when := range []string{"in the same process", "after a restart"} {
				if when == "after a restart" {
					y.s = nil
					y.mem = y.mem.CrashKeeping()
					if y.open(); y.s == nil {
						t.Fatalf("a full store does not open: %v", y.errs[len(y.errs)-1])
					}
				}
				y.errs = nil
				before := len(y.acked)
				if tt.method == Drop {
					y.dropFirst(t)
				} else {
					y.collect(t, tt.method)
				}
				for _, err := range y.errs {
					t.Errorf("%s, on a full disk: %v", when, err)
				}
				if len(y.acked) == before {
					t.Fatal("nothing was collected")
				}
				if y.put(1, 10<<10); len(y.errs) > 0 {
					t.Errorf("%s, after a collection: %v", when, y.errs)
				}
				y.check(t, when)
			}
			y.close()
		})
	}
}

// dropFirst collects all chunks of the first sealed pack.
func (y *story) dropFirst(t *testing.T) {
	if _, _, err := y.s.BeginEpoch(t.Context()); y.failed(err) {
		return
	}
	for _, p := range y.s.Packs() {
		if !p.Sealed {
			continue
		}
		set := &Set{}
		for d := range y.acked {
			if ref, ok := y.s.Lookup(d); ok && ref.Pack == p.Number {
				set.Add(ref)
				delete(y.acked, d)
			}
		}
		y.s.Condemn(set)
		y.failed(y.s.SyncState(t.Context()))
		_, err := y.s.Reclaim(t.Context(), p.Number, Drop, nil)
		y.failed(err)
		return
	}
	t.Fatal("no pack is sealed")
}

// TestFailedReadHurtsOneChunk lets one read fail at a time, and promises that
// at most one chunk suffers; that no start loses or deletes anything for it;
// and that nothing of it is left when the disk works again.
func TestFailedReadHurtsOneChunk(t *testing.T) {
	base := newStory(t, disktest.NewMem())
	base.tell(t)
	for _, err := range base.errs {
		t.Fatal(err)
	}
	m := mishap{err: syscall.EIO, kinds: reads}
	var k, opens int64
	for k = 1; ; k++ {
		mem := base.mem.CrashKeeping()
		reached := m.arm(mem, k)
		s, err := Open(t.Context(), Config{FS: mem, Dir: "/store", Reserve: 1, Direct: DirectOn})
		if err != nil {
			if !errors.Is(err, syscall.EIO) {
				t.Fatalf("read %d: %v", k, err)
			}
			opens++
		} else {
			suffered := sufferers(t, s, base.acked)
			if h := s.Health(); len(suffered) > 1 && len(h.DamagedPacks) == 0 {
				t.Errorf("read %d: %d chunks suffer from one failed read: %v", k, len(suffered), suffered)
			}
			if err := s.Close(); err != nil && !errors.Is(err, syscall.EIO) {
				t.Errorf("read %d: close: %v", k, err)
			}
		}
		mem.SetHook(nil)
		if !reached() {
			break
		}
		y := &story{mem: mem, acked: base.acked, dead: base.dead, tried: base.tried}
		if y.open(); y.s == nil {
			t.Fatalf("read %d failed, and the next start says: %v", k, y.errs)
		}
		if y.check(t, "after a failed read"); t.Failed() {
			t.Fatalf("at read %d", k)
		}
		y.close()
	}
	t.Logf("%d reads failed in turn, %d of them kept the store from opening", k-1, opens)
}

// sufferers returns what goes wrong for single chunks: while each is read, and
// in a scrub.
func sufferers(t *testing.T, s *Store, want map[chunks.Digest]chunks.Blob) (all []string) {
	t.Helper()
	for d, blob := range want {
		b, err := s.Get(t.Context(), d, nil)
		switch {
		case err == nil && !bytes.Equal(b, blob):
			t.Errorf("WRONG BYTES for chunk %s", d.Short())
		case err != nil && !errors.Is(err, chunks.ErrCorrupt) && !errors.Is(err, chunks.ErrMissing):
			t.Errorf("a failed read is called %v", err)
		case err != nil:
			all = append(all, err.Error())
		}
	}
	report, err := s.Scrub(t.Context(), ScrubOptions{})
	if err != nil {
		t.Errorf("scrub: %v", err)
	}
	for _, d := range report.Damaged {
		if d.Digest != (chunks.Digest{}) {
			all = append(all, "scrub: "+d.Reason)
		}
	}
	return all
}

// TestBadBlock has one block of a pack that cannot be read. The chunks in it
// are damaged, and no other is.
func TestBadBlock(t *testing.T) {
	for _, direct := range []Direct{DirectOff, DirectOn} {
		t.Run(fmt.Sprintf("direct %d", direct), func(t *testing.T) {
			base := newStory(t, disktest.NewMem())
			base.open()
			base.put(30, 3000)
			base.put(4, 70<<10)
			base.put(20, 3000)
			base.close()
			mem := base.mem.CrashKeeping()
			s := openStore(t, Config{FS: mem, Dir: "/store", Reserve: 1, Direct: direct}) // seals
			p := s.packs.At(0)
			rows, err := s.rows(t.Context(), p)
			if err != nil || !p.Sealed.Load() {
				t.Fatal(err)
			}
			for block := int64(format.HeaderSize); block < rows[len(rows)-1].End(); block += 5 * format.Align {
				mem.SetHook(func(op disktest.Op) error {
					if op.Kind == disktest.Read && strings.HasSuffix(op.Name, p.Name()) && op.Off < block+format.Align && op.Off+op.Len > block {
						return syscall.EIO
					}
					return nil
				})
				want := map[chunks.Digest]bool{}
				for _, r := range rows {
					if r.Off < block+format.Align && r.End() > block {
						want[r.Digest] = true
					}
				}
				wantExactly(t, s, base.acked, want)
			}
		})
	}
}

// wantExactly fails the test unless just the chunks in want are damaged, for a
// reader of each, a reader of all, and a scrub.
func wantExactly(t *testing.T, s *Store, all map[chunks.Digest]chunks.Blob, want map[chunks.Digest]bool) {
	t.Helper()
	check := func(how string, d chunks.Digest, b chunks.Blob, err error) {
		switch {
		case want[d] && !errors.Is(err, chunks.ErrCorrupt):
			t.Errorf("%s: a chunk in a bad block gives %v", how, err)
		case !want[d] && (err != nil || !bytes.Equal(b, all[d])):
			t.Errorf("%s: a chunk beside a bad block gives %v", how, err)
		}
	}
	for d := range all {
		b, err := s.Get(t.Context(), d, nil)
		check("get", d, b, err)
	}
	err := s.GetMany(t.Context(), slices.Collect(maps.Keys(all)), func(d chunks.Digest, b chunks.Blob, err error) error {
		check("get many", d, b, err)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	report, err := s.Scrub(t.Context(), ScrubOptions{})
	if err != nil {
		t.Error(err)
	}
	found := map[chunks.Digest]bool{}
	for _, d := range report.Damaged {
		found[d.Digest] = true
	}
	if !maps.Equal(found, want) {
		t.Errorf("scrub finds %d chunks, want %d: %+v", len(found), len(want), report.Damaged)
	}
}
