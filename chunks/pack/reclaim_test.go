package pack

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
	"github.com/holdfast-mesh/holdfast/chunks/pack/state"
	"github.com/holdfast-mesh/holdfast/chunks/pack/writer"
)

// A ground is a file system to reclaim on.
type ground struct {
	name string
	fs   disk.FS
	dir  string
	mem  *disktest.Mem // nil: a real one
}

func realGround(t *testing.T, name, dir string) ground {
	return ground{name: name, fs: disk.OS{}, dir: filepath.Join(dir, "store")}
}

func memGround(without disk.Abilities) ground {
	m := disktest.NewMem()
	m.Disable(without)
	return ground{name: "memory", fs: m, dir: "/store", mem: m}
}

// A garden is a store with one sealed pack, number 0, in which some chunks are
// dead, and an open one that must not suffer.
type garden struct {
	ground
	s          *Store
	dead, live []chunktest.Chunk // of pack 0
	others     []chunktest.Chunk
}

func newGarden(t *testing.T, g ground) *garden {
	t.Helper()
	y := &garden{ground: g}
	if _, err := identity.Init(g.fs, g.dir, identity.MinPackBytes); err != nil {
		t.Fatal(err)
	}
	y.open(t)
	for i := range uint64(40) {
		size := []int{200 << 10, 90 << 10, 3000, 100}[i/3%4]
		c := put(t, y.s, size, 500+i)[0]
		if i%12 < 5 || i == 39 {
			y.dead = append(y.dead, c)
		} else {
			y.live = append(y.live, c)
		}
	}
	commit(t, y.s)
	y.crash(t) // seals
	y.others = put(t, y.s, 5000, seeds(900, 5)...)
	commit(t, y.s)
	return y
}

func (y *garden) open(t *testing.T) {
	t.Helper()
	y.s = openStore(t, Config{FS: y.fs, Dir: y.dir, Reserve: 1, Direct: DirectOff, Lanes: 1})
}

// crash starts the store again without a clean stop.
func (y *garden) crash(t *testing.T) {
	t.Helper()
	if y.mem != nil {
		y.s.closed.Store(true)
		y.mem = y.mem.CrashLosing()
		y.fs = y.mem
		y.open(t)
		return
	}
	closeStore(t, y.s)
	if err := y.fs.Remove(filepath.Join(y.dir, identity.CleanFile)); err != nil {
		t.Fatal(err)
	}
	y.open(t)
}

