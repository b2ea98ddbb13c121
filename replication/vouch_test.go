package replication_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/replication"
	"github.com/holdfast-mesh/holdfast/replication/plan"
	"github.com/holdfast-mesh/holdfast/replication/vouch"
)

// encryptAnew makes a snapshot of encrypted chunks, whose names depend on the
// seeds alone and whose bytes are others each time.
func (s *site) encryptAnew(ns string, snap naming.Snapshot, seeds ...uint64) (stored map[uint64]chunktest.Chunk) {
	s.t.Helper()
	ctx := context.Background()
	w, err := s.d.Begin(ctx, naming.Namespace(ns), snap, owner)
	must(s.t, err)
	stored = map[uint64]chunktest.Chunk{}
	var b chunks.DynamicBuilder
	for _, seed := range seeds {
		c := chunktest.Encode(chunktest.Random(seed, 3000), chunks.EncodeOptions{Key: chunktest.Key(9)})
		stored[seed] = c
		_, err := w.Session().Put(ctx, c.Digest, c.Blob)
		must(s.t, err)
		must(s.t, b.Append(b.End()+3000, c.Digest))
	}
	x, err := b.Finish(chunks.NewUUID(), time.Unix(1, 0))
	must(s.t, err)
	m := manifest.New(snap)
	must(s.t, errors.Join(
		w.PutIndex("root.pxar.didx", x),
		m.Add(manifest.File{Name: "root.pxar.didx", Size: uint64(x.Size()), Csum: x.Csum(), CryptMode: manifest.Encrypt}),
	))
	must(s.t, w.Finish(ctx, m))
	return stored
}

func nodeKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// keeper returns the signed sums of a site. What any node of believed signs
// counts.
func (s *site) keeper(believed ...string) *vouch.Keeper {
	s.t.Helper()
	k, err := vouch.New(vouch.Config{Local: s.d, Key: nodeKey(s.name), Believe: func(key [32]byte, _ *manifest.Manifest) error {
		for _, name := range believed {
			if bytes.Equal(key[:], nodeKey(name).Public().(ed25519.PublicKey)) {
				return nil
			}
		}
		return errors.New("it is not the origin")
	}})
	must(s.t, err)
	return k
}

// An encrypted chunk counts if its bytes are those that its origin signed,
// from whomever they come, over any number of sites.
func TestEncryptedChunksAreVouchedFor(t *testing.T) {
	home, dc, third, liar := newSite(t, "home"), newSite(t, "dc"), newSite(t, "third"), newSite(t, "liar")
	for day := range 3 {
		home.encryptAnew("", at("vm/1", day), 1, 2, 3, uint64(10+day))
	}
	liar.encryptAnew("", at("vm/9", 0), 1, 2, 3, 10)
	a, b, c := home.serveSums(home.keeper()), dc.serveSums(dc.keeper()), liar.serveSums(liar.keeper())
	defer a.close()
	defer b.close()
	defer c.close()
	pull := func(to *site, from ...replication.Source) (*taskLog, replication.Report, error) {
		log := &taskLog{}
		p, err := replication.New(replication.Config{Local: to.d, Sources: from, Sums: to.keeper("home"), Printf: log.printf})
		must(t, err)
		report, err := p.Run(t.Context(), job(plan.Options{EncryptedOnly: true}))
		return log, report, err
	}
	log, report, err := pull(dc, home.source(a, nil), liar.source(c, nil))
	if err != nil || report.Pulled != 3 || report.Unproven != 0 {
		t.Fatalf("%v, %+v\n%s", err, report, log)
	}
	if by := report.Swarm.BySource; by[1].Chunks > 0 || by[1].Doubts > 0 && !strings.Contains(log.String(), "WARNING: liar:main") {
		t.Errorf("what only looks right counted, or is not named: %+v\n%s", by, log)
	}
	log, report, err = pull(third, dc.source(b, nil))
	if err != nil || report.Pulled != 3 {
		t.Fatalf("from a site that is not the origin: %v, %+v\n%s", err, report, log)
	}
	for day := range 3 {
		must(t, third.holdsBytesOf(home, at("vm/1", day)))
	}
	if _, _, err = pull(third, liar.source(c, nil)); err == nil {
		t.Error("a snapshot counts that nobody has vouched for who may")
	}
	if _, err := third.d.Manifest("", at("vm/9", 0)); err == nil {
		t.Error("a snapshot can be seen that nobody has vouched for who may")
	}
	log, report, err = pull(newSite(t, "fourth"), onlyChunks{home.source(a, nil), liar.source(c, nil)})
	if err == nil || report.Swarm.BySource[0].Doubts == 0 || !strings.Contains(log.String(), "has not signed") {
		t.Errorf("chunks from the liar alone: %v, %+v\n%s", err, report, log)
	}
}

// holdsBytesOf fails unless chunks are here as they are there, byte for byte.
func (s *site) holdsBytesOf(there *site, snap naming.Snapshot) error {
	x, err := there.d.ReadIndex("", snap, "root.pxar.didx")
	if err != nil {
		return err
	}
	for _, d := range x.All() {
		a, err := there.d.Chunks().Get(context.Background(), d, nil)
		b, err2 := s.d.Chunks().Get(context.Background(), d, nil)
		if err = errors.Join(err, err2); err != nil || !bytes.Equal(a, b) {
			return fmt.Errorf("chunk %s differs (%w)", d.Short(), err)
		}
	}
	return nil
}

