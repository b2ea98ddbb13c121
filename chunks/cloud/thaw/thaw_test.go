package thaw

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
)

// A freezer answers as a store does that has an archive: no test server has one.
type freezer struct {
	mu     sync.Mutex
	class  map[string]string // archived keys
	asked  map[string]int    // restore requests by key
	ready  map[string]bool   // copies that were made
	first  string            // the first request for this key finds that somebody else was faster
	broken bool
}

func (f *freezer) hook(r cloudtest.Request) *cloudtest.Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case r.Class == "list":
		return &cloudtest.Fault{Rewrite: f.list}
	case r.HTTP.Method == http.MethodPost && r.HTTP.URL.Query().Has("restore"):
		f.asked[r.Key]++
		switch {
		case f.broken:
			return &cloudtest.Fault{Status: http.StatusForbidden, Code: "AccessDenied"}
		case r.Key == f.first:
			return &cloudtest.Fault{Status: http.StatusConflict, Code: "RestoreAlreadyInProgress"}
		}
		return &cloudtest.Fault{Reply: "<r/>"}
	}
	return nil
}

func (f *freezer) list(body []byte) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	text := string(body)
	for key, class := range f.class {
		status := ""
		switch {
		case f.ready[key]:
			status = "<RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress><RestoreExpiryDate>2027-01-01T00:00:00Z</RestoreExpiryDate></RestoreStatus>"
		case f.asked[key] > 0 && !f.broken:
			status = "<RestoreStatus><IsRestoreInProgress>true</IsRestoreInProgress></RestoreStatus>"
		}
		head, tail, ok := strings.Cut(text, "<Key>"+key+"</Key>")
		if ok {
			text = head + "<Key>" + key + "</Key>" + status + strings.Replace(tail, "<StorageClass>STANDARD<", "<StorageClass>"+class+"<", 1)
		}
	}
	return []byte(text)
}

// frozen returns a bucket with so many packs in GLACIER, one in DEEP_ARCHIVE if
// deep, and two objects that can be read.
func frozen(t *testing.T, packs int, deep bool) (*bucket.Bucket, *freezer, *cloudtest.Proxy) {
	t.Helper()
	p := cloudtest.Front(t, cloudtest.Start(t))
	b := cloudtest.Open(t, p.URL)
	f := &freezer{class: map[string]string{}, asked: map[string]int{}, ready: map[string]bool{}}
	put := func(key, class string) {
		if _, err := b.PutBytes(t.Context(), key, []byte("0123456789"), bucket.PutOption{}); err != nil {
			t.Fatal(err)
		}
		if class != "" {
			f.class[key] = class
		}
	}
	for i := range packs {
		put(fmt.Sprintf("hf1/s/p/%03d", i), "GLACIER")
	}
	if deep {
		put("hf1/s/p/deep", "DEEP_ARCHIVE")
	}
	put("hf1/s/r/1", "")
	put("hf1/s/p/ir", "")
	f.class["hf1/s/p/ir"] = "GLACIER_IR" // that can be read at once
	p.On(f.hook)
	p.Reset()
	return b, f, p
}

func look(t *testing.T, b *bucket.Bucket, tier string) Plan {
	t.Helper()
	s, err := Look(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := s.Plan(tier, 14)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func TestThawAsksOncePerPack(t *testing.T) {
	b, f, p := frozen(t, 40, true)
	plan := look(t, b, "Bulk")
	if plan.Requests != 41 || plan.Hours != 48 || plan.Readable.Objects != 2 || plan.Archived["GLACIER"] != (Sum{40, 400}) || plan.Cost <= 0 {
		t.Errorf("plan is %+v", plan)
	}
	f.first = "hf1/s/p/007"
	var told int64
	asked, err := Ask(t.Context(), b, plan, func(int64) { told++ })
	if err != nil || asked != (Asked{40, 1}) {
		t.Errorf("asked %+v, %v", asked, err)
	}
	if n := p.Counts(); n["post"] != 41 || p.Total() != 42 {
		t.Errorf("requests were %v, want one for each object and one listing", n)
	}
	if n := b.Account().Stats().Requests["restore"]; n != 41 {
		t.Errorf("%d restore requests were counted", n)
	}
	again := look(t, b, "Bulk")
	if again.Restoring.Objects != 41 || again.Requests != 0 {
		t.Errorf("meanwhile: %+v", again)
	}
	f.mu.Lock()
	f.ready["hf1/s/p/000"] = true
	f.mu.Unlock()
	if s := look(t, b, "Bulk"); s.Restored.Objects != 1 || s.Restoring.Objects != 40 {
		t.Errorf("when one is ready: %+v", s.State)
	}
}

// 400,000 archived chunks are thawed with a request for each pack that they lie in, of
// 320 here, and a listing of two pages.
func TestThawOfManyChunks(t *testing.T) {
	const packs = 400_000 / 320
	b, f, p := frozen(t, packs, false)
	plan := look(t, b, "Bulk")
	if asked, err := Ask(t.Context(), b, plan, func(int64) {}); err != nil || asked != (Asked{packs, 0}) {
		t.Errorf("%+v, %v", asked, err)
	}
	if n := p.Counts(); n["post"] != packs || n["list"] != 2 || p.Total() != packs+2 {
		t.Errorf("requests were %v for %d packs", n, packs)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, n := range f.asked {
		if n != 1 {
			t.Errorf("%s was asked for %d times", key, n)
		}
	}
}

// What was cut off goes on where it was, whatever the moment.
func TestThawIsCutOffAndGoesOn(t *testing.T) {
	b, f, p := frozen(t, 150, false)
	rounds := 0
	for round := 0; ; round++ {
		for n := -1; n != p.Total(); time.Sleep(100 * time.Millisecond) {
			n = p.Total() // what was on its way when it was cut off arrives
		}
		rounds = round
		plan := look(t, b, "Standard")
		if plan.Requests == 0 {
			if round < 2 {
				t.Errorf("it took %d rounds: nothing was cut off", round)
			}
			break
		}
		ctx, cancel := context.WithCancel(t.Context())
		_, err := Ask(ctx, b, plan, func(n int64) {
			if n == 15 {
				cancel()
			}
		})
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	// A request that was on its way when it was cut may have been heard: then the
	// listing says so, unless it was on its way for very long.
	twice := 0
	for key, n := range f.asked {
		if n > 1 {
			twice++
			t.Logf("%s was asked for %d times", key, n)
		}
	}
	if len(f.asked) != 150 || twice > rounds {
		t.Errorf("%d of 150 were asked for, %d of them twice", len(f.asked), twice)
	}
}

func TestThawFails(t *testing.T) {
	b, f, _ := frozen(t, 3, true)
	s, err := Look(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Plan("Expedited", 1); err == nil || !strings.Contains(err.Error(), "DEEP_ARCHIVE") {
		t.Errorf("expedited from the deep archive: %v", err)
	}
	f.broken = true
	if _, err := Ask(t.Context(), b, look(t, b, "Bulk"), nil); !errors.Is(err, bucket.ErrDenied) {
		t.Errorf("without the permission: %v", err)
	}
}

func TestManifest(t *testing.T) {
	b, _, _ := frozen(t, 2, false)
	s, err := Look(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := s.Manifest(&out, b); err != nil {
		t.Fatal(err)
	}
	if want := "backups,hf1/s/p/000\nbackups,hf1/s/p/001\n"; out.String() != want {
		t.Errorf("manifest is %q, want %q", out.String(), want)
	}
}
