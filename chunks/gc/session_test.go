package gc

import (
	"context"
	"errors"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
)

func TestSessionIsAStore(t *testing.T) {
	var s *site
	chunktest.Run(t, func(t *testing.T) chunks.Writer {
		s = newSite(t, 16, canPunch)
		return s.open()
	}, chunktest.Options{Reopen: func(_ *testing.T, w chunks.Writer) chunks.Writer {
		s.store.crash(false, false)
		s.fs.(*files).crash()
		s.boot()
		x, err := s.Resume(w.(*Session).ID())
		s.ok(err)
		return x
	}})
}

func TestWhatASessionWasToldStays(t *testing.T) {
	for _, row := range []struct {
		name string
		do   func(s *site, x *Session)
		want string
	}{
		{"what nobody needs goes", func(*site, *Session) {}, ""},
		{"what was stored stays", func(s *site, x *Session) { s.put(x, 1) }, "1"},
		{"what Missing did not list stays", func(s *site, x *Session) {
			_, err := x.Missing(context.Background(), digestsOf(0, 5))
			s.ok(err)
		}, "0"},
		{"what was known stays", func(s *site, x *Session) {
			if !x.Known(chunk(0).Digest) || x.Known(chunk(5).Digest) {
				s.t.Error("Known is wrong")
			}
		}, "0"},
		{"reading pins nothing", func(s *site, x *Session) {
			_, err := x.Get(context.Background(), chunk(0).Digest, nil)
			s.ok(err)
		}, ""},
		{"an aborted session keeps nothing", func(s *site, x *Session) { s.put(x, 1); x.Abort() }, ""},
		{"what was refused keeps what is here, for another attempt", func(s *site, x *Session) {
			err := x.Finish(context.Background(), index(0, 5), func() error { s.t.Error("published"); return nil })
			if !errors.Is(err, chunks.ErrMissing) {
				s.t.Errorf("finish without a chunk: %v", err)
			}
		}, "0"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newSite(t, 4, canPunch)
			s.roots.forget(s.backup("old", 0))
			x := s.open()
			row.do(s, x)
			s.ok(s.store.Commit(context.Background()))
			s.collect(Options{})
			s.holds(row.want)
		})
	}
}

// Two backups store the same chunk at the same time; the store's own answer
// "known" pins nothing, so the session has to ask again.
func TestPutLooksAgainWhenTheStoreKnewBetter(t *testing.T) {
	s := newSite(t, 4, canPunch)
	x, other := s.open(), s.open()
	s.store.faults.beforeAppend = func() { s.put(other, 3) }
	known, err := x.Put(context.Background(), chunk(3).Digest, chunk(3).Blob)
	if !known || err != nil {
		t.Fatalf("put: known %v, %v", known, err)
	}
	other.Abort()
	s.ok(x.Commit(context.Background()))
	s.collect(Options{})
	s.holds("3")
}

func TestClosedSessionRefusesEverything(t *testing.T) {
	s := newSite(t, 4, canPunch)
	x := s.open()
	s.put(x, 1)
	x.Abort()
	x.Abort()
	ctx := context.Background()
	_, missing := x.Missing(ctx, digestsOf(1))
	_, put := x.Put(ctx, chunk(1).Digest, chunk(1).Blob)
	_, get := x.Get(ctx, chunk(1).Digest, nil)
	_, renew := x.Renew()
	finish := x.Finish(ctx, nil, func() error { t.Error("published"); return nil })
	many := x.GetMany(ctx, nil, nil)
	for _, err := range []error{missing, put, get, renew, finish, many, x.Commit(ctx)} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%v, want that the lease is closed", err)
		}
	}
	if x.Known(chunk(1).Digest) {
		t.Error("a closed session knows a chunk")
	}
}

func TestCommitTellsOfLostChunksOnce(t *testing.T) {
	s := newSite(t, 4, canPunch)
	x, ctx := s.open(), context.Background()
	s.put(x, 1)
	s.store.fail()
	if err := x.Commit(ctx); !errors.Is(err, ErrLost) {
		t.Fatalf("commit after a lost write: %v", err)
	}
	s.put(x, 1)
	s.ok(x.Commit(ctx))
	s.store.faults.commit = errPlanted
	if err := x.Commit(ctx); !errors.Is(err, errPlanted) {
		t.Fatalf("failed commit: %v", err)
	}
}

func TestOpenRefusesNamesThatDoNotFit(t *testing.T) {
	s := newSite(t, 4, canPunch)
	if _, err := s.Open("backup", string(make([]byte, 256))); err == nil {
		t.Error("an owner of 256 bytes was accepted")
	}
}

func TestConfigSaysWhatIsMissing(t *testing.T) {
	full := Config{Store: newTwin(1, canPunch), Roots: &memRoots{}, FS: newFiles(), Dir: "gc"}
	for _, row := range []struct {
		name string
		cut  func(*Config)
		want string
	}{
		{"a store is needed", func(c *Config) { c.Store = nil }, "no store"},
		{"roots are needed", func(c *Config) { c.Roots = nil }, "no roots"},
		{"a file system is needed", func(c *Config) { c.FS = nil }, "no directory"},
		{"a directory is needed", func(c *Config) { c.Dir = "" }, "no directory"},
		{"leases last a second at least", func(c *Config) { c.TTL = 1 }, "leases of 1ns"},
	} {
		t.Run(row.name, func(t *testing.T) {
			cfg := full
			row.cut(&cfg)
			_, err := New(cfg)
			wants(t, err, row.want)
		})
	}
}