// Sums are made once, by reading what the snapshot before does not have, and go
// when their snapshot does.
func TestSumsAreMadeOnce(t *testing.T) {
	home := newSite(t, "home")
	home.encryptAnew("", at("vm/1", 0), 1, 2)
	k := home.keeper("home")
	first, err := k.Files(t.Context(), "", at("vm/1", 0))
	if err != nil || len(first) != 1 || first[0].Name != "root.pxar.didx.sums.blob" {
		t.Fatalf("%v, %v", first, err)
	}
	stored := home.encryptAnew("", at("vm/1", 1), 1, 2, 3)
	p, err := k.Files(t.Context(), "", at("vm/1", 1))
	must(t, err)
	part, err := vouch.Open(p[0].Blob)
	if err != nil || len(part.Sums) != 3 || part.Sums[2] != vouch.SumOf(stored[3].Blob) {
		t.Errorf("sums are %+v, %v", part, err)
	}
	if part.Sums[0] == vouch.SumOf(stored[1].Blob) {
		t.Error("the sum is that of bytes which were sent, and not stored: the chunk was known")
	}
	must(t, home.d.Close())
	home.damage(stored[3].Blob)
	home.open()
	k = home.keeper("home")
	if _, err := k.Files(t.Context(), "", at("vm/1", 1)); err != nil {
		t.Errorf("what was signed is not read again: %v", err)
	}
	sums, err := k.Sums(t.Context(), "", at("vm/1", 1))
	if err != nil || sums[stored[3].Digest] != vouch.SumOf(stored[3].Blob) {
		t.Errorf("what was signed of a chunk that is damaged now: %v", err)
	}
	must(t, home.d.Forget(t.Context(), "", at("vm/1", 0)))
	if n, err := k.Sweep(t.Context()); err != nil || n != 1 {
		t.Errorf("%d files were removed (%v), want those of the snapshot that has gone", n, err)
	}
	if n, err := k.Sweep(t.Context()); err != nil || n != 0 {
		t.Errorf("%d files were removed (%v), want none", n, err)
	}
}

// A chunk that is found damaged, and that the next backup brings again, has other
// bytes than before, as it is encrypted anew. The origin signs what it has now, for
// old snapshots too, and they can be pulled.
func TestStoredAnewIsSignedAnew(t *testing.T) {
	home, dc := newSite(t, "home"), newSite(t, "dc")
	stored := home.encryptAnew("", at("vm/1", 0), 1, 2, 3)
	_, err := home.keeper("home").Files(t.Context(), "", at("vm/1", 0))
	must(t, err)
	ref, _, ok, err := home.d.Chunks().LookupKind(stored[2].Digest)
	if must(t, err); !ok {
		t.Fatal("the chunk is not there")
	}
	must(t, home.d.Chunks().Quarantine(ref))
	again := home.encryptAnew("", at("vm/1", 1), 1, 2, 3)
	must(t, home.d.Close())
	home.open() // it is remembered
	k := home.keeper("home")
	files, err := k.Files(t.Context(), "", at("vm/1", 0))
	must(t, err)
	part, err := vouch.Open(files[0].Blob)
	must(t, err)
	if part.Sums[0] != vouch.SumOf(stored[1].Blob) || part.Sums[1] != vouch.SumOf(again[2].Blob) {
		t.Error("the sums are not those of the bytes that are there")
	}
	l := home.serveSums(k)
	defer l.close()
	p, err := replication.New(replication.Config{Local: dc.d, Sources: []replication.Source{home.source(l, nil)}, Sums: dc.keeper("home")})
	must(t, err)
	if report, err := p.Run(t.Context(), job(plan.Options{})); err != nil || report.Pulled != 2 {
		t.Errorf("%+v, %v: want both snapshots", report, err)
	}
	must(t, dc.holdsBytesOf(home, at("vm/1", 0)))
	home.damage(again[2].Blob)
	must(t, home.d.Close())
	home.open()
	if _, err := home.keeper("home").Files(t.Context(), "", at("vm/1", 0)); err != nil {
		t.Errorf("a chunk that is damaged again forbids to hand out what was signed: %v", err)
	}
}

func TestForgedSumsCountNothing(t *testing.T) {
	home := newSite(t, "home")
	home.encryptAnew("", at("vm/1", 0), 1, 2)
	files, err := home.keeper().Files(t.Context(), "", at("vm/1", 0))
	must(t, err)
	part, err := vouch.Open(files[0].Blob)
	must(t, err)
	for i := range part.Bytes() {
		b := part.Bytes()
		b[i] ^= 4
		if _, err := vouch.Parse(b); err == nil {
			t.Fatalf("a part with another byte %d counts", i)
		}
	}
	m, err := home.d.Manifest("", at("vm/1", 0))
	must(t, err)
	x, err := home.d.ReadIndex("", at("vm/1", 0), "root.pxar.didx")
	must(t, err)
	blobs := []chunks.Blob{files[0].Blob}
	if _, err := home.keeper("home").Check(m, x, blobs); err != nil {
		t.Error(err)
	}
	if _, err := home.keeper("dc").Check(m, x, blobs); !errors.Is(err, vouch.ErrUnsigned) {
		t.Errorf("signed by home, believed is dc: %v", err)
	}
	home.encryptAnew("", at("vm/1", 1), 1, 2, 3)
	y, err := home.d.ReadIndex("", at("vm/1", 1), "root.pxar.didx")
	must(t, err)
	if _, err := home.keeper("home").Check(m, y, blobs); !errors.Is(err, vouch.ErrUnsigned) {
		t.Errorf("signed for another index: %v", err)
	}
}
