package tier

import (
	"errors"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
)

// A store moves to another bucket while it is used. Cut off at any request it is
// moved by the next try; nothing is lost, nobody writes to the old bucket any more,
// and what is there is as it was.
func TestMove(t *testing.T) {
	s, far := newSite(t), newSite(t)
	cfg := s.config("home")
	s.create(cfg, true)
	tr, closed := s.open(cfg)
	one, two, three := image(1, 8*chunkSize), image(2, 8*chunkSize), image(3, 8*chunkSize)
	offload := func(tr *Tier) {
		t.Helper()
		if _, err := tr.Offload(t.Context(), OffloadOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	mustBackup(t, tr, "vm/100/2024-01-02T03:04:05Z", one)
	offload(tr)
	if _, err := tr.CopyTo(t.Context(), far.b, nil); err != nil {
		t.Fatal(err)
	}
	mustBackup(t, tr, "vm/100/2024-01-03T03:04:05Z", two) // it is used meanwhile
	offload(tr)
	mustBackup(t, tr, "vm/100/2024-01-04T03:04:05Z", three) // is only on the disk

	// The old bucket is left, and then the new one is away at each request.
	var err error
	for n := 0; ; n++ {
		if n > 200 {
			t.Fatalf("it is never done: %v", err)
		}
		far.proxy.Reset()
		far.proxy.On(func(cloudtest.Request) *cloudtest.Fault {
			if far.proxy.Total() <= 100+n { // the probe has about eighty
				return nil
			}
			return &cloudtest.Fault{Status: 403, Code: "AccessDenied"}
		})
		if _, err = tr.MoveTo(t.Context(), far.b, nil); err == nil {
			break
		}
		n += 3
	}
	far.proxy.On(nil)
	if _, err := tr.Offload(t.Context(), OffloadOptions{}); !errors.Is(err, errBetween) {
		t.Errorf("the old bucket is written to: %v", err)
	}
	closed()
	s.proxy.Reset()
	cfg.Bucket = far.b
	tr, _ = far.open(cfg)
	offload(tr)
	for text, content := range map[string][]byte{"vm/100/2024-01-02T03:04:05Z": one, "vm/100/2024-01-03T03:04:05Z": two, "vm/100/2024-01-04T03:04:05Z": three} {
		wantImage(t, tr, text, content)
	}
	if _, _, err := tr.Audit(t.Context()); err != nil {
		t.Error(err)
	}
	if n := s.proxy.Total(); n != 0 {
		t.Errorf("the old bucket is asked %v", s.proxy.Counts())
	}
	seen := 0
	err = s.b.List(t.Context(), "", func(page []bucket.Info) error { seen += len(page); return nil })
	if err != nil || seen < 6 {
		t.Errorf("the old bucket has %d objects, %v", seen, err)
	}
}
