package gc

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// journalHistory opens and ends leases, with a journal rewritten in between. It
// returns the leases and how many pins each must have after a crash: at least
// the number at its last successful Commit, and none once aborted.
func journalHistory(c *Collector) (want map[LeaseID]int, ended map[LeaseID]bool) {
	want, ended = map[LeaseID]int{}, map[LeaseID]bool{}
	ctx := context.Background()
	var all []*Session
	for i := range 4 {
		s, err := c.Open("backup", fmt.Sprint(i))
		if err != nil {
			return want, ended
		}
		all = append(all, s)
		for j := range 3 {
			if _, err := s.Put(ctx, chunk(3*i+j).Digest, chunk(3*i+j).Blob); err != nil {
				return want, ended
			}
			if s.Commit(ctx) == nil {
				want[s.ID()] = j + 1
			}
		}
		if i == 1 {
			all[0].Abort()
			ended[all[0].ID()] = true
		}
		if i == 2 {
			c.records.rewrite() // its error shows in the next Commit, or harms nothing
		}
	}
	return want, ended
}

// TestJournalSurvivesACrashAtEveryOp cuts the power at each call to the file
// system in turn, and wants every lease back with all that was committed.
func TestJournalSurvivesACrashAtEveryOp(t *testing.T) {
	for n := 1; ; n++ {
		mem := disktest.NewMem()
		store := newTwin(4, canPunch)
		mem.FailAt(n, disktest.ErrCrashed)
		cfg := Config{Store: store, Roots: &memRoots{}, FS: mem, Dir: "gc"}
		c, err := New(cfg)
		want, ended := map[LeaseID]int{}, map[LeaseID]bool{}
		if err == nil {
			want, ended = journalHistory(c)
		}
		done := !mem.Crashed()
		states := map[string]*disktest.Mem{"losing": mem.CrashLosing(), "keeping": mem.CrashKeeping()}
		for seed := range uint64(8) {
			states[fmt.Sprintf("seed %d", seed)] = mem.Crash(seed)
		}
		for how, fs := range states {
			cfg.FS = fs
			if err := leasesAre(cfg, want, ended); err != nil {
				t.Errorf("crash at op %d, %s: %v", n, how, err)
			}
		}
		if done {
			t.Logf("%d ops", n-1)
			return
		}
	}
}

func leasesAre(cfg Config, want map[LeaseID]int, ended map[LeaseID]bool) error {
	c, err := New(cfg)
	if err != nil {
		return err
	}
	got := map[LeaseID]int{}
	for _, l := range c.Leases() {
		got[l.ID] = l.Pins
	}
	for id, n := range want {
		if ended[id] {
			continue // it may be back: nothing was promised
		}
		if got[id] < n {
			return fmt.Errorf("lease %s has %d pins, want %d", id, got[id], n)
		}
	}
	for id, n := range got {
		if n > 3 {
			return fmt.Errorf("lease %s has %d pins, and nobody put more than 3", id, n)
		}
	}
	return c.Close()
}

// A failed fsync proves nothing about what came before it. The journal is
// written anew, whole, and only if that fails as well does Commit fail.
func TestJournalHealsItself(t *testing.T) {
	mem := disktest.NewMem()
	store := newTwin(4, canPunch)
	cfg := Config{Store: store, Roots: &memRoots{}, FS: mem, Dir: "gc"}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Open("backup", "vm/100")
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	put := func(i int) {
		if _, err := s.Put(ctx, chunk(i).Digest, chunk(i).Blob); err != nil {
			t.Fatal(err)
		}
	}
	put(0)
	failing := true
	mem.SetHook(func(op disktest.Op) error {
		if op.Kind == disktest.Sync && failing {
			failing = false
			return errPlanted
		}
		return nil
	})
	if err := s.Commit(ctx); err != nil || failing {
		t.Fatalf("commit with one failed fsync: %v", err)
	}
	put(1)
	mem.SetHook(func(op disktest.Op) error {
		if op.Kind == disktest.Sync {
			return errPlanted
		}
		return nil
	})
	if err := s.Commit(ctx); !errors.Is(err, errPlanted) {
		t.Fatalf("commit with a disk that fails: %v", err)
	}
	mem.SetHook(nil)
	put(2)
	if err := s.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	cfg.FS = mem.CrashLosing()
	if err := leasesAre(cfg, map[LeaseID]int{s.ID(): 3}, nil); err != nil {
		t.Error(err)
	}
}

// The journal of a long life is not much longer than what is true now.
func TestJournalIsTrimmed(t *testing.T) {
	s := newSite(t, 4, canPunch)
	stays := s.open()
	s.put(stays, 1)
	s.ok(stays.Commit(context.Background()))
	for range 4 {
		x := s.open()
		for n := range uint32(300_000) { // 6 MB of rows
			x.add(pack.Ref{Pack: n})
		}
		s.ok(x.Commit(context.Background()))
		x.Abort()
	}
	if size := s.records.log.Size(); size > 2*rewriteAbove {
		t.Errorf("the journal has %d bytes", size)
	}
	s.ok(s.records.rewrite())
	if size := s.records.log.Size(); size > 1<<10 {
		t.Errorf("the journal has %d bytes after the leases are gone", size)
	}
	s.crash()
	if l := s.Leases(); len(l) != 1 || l[0].Pins != 1 || time.Since(l[0].Created) > time.Hour {
		t.Errorf("leases %+v", l)
	}
}
