package replication_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/tier"
	"github.com/holdfast-mesh/holdfast/catalog/verify"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/replication"
)

// A bucket has lost a pack, and nothing of it is left on the node. Another site that has
// the snapshot heals the datastore, byte for byte, and the next offload the bucket: who
// has nothing but that restores it.
func TestATierIsHealedByAPeer(t *testing.T) {
	server := cloudtest.Start(t)
	key, err := seal.NewIdentity()
	must(t, err)
	recovery, err := seal.NewIdentity()
	must(t, err)
	cfg := tier.Config{Dir: filepath.Join(t.TempDir(), "cloud"), Bucket: cloudtest.Open(t, server.URL), Node: "dc", Key: key}
	must(t, tier.Create(t.Context(), cfg, true, recovery.String()))
	tr, err := tier.Open(t.Context(), cfg)
	must(t, err)
	dc := &site{t: t, name: "dc", d: tr.Datastore()}
	t.Cleanup(func() { tr.Close() })
	dc.backUp("", at("vm/1", 0), owner, 1, 2, 3, 4)
	_, err = tr.Offload(t.Context(), tier.OffloadOptions{})
	must(t, err)
	dc.backUp("", at("vm/2", 0), owner, 5, 6)
	_, err = tr.Offload(t.Context(), tier.OffloadOptions{})
	must(t, err)
	home := newSite(t, "home")
	home.backUp("", at("vm/1", 0), owner, 1, 2, 3, 4)
	home.backUp("", at("vm/2", 0), owner, 5, 6)

	for _, seed := range []uint64{1, 5} { // both packs
		if dc.d.Local().Known(chunk(seed).Digest) {
			t.Fatal("a chunk is on the disk still")
		}
	}
	packs, err := filepath.Glob(filepath.Join(server.Dir, "*", "*", "p", "*", "*"))
	must(t, err)
	if len(packs) != 2 {
		t.Fatalf("%d packs are in the bucket", len(packs))
	}
	must(t, os.Remove(packs[0]))
	if r, err := verify.Run(t.Context(), dc.d, verify.Options{Depth: -1}); err != nil || r.OK != 1 || r.Failed != 1 || tr.Stats().Lost != 1 {
		t.Fatalf("verification: %+v, %v", r, err)
	}
	l := home.serve(nil)
	defer l.close()
	log := &taskLog{}
	r, err := replication.Heal(t.Context(), replication.HealConfig{Local: dc.d, Sources: []replication.Source{home.source(l, nil)}, Printf: log.printf})
	if err != nil || r.Lost == 0 || r.Fetched != r.Lost || r.From["home:main"] != r.Lost || r.Verified.OK != 1 || len(r.AtRisk) > 0 {
		t.Fatalf("heal: %+v, %v\n%s", r, err, log)
	}
	if n := strings.Count(log.String(), " healed from home:main"); n != r.Lost || tr.Stats().Lost != 0 {
		t.Errorf("%d chunks are said to be healed of %d, %d packs to be lost:\n%s", n, r.Lost, tr.Stats().Lost, log)
	}
	dc.wantBlobs(1, 2, 3, 4, 5, 6)
	_, err = tr.Offload(t.Context(), tier.OffloadOptions{})
	must(t, err)
	must(t, tr.Close())

	cfg.Dir, cfg.Node = filepath.Join(t.TempDir(), "new"), "new"
	must(t, tier.Attach(t.Context(), cfg, "", true))
	again, err := tier.Open(t.Context(), cfg)
	must(t, err)
	defer again.Close()
	fresh := &site{t: t, name: "new", d: again.Datastore()}
	fresh.wantBlobs(1, 2, 3, 4, 5, 6)
	for _, snap := range []string{"vm/1", "vm/2"} {
		fresh.same("", home, "", at(snap, 0))
	}
}

// wantBlobs wants the chunks of seeds to be what was backed up.
func (s *site) wantBlobs(seeds ...uint64) {
	s.t.Helper()
	for _, seed := range seeds {
		b, err := s.d.Chunks().Get(s.t.Context(), chunk(seed).Digest, nil)
		if err != nil || string(b) != string(chunks.Blob(chunk(seed).Blob)) {
			s.t.Errorf("chunk %d at %s: other bytes, or %v", seed, s.name, err)
		}
	}
}
