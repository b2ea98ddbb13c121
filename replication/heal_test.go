package replication_test

import (
	"net"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/verify"
	"github.com/holdfast-mesh/holdfast/replication"
	"github.com/holdfast-mesh/holdfast/replication/plan"
)

func (s *site) verified() verify.Report {
	s.t.Helper()
	r, err := verify.Run(s.t.Context(), s.d, verify.Options{Depth: -1})
	must(s.t, err)
	return r
}

// damageAll flips a bit in the chunks of seeds, as a disk does while nobody
// looks.
func (s *site) damageAll(seeds ...uint64) {
	s.t.Helper()
	must(s.t, s.d.Close())
	for _, seed := range seeds {
		s.damage(chunk(seed).Blob)
	}
	s.open()
}

// A damaged chunk comes back from whoever has it, under whatever name of a
// snapshot; the log says from whom, and what needs it is verified again.
func TestHealing(t *testing.T) {
	dc, home, third := newSite(t, "dc"), newSite(t, "home"), newSite(t, "third")
	dc.backUp("", at("vm/1", 0), owner, 1, 2, 3)
	dc.backUp("", at("vm/2", 0), owner, 3, 4, 5)
	home.backUp("x", at("ct/9", 0), owner, 2)
	third.backUp("", at("host/y", 0), owner, 3, 7)
	dc.damageAll(2, 3, 4)
	if r := dc.verified(); r.Failed != 2 {
		t.Fatalf("verification found %+v", r)
	}
	a, b := home.serve(nil), third.serve(nil)
	defer a.close()
	defer b.close()
	log := &taskLog{}
	cfg := replication.HealConfig{Local: dc.d, Sources: []replication.Source{home.source(a, nil), third.source(b, nil)}, Printf: log.printf}
	r, err := replication.Heal(t.Context(), cfg)
	if err != nil || r.Lost != 3 || r.Fetched != 2 || r.From["home:main"] != 1 || r.From["third:main"] != 1 || r.Verified.OK != 1 {
		t.Errorf("%v, %+v\n%s", err, r, log)
	}
	if len(r.AtRisk) != 1 || r.AtRisk[0].Snapshot != at("vm/2", 0) || !strings.Contains(log.String(), "WARNING: snapshot vm/2/") {
		t.Errorf("at risk is %v, want vm/2, of which nobody has a chunk\n%s", r.AtRisk, log)
	}
	if !strings.Contains(log.String(), "chunk "+chunk(3).Digest.String()+" healed from third:main") {
		t.Errorf("the log does not say where chunks came from:\n%s", log)
	}
	if v := dc.verified(); v.OK != 1 || v.Failed != 1 {
		t.Errorf("verification now finds %+v", v)
	}
	home.backUp("", at("vm/7", 0), owner, 4)
	if r, err = replication.Heal(t.Context(), cfg); err != nil || r.Fetched != 1 || len(r.AtRisk) > 0 {
		t.Errorf("when somebody has it: %v, %+v", err, r)
	}
	if v := dc.verified(); v.Failed != 0 {
		t.Errorf("verification now finds %+v", v)
	}
	if r, err = replication.Heal(t.Context(), cfg); err != nil || r.Lost != 0 {
		t.Errorf("nothing is damaged: %v, %+v", err, r)
	}
	if leases := dc.d.Collector().Leases(); len(leases) > 0 {
		t.Errorf("leases are left: %+v", leases)
	}
}

// A whole pack that was lost is healed like a chunk.
func TestLostPackIsHealed(t *testing.T) {
	dc, home := newSite(t, "dc"), newSite(t, "home")
	for _, s := range []*site{dc, home} {
		s.backUp("", at("vm/1", 0), owner, 1, 2, 3, 4)
	}
	must(t, dc.d.Close())
	for _, name := range dc.mem.Names() {
		if strings.HasSuffix(name, ".hfp") || strings.Contains(name, "/packs/") && strings.Contains(name, "pack") {
			_ = dc.mem.Remove(name)
		}
	}
	d, err := catalog.Open(t.Context(), catalog.Config{Dir: "/store", FS: dc.mem, AcceptLoss: true})
	must(t, err)
	dc.d = d
	l := home.serve(nil)
	defer l.close()
	log := &taskLog{}
	r, err := replication.Heal(t.Context(), replication.HealConfig{Local: dc.d, Sources: []replication.Source{home.source(l, nil)}, Full: true, Printf: log.printf})
	if err != nil || r.Lost != 4 || r.Fetched != 4 || len(r.AtRisk) > 0 {
		t.Errorf("%v, %+v\n%s", err, r, log)
	}
	dc.same("", home, "", at("vm/1", 0))
}

func TestLiarHealsNothing(t *testing.T) {
	dc, home := newSite(t, "dc"), newSite(t, "home")
	for _, s := range []*site{dc, home} {
		s.backUp("", at("vm/1", 0), owner, 1, 2, 3, 4)
	}
	dc.damageAll(1, 2)
	dc.verified()
	l := home.serve(nil)
	defer l.close()
	l.wrap = func(c net.Conn) net.Conn { return &lying{Conn: c} }
	log := &taskLog{}
	r, err := replication.Heal(t.Context(), replication.HealConfig{Local: dc.d, Sources: []replication.Source{home.source(l, nil)}, Printf: log.printf})
	if err != nil || r.Fetched != 0 || len(r.AtRisk) != 1 || !strings.Contains(log.String(), "what home:main sent is refused") {
		t.Errorf("%v, %+v\n%s", err, r, log)
	}
}

// An encrypted chunk is healed if it has the bytes that its origin signed, at a
// copy as at the origin itself, and not by what only looks right.
func TestEncryptedChunksAreHealed(t *testing.T) {
	home, dc, liar := newSite(t, "home"), newSite(t, "dc"), newSite(t, "liar")
	stored := home.encryptAnew("", at("vm/1", 0), 1, 2, 3)
	liar.encryptAnew("", at("vm/1", 0), 1, 2, 3)
	a := home.serveSums(home.keeper())
	defer a.close()
	p, err := replication.New(replication.Config{Local: dc.d, Sources: []replication.Source{home.source(a, nil)}, Sums: dc.keeper("home")})
	must(t, err)
	_, err = p.Run(t.Context(), job(plan.Options{}))
	must(t, err)
	b, c := dc.serve(nil), liar.serve(nil)
	defer b.close()
	defer c.close()
	heal := func(s *site, from ...replication.Source) replication.HealReport {
		t.Helper()
		r, err := replication.Heal(t.Context(), replication.HealConfig{Local: s.d, Sources: from, Sums: s.keeper("home")})
		must(t, err)
		return r
	}
	for _, s := range []*site{dc, home} {
		must(t, s.d.Close())
		s.damage(stored[2].Blob)
		s.open()
		s.verified()
		if r := heal(s, liar.source(c, nil)); r.Fetched != 0 || len(r.AtRisk) != 1 {
			t.Errorf("%s is healed by what its origin did not sign: %+v", s.name, r)
		}
		whole := home.source(a, nil)
		if s == home {
			whole = dc.source(b, nil)
		}
		if r := heal(s, liar.source(c, nil), whole); r.Fetched != 1 || len(r.AtRisk) > 0 {
			t.Errorf("%s is not healed: %+v", s.name, r)
		}
		must(t, dc.holdsBytesOf(home, at("vm/1", 0)))
	}
}
