package tier

import (
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/identity"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
)

// A datastore whose prefix was below hf1/<store ID> of another one was made without a
// word, and the audit of that one deleted all of it a week later.
func TestPrefixInsideAnotherStore(t *testing.T) {
	s := newSite(t)
	outer := s.config("outer")
	recovery := s.create(outer, false)
	tr, _ := s.open(outer)
	mustBackup(t, tr, day1, image(1, 2*chunkSize))
	offload(t, tr, OffloadOptions{})

	id := layout.Root + tr.Stats().Store
	for _, prefix := range []string{id, id + "/p", "a/" + strings.Replace(id, layout.Root, "x/"+layout.Root, 1) + "/r/b"} {
		cfg := s.config("inner")
		cfg.Bucket = s.b.Sub(prefix)
		refused := func(what string, err error) {
			t.Helper()
			if h, ok := err.(interface{ Hint() string }); !ok || !strings.Contains(err.Error(), "inside of") || !strings.Contains(h.Hint(), "prefix of its own") {
				t.Errorf("%s below %s: %v", what, prefix, err)
			}
		}
		refused("create", Create(t.Context(), cfg, false, recovery))
		refused("attach", Attach(t.Context(), cfg, recovery, true))
		_, err := tr.Migration(t.Context(), cfg.Bucket)
		refused("migrate", err)
		_, err = tr.MoveTo(t.Context(), cfg.Bucket, nil)
		refused("move", err)
	}
	for _, prefix := range []string{"", "hf1", "hf1/a", "a/0123456789abcdef0123456789abcdef", "hf1x/0123456789abcdef0123456789abcdef"} {
		if err := identity.Apart(s.b.Sub(prefix)); err != nil {
			t.Errorf("prefix %q: %v", prefix, err)
		}
	}
}

// An audit deletes garbage of the names that a store writes. What anybody else has put
// below it, another store that was made there before that was refused, stays, and is told.
func TestAuditLeavesStrangers(t *testing.T) {
	s := newSite(t)
	cfg := s.config("outer")
	s.create(cfg, false)
	tr, _ := s.open(cfg)
	mustBackup(t, tr, day1, image(1, 2*chunkSize))
	offload(t, tr, OffloadOptions{})
	part := cloudtest.Open(t, s.server.URL).Sub(layout.Root + tr.Stats().Store)
	other := "0123456789abcdef0123456789abcdef"
	strange := []string{
		"hf1/" + other + "/format", "hf1/" + other + "/" + layout.PackKey([16]byte{1}), "p/hf1/" + other + "/" + layout.PackKey([16]byte{2}),
		"p/ab/" + other, "notes.txt", "i/x", "s/0000000000000001-0000000000000001-", "0canary-a/b",
	}
	step := layout.Seq{Epoch: 1, N: 900}
	ours := []string{layout.PackKey([16]byte{3}), layout.IndexKey(step, "ABC2"), layout.BundleKey(step, "ABC2"), "zcanary-ABC"}
	for _, key := range append(append([]string{}, strange...), ours...) {
		if _, err := part.PutBytes(t.Context(), key, []byte("x"), bucket.PutOption{}); err != nil {
			t.Fatal(err)
		}
	}
	r, _, err := tr.Audit(t.Context())
	if err != nil || r.Deleted != len(ours) || len(r.Foreign) != len(strange) {
		t.Fatalf("audit: %+v, %v", r, err)
	}
	for _, key := range strange {
		if _, err := part.Head(t.Context(), key); err != nil {
			t.Errorf("%s is not there any more: %v", key, err)
		}
	}
}
