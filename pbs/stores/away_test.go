package stores_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
)

// The log of an offload that failed does not say that anything is in the bucket.
func TestFailedOffloadSaysSo(t *testing.T) {
	key, err := seal.NewIdentity()
	must(t, err)
	p := cloudtest.Front(t, cloudtest.Start(t))
	m := newMember(t, p.URL, "a", &ledger{has: map[string]string{}})
	m.has(t, key.String(), false, false)
	d, done, err := m.Use("cloud", true)
	must(t, err)
	defer done()
	must(t, storestest.Make(t.Context(), d, storestest.Backup{
		Snapshot: "vm/100/2023-11-14T22:13:20Z", Owner: root, Files: []storestest.File{{Name: "a.img.fidx", Content: make([]byte, 5<<20)}},
	}))
	p.On(func(r cloudtest.Request) *cloudtest.Fault {
		if r.Class == "put" && strings.Contains(r.Key, "/p/") {
			return &cloudtest.Fault{Status: http.StatusForbidden, Code: "AccessDenied"}
		}
		return nil
	})
	u, err := m.StartOffload("cloud", root)
	state, text := m.end(t, u, err)
	if !strings.Contains(state, "access was denied") || strings.Contains(text, "are in the bucket") || !strings.Contains(text, "is still here, and goes with the next offload") {
		t.Errorf("refused: %s\n%s", state, text)
	}
	p.On(nil)
	for range 1000 { // the end of the first is told a moment before the next may begin
		if u, err = m.StartOffload("cloud", root); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if state, text := m.end(t, u, err); state != "OK" || !strings.Contains(text, "are in the bucket") {
		t.Errorf("allowed: %s\n%s", state, text)
	}
}
