package pack

import (
	"bytes"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
	"github.com/holdfast-mesh/holdfast/chunks/pack/state"
)

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
		h, err := state.File{Name: y.s.path(p), ID: p.ID, Epoch: p.Epoch}.Header(y.s.fs)
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
