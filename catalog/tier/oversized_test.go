package tier

import (
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
)

// One object in the place of the next root, or of the owner, that was longer than any of
// its kind kept everybody out, readers too, where any other garbage is passed over.
func TestOversizedObjectsArePassedOver(t *testing.T) {
	for _, key := range []string{layout.OwnerKey, layout.RootDir} {
		t.Run(key, func(t *testing.T) {
			s := newSite(t)
			cfg := s.config("home")
			recovery := s.create(cfg, true)
			tr, stop := s.open(cfg)
			content := image(1, 2*chunkSize)
			mustBackup(t, tr, day1, content)
			offload(t, tr, OffloadOptions{})
			part := cloudtest.Open(t, s.server.URL).Sub(layout.Root + tr.Stats().Store)
			size := 1<<20 + 1
			if key == layout.RootDir {
				seq := tr.store.Newest().Seq
				seq.N++
				key, size = layout.RootKey(seq), 64<<20+1
			}
			stop()
			if _, err := part.PutBytes(t.Context(), key, make([]byte, size), bucket.PutOption{}); err != nil {
				t.Fatal(err)
			}
			other := s.config("other")
			if err := Attach(t.Context(), other, recovery, true); err != nil {
				t.Fatalf("attach and take over: %v", err)
			}
			nt, _ := s.open(other)
			wantImage(t, nt, day1, content)
			mustBackup(t, nt, day2, image(2, 2*chunkSize))
			offload(t, nt, OffloadOptions{})
		})
	}
}
