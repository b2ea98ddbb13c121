package tier

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/verify"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
)

// packs are the files in which the server keeps the packs of the bucket.
func (s *site) packs() (files []string) {
	s.t.Helper()
	err := filepath.WalkDir(s.server.Dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && strings.Contains(name, "/p/") {
			files = append(files, name)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		s.t.Fatalf("%d packs in the bucket: %v", len(files), err)
	}
	return files
}

// verified is a datastore of one snapshot of 16 chunks in the bucket, which the
// cache has too.
func verified(t *testing.T) (*site, *Tier) {
	t.Helper()
	s := newSite(t)
	cfg := s.config("home")
	s.create(cfg, true)
	tr, _ := s.open(cfg)
	content := image(1, 16*chunkSize)
	mustBackup(t, tr, day1, content)
	offload(t, tr, OffloadOptions{})
	wantImage(t, tr, day1, content)
	return s, tr
}

func verifyAll(t *testing.T, tr *Tier) (verify.Report, error) {
	t.Helper()
	return verify.Run(t.Context(), tr.Datastore(), verify.Options{Depth: -1})
}

// What the cache has is no proof of what is in the bucket.
func TestVerifyReadsTheBucket(t *testing.T) {
	s, tr := verified(t)
	before := tr.Stats().Cache
	if r, err := verifyAll(t, tr); err != nil || r.OK != 1 {
		t.Fatalf("verify what is whole: %+v, %v", r, err)
	}
	if after := tr.Stats().Cache; after.Hits != before.Hits || after.Misses != before.Misses || after.Chunks != before.Chunks {
		t.Errorf("verify used the cache: %+v, before %+v", after, before)
	}
	for _, name := range s.packs() {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 0x55
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := verifyAll(t, tr); err != nil || r.Failed != 1 || r.Damaged == 0 || r.Missing != 0 {
		t.Errorf("verify a pack that was damaged: %+v, %v", r, err)
	}
}

// A pack that is gone is missed, whatever the cache has.
func TestVerifyMissesAPack(t *testing.T) {
	s, tr := verified(t)
	for _, name := range s.packs() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := verifyAll(t, tr); err != nil || r.Failed != 1 || r.Missing != 16 {
		t.Errorf("verify without packs: %+v, %v", r, err)
	}
}

// Of a pack that was cut what is left is read, at once, and what is not is damaged.
func TestVerifyACutPack(t *testing.T) {
	s, tr := verified(t)
	for _, name := range s.packs() {
		if err := os.Truncate(name, 5*chunkSize); err != nil {
			t.Fatal(err)
		}
	}
	s.proxy.Reset()
	r, err := verifyAll(t, tr)
	if err != nil || r.Failed != 1 || r.Missing != 0 || r.Damaged < 11 || r.Damaged > 12 {
		t.Errorf("verify a pack of which 5 chunks of 16 are left: %d failed, %d damaged, %d missing, %v", r.Failed, r.Damaged, r.Missing, err)
	}
	if n := s.proxy.Total(); n > 60 {
		t.Errorf("%d requests: some were tried again", n)
	}
}

// A bucket that is gone or does not answer ends a verification, and says nothing
// about snapshots.
func TestVerifyWithoutABucket(t *testing.T) {
	s, tr := verified(t)
	for name, f := range map[string]struct {
		fault cloudtest.Fault
		want  error
	}{
		"gone":    {cloudtest.Fault{Status: 404, Code: "NoSuchBucket"}, bucket.ErrNoBucket},
		"refused": {cloudtest.Fault{Status: 403, Code: "AccessDenied"}, bucket.ErrDenied},
		"cut":     {cloudtest.Fault{Reset: true}, nil},
	} {
		s.proxy.On(func(cloudtest.Request) *cloudtest.Fault { return &f.fault })
		r, err := verifyAll(t, tr)
		if err == nil || f.want != nil && !errors.Is(err, f.want) || r.Failed+int(r.Missing+r.Damaged) > 0 {
			t.Errorf("%s: %d failed, %d damaged, %d missing, %v", name, r.Failed, r.Damaged, r.Missing, err)
		}
		list, err := tr.Datastore().List(t.Context(), catalog.ListOptions{Depth: -1})
		if err != nil || len(list) != 1 || list[0].Verification != nil {
			t.Errorf("%s: a state was stored: %+v, %v", name, list, err)
		}
	}
}

// In a bucket that is only read no state can be stored: the log had a WARN for each
// snapshot, every night. It is said of the first.
func TestVerifyOfWhatIsOnlyReadIsSaidOnce(t *testing.T) {
	s := newSite(t)
	cfg := s.config("home")
	recovery := s.create(cfg, false)
	tr, _ := s.open(cfg)
	for i, day := range []string{day1, day2, day3} {
		mustBackup(t, tr, day, image(uint64(i), 2*chunkSize))
	}
	offload(t, tr, OffloadOptions{})
	ro := s.config("reader")
	ro.ReadOnly = true
	if err := Attach(t.Context(), ro, recovery, false); err != nil {
		t.Fatal(err)
	}
	reader, _ := s.open(ro)
	var log bytes.Buffer
	r, err := verify.Run(t.Context(), reader.Datastore(), verify.Options{Depth: -1, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil || r.OK != 3 || r.Unstored != 3 {
		t.Fatalf("%+v, %v", r, err)
	}
	if n := strings.Count(log.String(), "could not be stored"); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, &log)
	}
}
