package cloud

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/identity"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
)

// object returns the files of the objects of a store below a folder.
func (s *site) object(st *Store, key string) string {
	return filepath.Join(s.dir(), layout.Root+st.ID(), key)
}

// An owner's object that is lost takes no snapshot with it: whoever owns the bucket
// next writes behind everything that is there, and a new machine sees it all.
func TestOwnerIsLost(t *testing.T) {
	s := newSite(t, true)
	dir := t.TempDir()
	st := s.owner(dir)
	cs := put(t, st, 300_000, 1, 10)
	offload(t, st)
	stop(st)
	st = s.owner(t.TempDir(), func(c *Config) { c.Node = "dc" }) // epoch 2
	cs = append(cs, put(t, st, 300_000, 100, 10)...)
	offload(t, st)
	for round := range 3 {
		if err := os.Remove(s.object(st, layout.OwnerKey)); err != nil {
			t.Fatal(err)
		}
		fresh := put(t, st, 300_000, uint64(1000*(round+1)), 5)
		_, err := st.Offload(t.Context(), OffloadOptions{})
		if !errors.Is(err, ErrNoOwner) || errors.Is(err, ErrFenced) {
			t.Fatalf("without an owner: %v", err)
		}
		before := st.Stats().Epoch
		if err := st.Acquire(t.Context(), AcquireOptions{}); err != nil {
			t.Fatal(err)
		}
		if now := st.Stats().Epoch; now <= before {
			t.Fatalf("the epoch was %d, and is %d", before, now)
		}
		offload(t, st)
		cs = append(cs, fresh...)
	}
	wantAll(t, st, cs)
	stop(st)
	again := s.owner(t.TempDir(), func(c *Config) { c.Node = "new" })
	defer stop(again)
	wantAll(t, again, cs)
}

// What was sent by an offload that failed is looked for before it is relied on: the
// bucket may have lost it since.
func TestSentPacksAreLookedFor(t *testing.T) {
	for name, between := range map[string]func(*testing.T, *site, *Store) *Store{
		"same process": func(t *testing.T, s *site, st *Store) *Store { return st },
		"taken over and taken back": func(t *testing.T, s *site, st *Store) *Store {
			other := s.owner(t.TempDir(), func(c *Config) { c.Node = "other" })
			stop(other)
			if err := st.Acquire(t.Context(), AcquireOptions{Force: true}); err != nil {
				t.Fatal(err)
			}
			return st
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, true)
			st := s.owner(t.TempDir())
			defer func() { stop(st) }()
			cs := put(t, st, 300_000, 1, 10)
			offload(t, st)
			lost := put(t, st, 300_000, 100, 10)
			packs := func() (all []string) {
				found, _ := filepath.Glob(s.object(st, layout.PackDir+"*/*"))
				return found
			}
			before := map[string]bool{}
			for _, p := range packs() {
				before[p] = true
			}
			s.proxy.On(rootsFail)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if _, err := st.Offload(ctx, OffloadOptions{}); err == nil {
				t.Fatal("the offload has worked though no root could be written")
			}
			s.proxy.On(nil)
			gone := 0
			for _, p := range packs() {
				if !before[p] {
					gone++
					if err := os.Remove(p); err != nil {
						t.Fatal(err)
					}
				}
			}
			if gone == 0 {
				t.Fatal("nothing was sent")
			}
			st = between(t, s, st)
			offload(t, st)
			wantAll(t, st, append([]chunktest.Chunk{}, append(cs, lost...)...))
			rebuilt := s.owner(t.TempDir(), func(c *Config) { c.Node = "new" })
			defer stop(rebuilt)
			wantAll(t, rebuilt, append(cs, lost...))
		})
	}
}

// rootsFail refuses every root.
func rootsFail(r cloudtest.Request) *cloudtest.Fault {
	if r.Class == "put" && strings.Contains(r.Key, "/"+layout.RootDir) {
		return &cloudtest.Fault{Status: 403, Code: "AccessDenied"}
	}
	return nil
}

// An owner's object that is damaged is no owner's for whoever says so by force; a
// bucket that was made anew is not taken for the store.
func TestOwnerIsDamaged(t *testing.T) {
	s := newSite(t, true)
	st := s.owner(t.TempDir())
	defer stop(st)
	cs := put(t, st, 300_000, 1, 5)
	offload(t, st)
	name := s.object(st, layout.OwnerKey)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Replace(whole, []byte(`"epoch":1`), []byte(`"epoch":3`), 1)
	if err := os.WriteFile(name, flipped, 0o600); err != nil { // which this server notices
		t.Fatal(err)
	}
	if err := st.Acquire(t.Context(), AcquireOptions{}); err != nil {
		t.Fatalf("a flipped bit, in what was written from here: %v", err)
	}
	if _, err := st.b.PutBytes(t.Context(), layout.OwnerKey, flipped, bucket.PutOption{}); err != nil {
		t.Fatal(err)
	}
	if err := st.Acquire(t.Context(), AcquireOptions{}); !errors.Is(err, identity.ErrDamaged) {
		t.Fatalf("a flipped bit: %v", err)
	}
	if err := st.Acquire(t.Context(), AcquireOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	cs = append(cs, put(t, st, 300_000, 100, 5)...)
	offload(t, st)
	wantAll(t, st, cs)

	s.server.Empty(t)
	if err := st.Acquire(t.Context(), AcquireOptions{}); !errors.Is(err, ErrNoStore) {
		t.Fatalf("an empty bucket is taken for the store: %v", err)
	}
}

// After a start, who wrote the owner's object last could not prove it, and a damaged one
// had to be taken over by force. What was written last is on the disk, with its ETag: it is
// written anew, unless anybody has written since.
func TestOwnerIsMendedAfterAStart(t *testing.T) {
	for _, other := range []bool{false, true} {
		s := newSite(t, false)
		dir := t.TempDir()
		st := s.owner(dir, func(c *Config) { c.Node = "n" })
		put(t, st, 3000, 1, 3)
		offload(t, st)
		epoch, name := st.Stats().Epoch, s.object(st, layout.OwnerKey)
		stop(st)
		if other {
			m := s.owner(t.TempDir(), func(c *Config) { c.Node = "m" })
			stop(m)
		}
		whole, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		rewrite(t, name, whole[:len(whole)/2])
		st = s.node(dir, func(c *Config) { c.Node = "n" })
		err = st.Acquire(t.Context(), AcquireOptions{})
		if other {
			if !errors.Is(err, identity.ErrDamaged) {
				t.Errorf("what another node wrote was replaced: %v", err)
			}
			if now, err := os.ReadFile(name); err != nil || len(now) != len(whole)/2 {
				t.Errorf("it has %d bytes now, %v", len(now), err)
			}
			continue
		}
		if o, oerr := st.Owner(t.Context()); err != nil || oerr != nil || o.Node != "n" || o.Epoch != epoch || st.Stats().Epoch != epoch {
			t.Errorf("acquire: %v; the owner is %+v, %v", err, o, oerr)
		}
		put(t, st, 3000, 100, 3)
		offload(t, st)
	}
}
