package verify

import (
	"errors"
	"os"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
)

// source returns a place that has the chunks in list.
func source(t *testing.T, list ...chunktest.Chunk) *chunktest.Memory {
	t.Helper()
	m := chunktest.NewMemory()
	for _, c := range list {
		if _, err := m.Put(t.Context(), c.Digest, c.Blob); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func TestHealFetchesWhatIsLost(t *testing.T) {
	key := chunktest.Key(1)
	secret := sealed(4, key)
	wrong := chunktest.Chunk{Digest: chunk(1).Digest, Blob: chunk(2).Blob}
	for _, row := range []struct {
		name              string
		from              chunks.Source
		fetched, unhealed int
		state             string
	}{
		{"from a place that has all of it", source(t, chunk(1), chunk(3), secret), 2, 0, "ok"},
		{"from a place that lacks a chunk", source(t, chunk(1)), 1, 1, "failed"},
		{"from a place that has nothing", source(t), 0, 2, "failed"},
		{"from a place that lies", source(t, wrong, secret), 1, 1, "failed"},
		{"from a place whose disk is bad", chunktest.NewFaulty(source(t, chunk(1), secret), 1, chunktest.Fault{On: chunktest.Get, Flip: true}), 0, 2, "failed"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			a, b, sound := snap(t, "vm/100", 1), snap(t, "vm/100", 2), snap(t, "vm/101", 1)
			enc := dynamic("e.pxar.didx", secret)
			enc.mode = manifest.Encrypt
			w.backup(a, nil, dynamic("a.pxar.didx", chunk(1), chunk(2)), enc)
			w.backup(b, nil, dynamic("a.pxar.didx", chunk(1)))
			w.backup(sound, nil, dynamic("a.pxar.didx", chunk(2)))
			w.damage(chunk(1))
			w.damage(secret)
			v, err := New(w.Datastore, Options{})
			w.must(err)
			r, err := v.Run(t.Context())
			w.must(err)
			if r.Failed != 2 || len(r.Lost()) != 2 {
				t.Fatalf("report %+v, want 2 snapshots failed over 2 chunks", r)
			}
			h, err := v.Heal(t.Context(), row.from, r.Lost())
			w.must(err)
			if h.Fetched != row.fetched || h.Unhealed != row.unhealed || len(h.Reasons) != row.unhealed {
				t.Errorf("healing %+v, want %d fetched and %d not", h, row.fetched, row.unhealed)
			}
			if got := w.state(a); got != row.state {
				t.Errorf("after it %s is %s, want %s", a, got, row.state)
			}
			if h.Verified.Chunks != int64(row.fetched) {
				t.Errorf("%d chunks were read to verify again, want the %d that are new", h.Verified.Chunks, row.fetched)
			}
			w.reopen()
			left := row.unhealed
			if row.fetched == 0 {
				left = 0 // nothing has changed, so nothing is verified again
			}
			if n := len(h.Verified.Lost()); n != left {
				t.Errorf("the report after it names %d lost chunks, want %d", n, left)
			}
			want := map[bool]int{true: 3, false: 1}[row.state == "ok"]
			if r := w.verify(Options{}); r.OK < want {
				t.Errorf("after a restart: %+v, want at least %d sound", r, want)
			}
		})
	}
}

func TestNothingIsHealedDuringMaintenance(t *testing.T) {
	w := newWorld(t)
	w.backup(snap(t, "vm/100", 1), nil, dynamic("a.pxar.didx", chunk(1)))
	w.damage(chunk(1))
	w.must(w.SetSettings(catalog.Settings{Maintenance: catalog.Maintenance{Mode: catalog.ReadOnly}}))
	v, err := New(w.Datastore, Options{})
	w.must(err)
	r, err := v.Run(t.Context())
	w.must(err)
	if r.Failed != 1 || r.Unstored != 1 {
		t.Errorf("report %+v, want a failure that is not written down", r)
	}
	if h, err := v.Heal(t.Context(), source(t, chunk(1)), r.Lost()); !errors.Is(err, catalog.ErrMaintenance) || h.Fetched != 0 {
		t.Errorf("healing %+v, %v", h, err)
	}
}

// A scrub or a peer names chunks, and nothing was verified in this process.
func TestHealOfChunksThatSomebodyElseNames(t *testing.T) {
	w := newWorld(t)
	s := snap(t, "vm/100", 1)
	w.backup(s, nil, dynamic("a.pxar.didx", chunk(1), chunk(2)))
	w.damage(chunk(1))
	w.verify(Options{}) // by another process, some days ago
	v, err := New(w.Datastore, Options{IgnoreVerified: true})
	w.must(err)
	h, err := v.Heal(t.Context(), source(t, chunk(1), chunk(2)), []chunks.Digest{chunk(1).Digest, chunk(2).Digest})
	w.must(err)
	if h.Whole != 1 || h.Fetched != 1 || h.Unhealed != 0 || h.Verified.OK != 1 || w.state(s) != "ok" {
		t.Errorf("healing %+v, want one chunk whole, one fetched, and the snapshot sound", h)
	}
}

// The store believes that it has a chunk whose pack went away under it.
func TestHealOfPacksThatAreGone(t *testing.T) {
	w := newWorld(t)
	s := snap(t, "vm/100", 1)
	w.backup(s, nil, dynamic("a.pxar.didx", chunk(1)))
	w.reopen()
	for _, name := range w.packs() {
		w.must(os.Remove(name))
	}
	v, err := New(w.Datastore, Options{})
	w.must(err)
	r, err := v.Run(t.Context())
	w.must(err)
	if r.Failed != 1 || r.Missing != 1 || !w.Chunks().Known(chunk(1).Digest) {
		t.Fatalf("report %+v, want a chunk missing that the store believes to have", r)
	}
	if h, err := v.Heal(t.Context(), source(t, chunk(1)), r.Lost()); err != nil || h.Fetched != 1 || w.state(s) != "ok" {
		t.Errorf("healing %+v, %v; the snapshot is %s", h, err, w.state(s))
	}
}
