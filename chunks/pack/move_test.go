package pack

import (
	"bytes"
	"context"
	"maps"
	"math/rand/v2"
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
	"github.com/holdfast-mesh/holdfast/chunks/pack/writer"
)

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

// A pack whose copies had no places yet when the index was written cannot be
// read at the start after the crash. The store goes on without it, and reads it
// at the next start, clean as the stop may be.
func TestUnreadablePackIsReadLater(t *testing.T) {
	y := newGarden(t, memGround(disk.Abilities{}))
	closeStore(t, y.s)
	y.open(t)
	condemn(t, y.s, y.dead)
	_, err := y.s.Reclaim(t.Context(), 0, Reflink, func(_ []Move, apply func()) {
		if err := y.s.flushIndexLocked(t.Context(), numberSlack); err != nil {
			t.Error(err)
		}
		apply()
	})
	if err != nil {
		t.Fatal(err)
	}
	name := y.s.path(y.theDerived(t))
	y.s.closed.Store(true)
	y.mem = y.mem.CrashLosing()
	y.fs = y.mem
	y.mem.SetHook(func(op disktest.Op) error {
		if op.Name == name {
			return syscall.EIO
		}
		return nil
	})
	y.open(t)
	if h := y.s.Health(); !slices.Equal(h.DamagedPacks, []string{name}) {
		t.Errorf("health %+v", h)
	}
	wantAll(t, y.s, y.others)
	closeStore(t, y.s)
	y.mem.SetHook(nil)
	y.open(t)
	y.check(t, "when the disk works again")
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
			if m == Copy && (err != nil || done != (Reclaimed{})) { // it stays as it is: nobody else has the chunk
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
