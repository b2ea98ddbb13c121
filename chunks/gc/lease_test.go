package gc

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

func TestIdleLeasesLoseTheirPins(t *testing.T) {
	for _, row := range []struct {
		name string
		do   func(s *site, x *Session)
		want string
	}{
		{"a lease just in time", func(_ *site, _ *Session) { time.Sleep(ttl) }, "1"},
		{"a lease idle for too long", func(*site, *Session) { time.Sleep(ttl + time.Second) }, ""},
		{"a lease that was renewed", func(s *site, x *Session) {
			for range 5 {
				time.Sleep(ttl - time.Second)
				kept, err := x.Renew()
				s.ok(err)
				if !kept {
					s.t.Error("pins were lost")
				}
			}
		}, "1"},
		{"a lease that was used in any way", func(s *site, x *Session) {
			time.Sleep(ttl - time.Second)
			x.Known(chunk(9).Digest)
			time.Sleep(ttl - time.Second)
		}, "1"},
		{"a lease renewed too late, but before a collection", func(s *site, x *Session) {
			time.Sleep(3 * ttl)
			_, err := x.Renew()
			s.ok(err)
		}, "1"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, 4, canPunch)
				x := s.open()
				s.put(x, 1)
				s.ok(x.Commit(t.Context()))
				row.do(s, x)
				s.collect(Options{})
				s.holds(row.want)
				if kept, err := x.Renew(); err != nil || kept != (row.want != "") {
					t.Errorf("renew: kept %v, %v", kept, err)
				}
				if kept, _ := x.Renew(); !kept {
					t.Error("the loss is told twice")
				}
			})
		})
	}
}

// A slow read, or a publish that waits for a lock, is not idleness.
func TestACallInProgressIsNotIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 4, canPunch)
		x := s.open()
		s.put(x, 1)
		s.ok(x.Finish(t.Context(), index(1), func() error {
			time.Sleep(10 * ttl)
			s.collect(Options{})
			s.roots.add("new", digestsOf(1))
			return nil
		}))
		s.holds("1")
	})
}

func TestLapsedSessionCanFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 4, canPunch)
		x := s.open()
		s.put(x, 1)
		s.ok(x.Commit(t.Context()))
		time.Sleep(2 * ttl)
		s.collect(Options{})
		publish := func() error { s.roots.add("new", digestsOf(1)); return nil }
		var missing *MissingError
		if err := x.Finish(t.Context(), index(1), publish); !errors.As(err, &missing) || missing.Count != 1 {
			t.Fatalf("finish: %v", err)
		}
		s.put(x, 1)
		s.ok(x.Finish(t.Context(), index(1), publish))
		s.collect(Options{})
		s.holds("1")
	})
}

// crash ends the process of s; of what was not durable nothing survives.
func (s *site) crash() {
	s.store.crash(false, false)
	s.fs.(*files).crash()
	s.boot()
}

func TestLeasesOutliveACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 4, canPunch)
		x := s.open()
		s.put(x, 1, 2)
		s.ok(x.Commit(t.Context()))
		s.put(x, 3)
		time.Sleep(ttl / 2)
		s.crash()
		s.collect(Options{})
		s.holds("1 2")
		l := s.Leases()
		if len(l) != 1 || l[0].ID != x.ID() || !l[0].Recovered || l[0].Pins != 2 || l[0].Kind != "backup" || l[0].Owner != "vm/100" {
			t.Fatalf("leases %+v", l)
		}
		if left := time.Until(l[0].Expires); left != ttl/2 {
			t.Errorf("the lease expires in %s, want %s", left, ttl/2)
		}
		y, err := s.Resume(x.ID())
		s.ok(err)
		if _, err := s.Resume(x.ID()); !errors.Is(err, ErrNoLease) {
			t.Errorf("second resume: %v", err)
		}
		time.Sleep(ttl - time.Second)
		s.collect(Options{})
		s.holds("1 2")
		y.Abort()
		s.crash()
		s.collect(Options{})
		s.holds("")
	})
}

func TestRecoveredLeaseExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 4, canPunch)
		x := s.open()
		s.put(x, 1)
		s.ok(x.Commit(t.Context()))
		s.crash()
		time.Sleep(ttl + time.Second)
		s.collect(Options{})
		s.holds("")
		if _, err := s.Resume(x.ID()); !errors.Is(err, ErrNoLease) {
			t.Errorf("resume of an expired lease: %v", err)
		}
	})
}

func TestLeaseThatExpiredWhileTheMachineWasOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 4, canPunch)
		x := s.open()
		s.put(x, 1)
		s.ok(x.Commit(t.Context()))
		time.Sleep(ttl + time.Minute)
		s.crash()
		if l := s.Leases(); len(l) != 0 {
			t.Errorf("leases %+v", l)
		}
	})
}

// A renewal is written down every quarter of the lease, so that a session in
// use does not come back from a crash as one long idle.
func TestRenewalsAreWrittenDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 4, canPunch)
		x := s.open()
		s.put(x, 1)
		s.ok(x.Commit(t.Context()))
		for range 20 {
			time.Sleep(ttl / 5)
			x.Known(chunk(1).Digest)
		}
		s.store.crash(false, false) // but the journal was flushed, and the machine stays up
		s.boot()
		if l := s.Leases(); len(l) != 1 || time.Until(l[0].Expires) < ttl/2 {
			t.Errorf("leases %+v", l)
		}
	})
}

// The clock of a machine that starts may stand anywhere. In the past, the
// lease counts as just renewed; it never lasts longer than that.
func TestClockSetBackRenewsLeases(t *testing.T) {
	s := newSite(t, 4, canPunch)
	s.ok(s.Collector.Close())
	log, err := disk.OpenJournal(s.fs, "gc/leases", func([]byte) error { return nil })
	s.ok(err)
	tomorrow := time.Now().Add(24 * time.Hour)
	log.Append(encodeOpened(5, tomorrow, tomorrow, "pull", "job"))
	s.ok(log.Close())
	s.boot()
	l := s.Leases()
	if len(l) != 1 || time.Until(l[0].Expires) > ttl || time.Until(l[0].Expires) < ttl-time.Minute {
		t.Errorf("leases %+v", l)
	}
}

func TestCloseSavesOpenLeases(t *testing.T) {
	s := newSite(t, 4, canPunch)
	x := s.open()
	s.put(x, 1)
	s.ok(s.store.Commit(context.Background()))
	s.ok(s.Collector.Close())
	s.crash()
	s.collect(Options{})
	s.holds("1")
}

func TestLeaseIDsAreText(t *testing.T) {
	id, err := ParseLeaseID("00000000000000ff")
	text, _ := id.MarshalText()
	if err != nil || id != 255 || string(text) != "00000000000000ff" {
		t.Errorf("%v, %s, %v", id, text, err)
	}
	for _, bad := range []string{"", "ff", "00000000000000fg", "+0000000000000ff", "00000000000000ff0"} {
		if _, err := ParseLeaseID(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if a, b := newLeaseID(), newLeaseID(); a == b {
		t.Error("two leases have the same ID")
	}
}
