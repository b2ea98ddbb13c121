package pack

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

// memStore makes a store in memory and opens it. It is never closed: these
// tests take the power away.
func memStore(t *testing.T, m *disktest.Mem) *Store {
	t.Helper()
	if _, err := identity.Init(m, "/store", identity.MinPackBytes); err != nil {
		t.Fatal(err)
	}
	return openMem(t, m)
}

func openMem(t *testing.T, m *disktest.Mem) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{FS: m, Dir: "/store", Direct: DirectOff, Lanes: 1, Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A pack that is begun after the table was noted, and before the records of
// the index were taken, is in the index but not in the table. Power fails, and
// the pack is gone. No other may get its number: its entries would pass for
// those that are lost.
func TestNumberOfPackLostDuringFlushIsNotGivenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := disktest.NewMem()
		s := memStore(t, m)
		s.SetPackBytes(64 << 10)
		kept := put(t, s, 40<<10, 1, 2)
		commit(t, s)
		if err := s.flushIndexLocked(t.Context(), numberSlack); err != nil {
			t.Fatal(err)
		}
		// A check of the index's files keeps the flush waiting, table in hand.
		gate, held := make(chan struct{}), false
		m.SetHook(func(op disktest.Op) error {
			if op.Kind == disktest.Read && strings.HasSuffix(op.Name, "/current") && !held {
				held = true
				<-gate
			}
			return nil
		})
		done := make(chan error, 2)
		go func() { done <- s.CheckIndex(t.Context()) }()
		synctest.Wait()
		go func() { done <- s.flushIndexLocked(t.Context(), numberSlack) }()
		synctest.Wait()
		put(t, s, 40<<10, 3)
		lost := put(t, s, 40<<10, 4)
		close(gate)
		for range 2 {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		s = openMem(t, m.CrashLosing())
		s.SetPackBytes(64 << 10)
		wantAll(t, s, kept)
		put(t, s, 40<<10, seeds(10, 6)...)
		wantUnknown(t, s, lost)
	})
}

// The index in memory has a limit: who stores chunks faster than it is written
// waits, for as long as that goes on and not longer. If it cannot be written,
// nobody waits for it.
func TestStoringWaitsForTheIndex(t *testing.T) {
	const limit = 80 << 10 // a quarter more than starts a flush
	blob := chunktest.Blob(1, 10).Blob
	fill := func(ctx context.Context, s *Store, from, n int) (int, error) {
		for i := range n {
			if _, err := s.Put(ctx, chunks.Sum(fmt.Append(nil, from+i)), blob); err != nil {
				return i, err
			}
		}
		return n, nil
	}
	t.Run("a slow disk", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m, gate := disktest.NewMem(), make(chan struct{})
			s := memStore(t, m)
			m.SetHook(func(op disktest.Op) error {
				if op.Kind == disktest.Create && strings.HasSuffix(op.Name, ".run") {
					<-gate
				}
				return nil
			})
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			n := 0
			go func() {
				var err error
				n, err = fill(ctx, s, 0, 10*limit)
				ended <- err
			}()
			synctest.Wait()
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) || n < limit || n > 2*limit {
				t.Fatalf("after %d chunks: %v", n, err)
			}
			if heap := s.IndexHeap(); heap > 16<<20 {
				t.Errorf("the index takes %d bytes of memory", heap)
			}
			close(gate)
			if _, err := fill(t.Context(), s, n, limit); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	})
	t.Run("a disk that takes no index", func(t *testing.T) {
		m, tries := disktest.NewMem(), 0
		s := memStore(t, m)
		m.SetHook(func(op disktest.Op) error {
			if op.Kind == disktest.Create && strings.HasSuffix(op.Name, ".run") {
				tries++
				return syscall.ENOSPC
			}
			return nil
		})
		if _, err := fill(t.Context(), s, 0, 2*limit); err != nil {
			t.Fatal(err)
		}
		s.flush.Wait()
		if tries != 1 {
			t.Errorf("the index was tried to be written %d times", tries)
		}
		if err := s.Commit(t.Context()); err != nil { // tries again
			t.Fatal(err)
		}
		if s.flush.Wait(); tries != 2 {
			t.Errorf("after a commit the index was tried to be written %d times", tries)
		}
	})
}

