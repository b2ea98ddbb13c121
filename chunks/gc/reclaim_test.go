package gc

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

func TestReclaimGoesOnWhereItFailed(t *testing.T) {
	s := newSite(t, 1, canPunch)
	s.roots.forget(s.backup("old", 0, 1, 2))
	s.backup("kept", 3)
	s.store.faults.reclaim = errPlanted
	r, err := s.Run(context.Background(), Options{})
	wants(t, err, "reclaim pack 1 by drop: planted failure", "reclaim pack 3 by drop")
	if !errors.Is(err, errPlanted) || r.RemovedChunks != 0 || r.PendingChunks != 3 || r.DiskChunks != 1 {
		t.Errorf("report %+v", r)
	}
	s.store.faults.reclaim = nil
	if r := s.collect(Options{}); r.CondemnedChunks != 0 || r.RemovedChunks != 3 || r.PendingChunks != 0 {
		t.Errorf("report %+v", r)
	}
}

// The store is told to give back only what a crash cannot bring back.
func TestNothingIsReclaimedBeforeItIsDurable(t *testing.T) {
	s := newSite(t, 1, canPunch)
	s.roots.forget(s.backup("old", 0))
	s.store.faults.syncState = errPlanted
	r, err := s.Run(context.Background(), Options{})
	wants(t, err, "make the list of condemned chunks durable: planted failure")
	if r.RemovedChunks != 0 {
		t.Errorf("report %+v", r)
	}
	s.store.faults.syncState = nil
	if r := s.collect(Options{}); r.RemovedChunks != 1 {
		t.Errorf("report %+v", r)
	}
}

func TestReclaimKeepsToItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 1, canPunch)
		s.roots.forget(s.backup("old", 0, 1, 2, 3))
		begin := time.Now()
		r := s.collect(Options{RateBytes: 10, Pause: time.Second})
		want := 4*time.Second + time.Duration(r.RemovedBytes)*time.Second/10
		if took := time.Since(begin); took < want-time.Millisecond || took > want+time.Millisecond {
			t.Errorf("removing %d bytes of 4 packs took %s, want %s", r.RemovedBytes, took, want)
		}
	})
}

func TestReclaimStopsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 1, canPunch)
		s.roots.forget(s.backup("old", 0, 1, 2, 3))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		r, err := s.Run(ctx, Options{Pause: time.Hour})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Second || r.RemovedChunks != 1 {
			t.Errorf("stopped after %s: %v, report %+v", time.Since(begin), err, r)
		}
		s.collect(Options{})
		s.holds("")
	})
}

func TestPinsMoveWithTheirChunks(t *testing.T) {
	for _, row := range []struct {
		name string
		end  func(s *site, x *Session)
	}{
		{"of a session", func(*site, *Session) {}},
		{"of a session that a crash ended", func(s *site, x *Session) {
			s.store.crash(false, false)
			s.fs.(*files).crash()
			s.boot()
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newSite(t, 4, pack.Abilities{})
			old := s.backup("old", 0, 1, 2, 3)
			x := s.open()
			x.Known(chunk(2).Digest)
			s.ok(x.Commit(context.Background()))
			s.roots.forget(old)
			r := s.collect(Options{})
			if r.CopiedBytes != int64(len(chunk(2).Blob)) || r.RemovedChunks != 3 {
				t.Errorf("report %+v", r)
			}
			row.end(s, x)
			s.collect(Options{})
			s.holds("2")
		})
	}
}

// A pin taken while the copy was made, after the first look at the pins, is
// carried over as well.
func TestPinsTakenDuringTheMoveMoveToo(t *testing.T) {
	s := newSite(t, 4, pack.Abilities{})
	old := s.backup("old", 0, 1, 2, 3)
	x, y := s.open(), s.open()
	x.Known(chunk(2).Digest)
	s.ok(x.Commit(context.Background()))
	s.roots.forget(old)
	synced := false
	s.fs.(*files).onSync = func() { // the journal is synced between the two looks
		s.fs.(*files).onSync = nil
		synced = true
		if !s.gate.TryRLock() {
			t.Error("nobody can look anything up while the disk is waited for")
			return
		}
		s.gate.RUnlock()
		y.Known(chunk(2).Digest)
	}
	s.collect(Options{})
	if !synced {
		t.Error("the pins were not made durable")
	}
	x.Abort()
	s.collect(Options{})
	s.holds("2")
}