// reclaim condemns the dead and reclaims pack 0.
func (y *garden) reclaim(t *testing.T, m Method) Reclaimed {
	t.Helper()
	condemn(t, y.s, y.dead)
	done, err := y.s.Reclaim(t.Context(), 0, m, carryOut)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// carryOut is a switchover of a store that nobody else uses.
func carryOut(_ []Move, apply func()) { apply() }

// check fails the test unless everything that lives is as it was and the dead
// are gone.
func (y *garden) check(t *testing.T, when string) {
	t.Helper()
	kept := slices.Concat(y.live, y.others)
	wantKnown(t, y.s, kept)
	wantAll(t, y.s, kept)
	wantUnknown(t, y.s, y.dead)
	report := deepScrub(t, y.s, nil)
	if len(report.Damaged) > 0 || report.Chunks != int64(len(kept)) {
		t.Errorf("%s: scrub finds %d chunks, want %d; damage %+v", when, report.Chunks, len(kept), report.Damaged)
	}
	if c := y.s.Condemned(); c.Len() > 0 {
		t.Errorf("%s: still to be reclaimed are %v", when, slices.Collect(c.All()))
	}
}

func size(cs []chunktest.Chunk) (n int64) {
	for _, c := range cs {
		n += int64(len(c.Blob))
	}
	return n
}

// TestReclaim gives the space of dead chunks back by each method, on each
// ground that has it.
func TestReclaim(t *testing.T) {
	grounds := []ground{realGround(t, "this machine", t.TempDir()), memGround(disk.Abilities{})}
	for _, g := range grounds {
		for _, m := range []Method{Punch, Reflink, Copy} {
			t.Run(m.String()+" on "+g.name, func(t *testing.T) {
				g := g
				if g.mem == nil {
					g = realGround(t, g.name, t.TempDir())
					can, err := disk.Probe(g.fs, filepath.Dir(g.dir))
					if err != nil {
						t.Fatal(err)
					}
					if m == Punch && !can.Punch || m == Reflink && !can.Clone {
						t.Skipf("the file system cannot: %+v", can)
					}
				} else {
					g = memGround(disk.Abilities{})
				}
				testReclaim(t, g, m)
			})
		}
	}
}

func testReclaim(t *testing.T, g ground, m Method) {
	y := newGarden(t, g)
	before := allocated(t, y)
	generation := y.s.Generation()
	done := y.reclaim(t, m)
	if int(done.Entries) != len(y.dead) {
		t.Errorf("%d entries are gone, want %d", done.Entries, len(y.dead))
	}
	if copied := done.CopiedBytes; m == Copy && copied != size(y.live) || m != Copy && copied != 0 {
		t.Errorf("%d bytes were copied, of %d that live", copied, size(y.live))
	}
	if m != Punch && y.s.Generation() == generation {
		t.Error("chunks have moved, and the generation is the same")
	}
	y.check(t, "after "+m.String())
	if m == Punch && before-allocated(t, y) != done.FreedBytes {
		t.Errorf("%d bytes came back, %d are reported", before-allocated(t, y), done.FreedBytes)
	}
	if least := size(y.dead) * 8 / 10; done.FreedBytes < least || y.mem != nil && before-allocated(t, y) < least {
		t.Errorf("%d bytes came back, %d by the report, want at least %d", before-allocated(t, y), done.FreedBytes, least)
	}
	if gone := y.s.packs.At(0) == nil; gone != (m != Punch) {
		t.Errorf("the old pack is gone: %v", gone)
	}
	again, err := y.s.Reclaim(t.Context(), 0, m, carryOut)
	if err != nil || again != (Reclaimed{}) {
		t.Errorf("once more: %+v, %v", again, err)
	}
	y.check(t, "once more")
	y.crash(t)
	y.check(t, "after a crash")
	closeStore(t, y.s)
	y.open(t)
	y.check(t, "after a clean stop")
	closeStore(t, y.s)
	y.loseIndex(t)
	y.open(t)
	y.check(t, "without an index")
}

// allocated returns the disk space of all packs.
func allocated(t *testing.T, y *garden) (n int64) {
	t.Helper()
	if y.mem != nil {
		space, err := y.mem.Space("/")
		if err != nil {
			t.Fatal(err)
		}
		return space.TotalBytes - space.FreeBytes
	}
	for _, p := range y.s.packs.All() {
		n += y.s.allocated(p)
	}
	return n
}

func (y *garden) loseIndex(t *testing.T) {
	t.Helper()
	dir := filepath.Join(y.dir, identity.IndexDir)
	entries, err := y.fs.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := y.fs.Remove(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDrop(t *testing.T) {
	y := newGarden(t, memGround(disk.Abilities{}))
	condemn(t, y.s, y.dead)
	if _, err := y.s.Reclaim(t.Context(), 0, Drop, carryOut); err == nil || !strings.Contains(err.Error(), "live in it") {
		t.Errorf("a pack in which chunks live is dropped: %v", err)
	}
	wantAll(t, y.s, y.live)
	condemn(t, y.s, y.live)
	y.dead, y.live = slices.Concat(y.dead, y.live), nil
	name := pathOf(y.s, 0)
	done, err := y.s.Reclaim(t.Context(), 0, Drop, carryOut)
	if err != nil || int(done.Entries) != len(y.dead) || done.CopiedBytes != 0 || done.FreedBytes < size(y.dead) {
		t.Errorf("drop: %+v, %v", done, err)
	}
	if _, err := y.fs.Stat(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
	y.check(t, "after the drop")
	y.crash(t)
	y.check(t, "after a crash")
}

// What a file system cannot do fails and changes nothing; what is not to be
// done is not.
func TestReclaimRefuses(t *testing.T) {
	for _, tt := range []struct {
		name    string
		without disk.Abilities
		pack    uint32
		method  Method
		want    error // nil: nothing happens
	}{
		{"punch where holes are not supported", disk.Abilities{Punch: true}, 0, Punch, errors.ErrUnsupported},
		{"reflink where blocks cannot be shared", disk.Abilities{Clone: true}, 0, Reflink, errors.ErrUnsupported},
		{"keep", disk.Abilities{}, 0, Keep, nil},
		{"a pack that is being written", disk.Abilities{}, 1, Copy, nil},
		{"a pack that never was", disk.Abilities{}, 77, Copy, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			y := newGarden(t, memGround(tt.without))
			condemn(t, y.s, y.dead)
			before := y.s.Packs()
			done, err := y.s.Reclaim(t.Context(), tt.pack, tt.method, carryOut)
			if !errors.Is(err, tt.want) || done != (Reclaimed{}) {
				t.Errorf("reclaimed %+v, %v; want %v", done, err, tt.want)
			}
			if after := y.s.Packs(); !slices.Equal(after, before) {
				t.Errorf("packs are %+v, were %+v", after, before)
			}
			wantAll(t, y.s, slices.Concat(y.live, y.others))
		})
	}
	if can := newGarden(t, memGround(disk.Abilities{Punch: true})).s.Abilities(); can != (Abilities{Clone: true}) {
		t.Errorf("abilities are %+v", can)
	}
}

// Whoever runs the switchover sees every chunk that moves, once; until it
// applies the moves the old places count, and then the new ones.
func TestSwitchover(t *testing.T) {
	for _, m := range []Method{Reflink, Copy} {
		t.Run(m.String(), func(t *testing.T) {
			y := newGarden(t, memGround(disk.Abilities{}))
			condemn(t, y.s, y.dead)
			old := map[chunks.Digest]Ref{}
			for _, c := range y.live {
				old[c.Digest], _ = y.s.Lookup(c.Digest)
			}
			calls := 0
			_, err := y.s.Reclaim(t.Context(), 0, m, func(moves []Move, apply func()) {
				calls++
				if len(moves) != len(y.live) {
					t.Errorf("%d chunks move, want %d", len(moves), len(y.live))
				}
				for _, mv := range moves {
					if ref, ok := y.s.Lookup(mv.Digest); !ok || ref != mv.Old || ref != old[mv.Digest] {
						t.Errorf("before: chunk %s is at %v, moves from %v, was at %v", mv.Digest.Short(), ref, mv.Old, old[mv.Digest])
					}
				}
				wantAll(t, y.s, y.live)
				apply()
				for _, mv := range moves {
					if ref, ok := y.s.Lookup(mv.Digest); !ok || ref != mv.New || ref.Pack == 0 {
						t.Errorf("after: chunk %s is at %v, moved to %v", mv.Digest.Short(), ref, mv.New)
					}
				}
				wantAll(t, y.s, y.live)
			})
			if err != nil || calls != 1 {
				t.Errorf("%d calls, %v", calls, err)
			}
			y.check(t, "afterwards")
		})
	}
}

// The index may be written to the disk at any moment of a move: before the
// copies have their places in it, and it must not claim to know them; after,
// and then the old pack is gone. A crash follows at once.
func TestIndexFlushedDuringMove(t *testing.T) {
	for _, m := range []Method{Reflink, Copy} {
		for _, tt := range []struct {
			name          string
			before, after bool
		}{{"never", false, false}, {"before the switch", true, false}, {"after the switch", false, true}, {"both", true, true}} {
			t.Run(m.String()+", flushed "+tt.name, func(t *testing.T) {
				y := newGarden(t, memGround(disk.Abilities{}))
				closeStore(t, y.s) // so that the index on disk has the old places
				y.open(t)
				y.s.SetPackBytes(smallPack) // so that copies are in sealed packs
				condemn(t, y.s, y.dead)
				flush := func(when bool) {
					if !when {
						return
					}
					y.s.sealing.Wait()
					if err := y.s.flushIndexLocked(t.Context(), numberSlack); err != nil {
						t.Error(err)
					}
				}
				_, err := y.s.Reclaim(t.Context(), 0, m, func(_ []Move, apply func()) {
					flush(tt.before)
					apply()
					flush(tt.after)
				})
				if err != nil {
					t.Fatal(err)
				}
				y.crash(t)
				y.check(t, "after a crash")
				closeStore(t, y.s)
				y.open(t)
				y.check(t, "after a clean stop")
			})
		}
	}
}

// A damaged chunk that a snapshot names cannot be copied: the pack stays, and
// the error says why. Sharing its blocks keeps it, and keeps it denied.
func TestReclaimWithQuarantinedChunk(t *testing.T) {
	for _, m := range []Method{Copy, Reflink, Punch} {
		t.Run(m.String(), func(t *testing.T) {
			y := newGarden(t, memGround(disk.Abilities{}))
			bad := y.live[4]
			ref, _ := y.s.Lookup(bad.Digest)
			if err := y.s.Quarantine(ref); err != nil {
				t.Fatal(err)
			}
			condemn(t, y.s, y.dead)
			done, err := y.s.Reclaim(t.Context(), 0, m, carryOut)
			if m == Copy && (err == nil || !strings.Contains(err.Error(), bad.Digest.Short()) || done != (Reclaimed{})) {
				t.Errorf("reclaimed %+v, %v", done, err)
			}
			if m != Copy && (err != nil || int(done.Entries) != len(y.dead)) {
				t.Errorf("reclaimed %+v, %v", done, err)
			}
			for _, when := range []string{"now", "after a crash", "without an index"} {
				if when == "after a crash" {
					y.crash(t)
				}
				if when == "without an index" {
					closeStore(t, y.s)
					y.loseIndex(t)
					y.open(t)
				}
				if y.s.Known(bad.Digest) {
					t.Errorf("%s the damaged chunk is not denied any more", when)
				}
				if _, ok := y.s.Locate(bad.Digest); !ok {
					t.Errorf("%s the damaged chunk is nowhere", when)
				}
				wantAll(t, y.s, y.live)
			}
			if known, err := y.s.Put(t.Context(), bad.Digest, bad.Blob); known || err != nil {
				t.Errorf("storing it again: known %v, %v", known, err)
			}
			commit(t, y.s)
			if m == Copy {
				if _, err := y.s.Reclaim(t.Context(), 0, m, carryOut); err != nil {
					t.Errorf("after it was healed: %v", err)
				}
				y.check(t, "after it was healed")
			}
		})
	}
}

// A pack that shares blocks with one that is gone holds entries that were
// written for that other one. A scan without footer accepts those that its
// segments name, and no others.
func TestDerivedPack(t *testing.T) {
	y := newGarden(t, memGround(disk.Abilities{}))
	y.reclaim(t, Reflink)
	derived := y.theDerived(t)
	t.Run("its entries are found without footer and index", func(t *testing.T) {
		c := y.copy(t)
		c.breakFooter(derived.Name())
		c.open(t)
		c.check(t, "without footer and index")
	})
	t.Run("with a damaged header it is served from its footer", func(t *testing.T) {
		c := y.copy(t)
		c.mem.FlipBit(c.file(derived.Name()), 100)
		c.open(t)
		wantKnown(t, c.s, c.live)
		wantAll(t, c.s, c.live)
		report := deepScrub(t, c.s, nil)
		if len(report.Damaged) != 1 || report.Damaged[0].Digest != (chunks.Digest{}) {
			t.Errorf("scrub finds %+v", report.Damaged)
		}
		wantKnown(t, c.s, c.live)
		c.dead, c.live = c.live[:3], c.live[3:]
		condemn(t, c.s, c.dead)
		p := c.theDerived(t)
		if done, err := c.s.Reclaim(t.Context(), p.Number, Reflink, carryOut); err != nil || done.CopiedBytes != size(c.live) {
			t.Errorf("a pack with a damaged header is reclaimed: %+v, %v", done, err)
		}
		c.check(t, "after it was copied")
	})
	t.Run("it can be derived from again", func(t *testing.T) {
		c := y.copy(t)
		c.open(t)
		for round := range 3 {
			p := c.theDerived(t)
			c.dead, c.live = append(c.dead, c.live[:4]...), c.live[4:]
			condemn(t, c.s, c.dead[len(c.dead)-4:])
			done, err := c.s.Reclaim(t.Context(), p.Number, Reflink, carryOut)
			if err != nil || done.CopiedBytes != 0 || done.Entries != 4 {
				t.Fatalf("round %d: %+v, %v", round, done, err)
			}
			c.check(t, "derived again")
		}
		last := c.theDerived(t)
		closeStore(t, c.s)
		c.loseIndex(t)
		c.breakFooter(last.Name())
		c.open(t)
		c.check(t, "derived again, without footer and index")
	})
	t.Run("foreign entries in its blocks do not count", func(t *testing.T) {
		c := y.copy(t)
		name := c.file(derived.Name())
		b := c.mem.Bytes(name)
		rows, _, err := format.ReadFooter(bytes.NewReader(b), derived.ID, int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		stale := b[rows[0].Off:rows[0].End()]
		c.mem.TruncateFile(name, int64(len(b))-format.Align) // without trailer
		c.mem.WriteRaw(name, int64(len(b)), stale)
		c.open(t)
		c.check(t, "with stale blocks")
		if h := c.s.Health(); h.CutBytes == 0 {
			t.Errorf("health %+v", h)
		}
	})
}

// theDerived returns the one sealed pack.
func (y *garden) theDerived(t *testing.T) *state.Pack {
	t.Helper()
	for _, p := range y.s.packs.All() {
		h, err := y.s.headerOf(found{name: y.s.path(p), id: p.ID, epoch: p.Epoch})
		if p.Sealed.Load() && (err != nil || h.Derived) {
			return p
		}
	}
	t.Fatal("no pack is derived")
	return nil
}

// copy returns what a crash would leave of y, without an index, not opened yet.
func (y *garden) copy(t *testing.T) *garden {
	t.Helper()
	y.s.closed.Store(true)
	c := *y
	c.mem = y.mem.CrashKeeping()
	c.fs = c.mem
	c.loseIndex(t)
	return &c
}

// file returns the path of a pack of that name.
func (y *garden) file(name string) string {
	for _, n := range y.mem.Names() {
		if strings.HasSuffix(n, name) {
			return n
		}
	}
	return name
}

func (y *garden) breakFooter(pack string) {
	name := y.file(pack)
	y.mem.FlipBit(name, int64(len(y.mem.Bytes(name)))-30)
}

// The chunks of a pack are read by several goroutines, of which one commits,
// while the pack is copied and a write fails. Whoever commits first is told.
// The copy must learn of it too, or it would drop the only whole entries.
func TestCopyLearnsOfFailureToldToOthers(t *testing.T) {
	y := newGarden(t, memGround(disk.Abilities{}))
	condemn(t, y.s, y.dead)
	var reads atomic.Int64
	committed := make(chan error, 1)
	var fail atomic.Bool
	y.mem.SetHook(func(op disktest.Op) error {
		switch {
		case op.Kind == disktest.Sync && strings.Contains(op.Name, identity.PacksDir) && fail.CompareAndSwap(true, false):
			return syscall.EIO
		case op.Kind == disktest.Read && op.Name == pathOf(y.s, 0) && op.Off >= format.HeaderSize && reads.Add(1) == 8:
			fail.Store(true)
			go func() { committed <- y.s.Commit(context.Background()) }()
			committed <- <-committed
		}
		return nil
	})
	_, err := y.s.Reclaim(t.Context(), 0, Copy, carryOut)
	if told := <-committed; told == nil {
		t.Fatal("the test is void: the commit did not fail")
	}
	if err == nil {
		t.Error("the copy does not know that a write failed")
	}
	y.mem.SetHook(nil)
	wantKnown(t, y.s, y.live)
	wantAll(t, y.s, y.live)
	if _, err := y.s.Reclaim(t.Context(), 0, Copy, carryOut); err != nil {
		t.Errorf("once more: %v", err)
	}
	y.others = nil // some were in the pack that failed
	wantAll(t, y.s, y.live)
	wantUnknown(t, y.s, y.dead)
}

// A chunk that a damaged index does not find any more still lives in its pack,
// and moves with the others.
func TestMoveOfChunkThatTheIndexLost(t *testing.T) {
	for _, m := range []Method{Copy, Reflink} {
		y := newGarden(t, memGround(disk.Abilities{}))
		rows, err := y.s.rows(t.Context(), y.s.packs.At(0))
		if err != nil {
			t.Fatal(err)
		}
		lost := y.live[3].Digest
		i := slices.IndexFunc(rows, func(r format.Row) bool { return r.Digest == lost })
		if !y.s.idx.Delete(lost, writer.Loc(0, rows[i])) || y.s.Known(lost) {
			t.Fatal("the index still has the chunk")
		}
		y.reclaim(t, m)
		y.check(t, m.String())
	}
}

func TestMeasure(t *testing.T) {
	y := newGarden(t, memGround(disk.Abilities{}))
	set := &Set{}
	for _, c := range y.dead {
		ref, _ := y.s.Lookup(c.Digest)
		set.Add(ref)
	}
	usage, err := y.s.Measure(set)
	if err != nil {
		t.Fatal(err)
	}
	u := usage[0]
	if int(u.Entries) != len(y.dead)+len(y.live) || int(u.Dead) != len(y.dead) {
		t.Errorf("usage is %+v", u)
	}
	within := func(what string, n int64, cs []chunktest.Chunk) {
		if least, most := size(cs)+int64(len(cs))*format.EntrySize, size(cs)+int64(len(cs))*(format.EntrySize+format.Align); n < least || n > most {
			t.Errorf("%s take %d bytes, want %d to %d", what, n, least, most)
		}
	}
	within("dead", u.DeadBytes, y.dead)
	within("live", u.LiveBytes, y.live)
	other, _ := y.s.Lookup(y.others[0].Digest)
	if o := usage[other.Pack]; int(o.Entries) != len(y.others) || o.Dead != 0 || o.DeadBytes != 0 {
		t.Errorf("usage of the other pack is %+v", o)
	}
	y.reclaim(t, Punch)
	usage, err = y.s.Measure(y.s.Condemned())
	if u := usage[0]; err != nil || int(u.Entries) != len(y.live) || u.Dead != 0 {
		t.Errorf("after reclaim usage is %+v, %v", u, err)
	}
}

// While packs are reclaimed by every method, readers get the right bytes,
// writers write, and a scrub finds nothing.
func TestReadersDuringReclaim(t *testing.T) {
	m := disktest.NewMem()
	y := newStory(t, m)
	y.open()
	rounds := 60
	if raceEnabled {
		rounds = 15
	}
	for range rounds / 4 {
		y.put(6, 30<<10)
		y.put(20, 2000)
	}
	live := slices.Collect(maps.Keys(y.acked))
	slices.SortFunc(live, chunks.Digest.Compare)
	live = live[:len(live)/2] // the others may be condemned
	blobs := maps.Clone(y.acked)
	stop := make(chan struct{})
	var g sync.WaitGroup
	var n atomic.Int64
	during := func(do func(rng *rand.Rand)) {
		g.Go(func() {
			for rng := rand.New(rand.NewPCG(1, uint64(n.Add(1)))); ; {
				select {
				case <-stop:
					return
				default:
					do(rng)
				}
			}
		})
	}
	var gets, scrubs atomic.Int64
	judge := func(d chunks.Digest, b chunks.Blob, err error) error {
		gets.Add(1)
		if err != nil || !bytes.Equal(b, blobs[d]) {
			t.Errorf("chunk %s: %v", d.Short(), err)
		}
		return nil
	}
	during(func(rng *rand.Rand) {
		d := live[rng.IntN(len(live))]
		b, err := y.s.Get(context.Background(), d, nil)
		_ = judge(d, b, err)
		if !y.s.Known(d) {
			t.Errorf("chunk %s is denied", d.Short())
		}
	})
	during(func(*rand.Rand) {
		if err := y.s.GetMany(context.Background(), live, judge); err != nil {
			t.Error(err)
		}
	})
	during(func(*rand.Rand) {
		report, err := y.s.Scrub(context.Background(), ScrubOptions{})
		if err != nil || len(report.Damaged) > 0 {
			t.Errorf("scrub finds %+v, %v", report.Damaged, err)
		}
		scrubs.Add(1)
	})
	var more atomic.Uint64
	during(func(*rand.Rand) {
		c := chunktest.Blob(1e6+more.Add(1), 3000)
		if _, err := y.s.Put(context.Background(), c.Digest, c.Blob); err != nil {
			t.Error(err)
		}
		if err := y.s.Commit(context.Background()); err != nil {
			t.Error(err)
		}
	})
	y.gcWhile(t, live, rounds)
	close(stop)
	g.Wait()
	for _, d := range live {
		b, err := y.s.Get(context.Background(), d, nil)
		_ = judge(d, b, err)
	}
	t.Logf("%d reads, %d scrubs, %d chunks put meanwhile", gets.Load(), scrubs.Load(), more.Load())
	y.close()
}

// gcWhile condemns what is not in live, a little at a time, and reclaims all
// packs by changing methods.
func (y *story) gcWhile(t *testing.T, live []chunks.Digest, rounds int) {
	t.Helper()
	garbage := slices.DeleteFunc(slices.Collect(maps.Keys(y.acked)), func(d chunks.Digest) bool {
		_, lives := slices.BinarySearchFunc(live, d, chunks.Digest.Compare)
		return lives
	})
	methods := []Method{Punch, Reflink, Copy, Reflink}
	for round := range rounds {
		if _, _, err := y.s.BeginEpoch(t.Context()); err != nil {
			t.Fatal(err)
		}
		set := &Set{}
		for _, d := range garbage[round*len(garbage)/rounds : (round+1)*len(garbage)/rounds] {
			if ref, ok := y.s.Lookup(d); ok {
				set.Add(ref)
			}
		}
		y.s.Condemn(set)
		for i, p := range y.s.Packs() {
			if (i+round)%5 > 0 {
				continue
			}
			if _, err := y.s.Reclaim(t.Context(), p.Number, methods[round%len(methods)], carryOut); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		}
	}
}

// TestReflinkOnXFS does on the real thing what TestReclaim does in memory.
func TestReflinkOnXFS(t *testing.T) {
	dir := mountXFS(t)
	g := realGround(t, "XFS", dir)
	if can, err := disk.Probe(g.fs, dir); err != nil || !can.Clone {
		t.Fatalf("XFS cannot share blocks: %+v, %v", can, err)
	}
	for _, m := range []Method{Reflink, Punch, Copy} {
		t.Run(m.String(), func(t *testing.T) {
			testReclaim(t, realGround(t, "XFS", filepath.Join(dir, m.String())), m)
		})
	}
}

// mountXFS makes and mounts a file system in a file, or skips the test.
func mountXFS(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can mount a file system")
	}
	for _, tool := range []string{"mkfs.xfs", "losetup", "mount", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	image, dir := filepath.Join(t.TempDir(), "image"), filepath.Join(t.TempDir(), "xfs")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 400<<20); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range [][]string{{"mkfs.xfs", "-q", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.Command(cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
			t.Skipf("%s: %v: %s", strings.Join(cmd, " "), err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}