// Holes are punched only once it is durable that nobody relies on what was
// there. Else a crash revives chunks of which nothing but zeros is left.
func TestCondemnedIsDurableBeforeItIsPunched(t *testing.T) {
	y := newGarden(t, memGround(disk.Abilities{}))
	if err := y.s.flushIndexLocked(t.Context(), numberSlack); err != nil { // so that a start need not read the pack
		t.Fatal(err)
	}
	set := &Set{}
	for _, c := range y.dead {
		ref, _ := y.s.Lookup(c.Digest)
		set.Add(ref)
	}
	y.s.Condemn(set) // in memory only
	punched := 0
	y.mem.SetHook(func(op disktest.Op) error {
		switch {
		case op.Kind == disktest.Punch:
			punched++
		case punched > 0 && op.Kind.Changes():
			return disktest.ErrCrashed
		}
		return nil
	})
	if _, err := y.s.Reclaim(t.Context(), 0, Punch, carryOut); !errors.Is(err, disktest.ErrCrashed) || punched == 0 {
		t.Fatalf("the test is void: %d holes, %v", punched, err)
	}
	y.s.closed.Store(true)
	s := openMem(t, y.mem.CrashKeeping())
	wantAll(t, s, y.live)
	for _, c := range y.dead {
		if b, err := s.Get(t.Context(), c.Digest, nil); s.Known(c.Digest) && err != nil {
			t.Errorf("chunk %s is said to be here, and is not: %d bytes, %v", c.Digest.Short(), len(b), err)
		}
	}
}

// A pack that vanished while the store was not closed is told by every start
// until what it held was stored again, or its loss was accepted.
func TestVanishedPackIsToldAgain(t *testing.T) {
	v := newVictim(t)
	gone := v.packs[0]
	lost, kept := inPack(gone, v.chunks)
	vanish := func(t *testing.T) *Store {
		files := readTree(t, v.dir)
		delete(files, gone.file)
		withoutClean(files)
		return openFiles(t, files)
	}
	told := func(t *testing.T, s *Store, when string) {
		t.Helper()
		if names := s.Health().MissingPacks; len(names) != 1 || !strings.HasSuffix(names[0], gone.file) {
			t.Errorf("%s the missing packs are %q", when, names)
		}
		for _, c := range lost {
			if s.Known(c.Digest) {
				t.Errorf("%s chunk %s is known", when, c.Digest.Short())
			}
		}
		wantAll(t, s, kept)
	}
	silent := func(t *testing.T, s *Store, when string) {
		t.Helper()
		if names := s.Health().MissingPacks; len(names) > 0 {
			t.Errorf("%s the missing packs are %q", when, names)
		}
	}
	t.Run("until healed", func(t *testing.T) {
		s := vanish(t)
		told(t, s, "at first")
		s = reopened(t, s)
		told(t, s, "after a clean stop")
		s = sealed(t, s)
		told(t, s, "after a crash")
		for _, c := range lost {
			if _, err := s.Put(t.Context(), c.Digest, c.Blob); err != nil {
				t.Fatal(err)
			}
		}
		deepScrub(t, s, v.key)
		silent(t, s, "when all is stored again and verified")
		s = reopened(t, s)
		silent(t, s, "after that")
		wantAll(t, s, v.chunks)
	})
	t.Run("until a crash finds it healed", func(t *testing.T) {
		s := vanish(t)
		for _, c := range lost {
			if _, err := s.Put(t.Context(), c.Digest, c.Blob); err != nil {
				t.Fatal(err)
			}
		}
		s = sealed(t, s)
		silent(t, s, "after a crash")
		wantAll(t, s, v.chunks)
	})
	t.Run("until accepted", func(t *testing.T) {
		s := vanish(t)
		closeStore(t, s)
		cfg := s.cfg
		cfg.AcceptLoss = true
		s = openStore(t, cfg)
		closeStore(t, s)
		cfg.AcceptLoss = false
		silent(t, openStore(t, cfg), "after its loss was accepted")
	})
}

// However a scrub divides packs among its readers, it reads each of them once.
func TestScrubReadsEachPackOnce(t *testing.T) {
	m := disktest.NewMem()
	s := memStore(t, m)
	put(t, s, 700<<10, seeds(1, 60)...)
	commit(t, s)
	s.sealing.Wait()
	var mu sync.Mutex
	read, size := int64(0), int64(0)
	m.SetHook(func(op disktest.Op) error {
		if op.Kind == disktest.Read && strings.HasSuffix(op.Name, ".hfpk") {
			mu.Lock()
			defer mu.Unlock()
			read += op.Len
		}
		return nil
	})
	r, err := s.Scrub(t.Context(), ScrubOptions{})
	if err != nil || r.Chunks != 60 || len(r.Damaged) > 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, p := range s.Packs() {
		size += p.Bytes
	}
	if read > size+size/20 {
		t.Errorf("%d MiB were read of packs of %d MiB", read>>20, size>>20)
	}
}
