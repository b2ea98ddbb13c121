package tier

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/verify"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
)

// Who restores from a pack that was moved to an archive is told so, and of the verb
// that brings it back; a verification calls nothing damaged.
func TestAnArchivedChunkNamesThaw(t *testing.T) {
	s := newSite(t)
	cfg := s.config("home")
	cfg.CacheBytes = 0
	s.create(cfg, false)
	tr, _ := s.open(cfg)
	mustBackup(t, tr, day1, image(1, 4*chunkSize))
	offload(t, tr, OffloadOptions{})
	s.proxy.On(func(r cloudtest.Request) *cloudtest.Fault {
		if r.Class == "get" && strings.Contains(r.Key, "/p/") {
			return &cloudtest.Fault{Status: http.StatusForbidden, Code: "InvalidObjectState"}
		}
		return nil
	})
	r, err := tr.Datastore().OpenSnapshot(t.Context(), "", snapshot(t, day1))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	x, err := r.Index("disk.img.fidx")
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Chunks().Get(t.Context(), x.Digest(0), nil)
	var hint interface{ Hint() string }
	if !errors.Is(err, bucket.ErrArchived) || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "holdfast datastore thaw") {
		t.Errorf("a restore: %v", err)
	}
	report, err := verify.Run(t.Context(), tr.Datastore(), verify.Options{Depth: -1})
	if report.Damaged+report.Missing > 0 {
		t.Errorf("a verification calls archived chunks damaged: %+v, %v", report, err)
	}
	s.proxy.On(nil)
	restored(t, tr, day1) // nothing was denied meanwhile
}
