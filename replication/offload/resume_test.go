package offload

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
)

// What was uploaded before the root that would name it is not sent again; only if
// the answer to the upload was lost it is offered again, under the same name,
// and the bucket keeps what it has.
func TestUploadedBeforeTheRoot(t *testing.T) {
	for _, tt := range []struct {
		name, cut string // the first put of such a key is cut off
		after     bool   // the store has done what it was asked
		again     bool   // the pack is offered in the second run too
	}{
		{"between upload and root", "/i/", false, false},
		{"before the answer arrived", "/p/", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, false)
			content := image(1, chunkSize) // small: a server that refuses a long body while it is sent may break the connection
			w.backup(first, content)
			puts, dead := map[string]int{}, false // dead: we are, and ask nothing more
			locked := w.on(func(r cloudtest.Request) *cloudtest.Fault {
				if r.Class == "put" && strings.Contains(r.Key, "/p/") && !dead {
					puts[r.Key]++
				}
				if dead || r.Class == "put" && strings.Contains(r.Key, tt.cut) {
					f := &cloudtest.Fault{Status: 403, Code: "AccessDenied", After: tt.after && !dead}
					dead = true
					return f
				}
				return nil
			})
			if _, err := w.offloader(0).Run(t.Context(), job()); !errors.Is(err, bucket.ErrDenied) {
				t.Fatalf("cut off: %v", err)
			}
			w.stop()
			w.start()
			locked(func() { dead, tt.cut = false, "no such key" })
			if r := w.run(job()); r.Snapshots != 1 || r.Chunks != 0 {
				t.Errorf("the next run: %+v", r)
			}
			locked(func() {
				if len(puts) != 1 {
					t.Errorf("packs were sent under the names %v, want one", puts)
				}
				for key, n := range puts {
					if (n > 1) != tt.again { // who is refused while sending may try some times
						t.Errorf("%s was put %d times, want again: %t", key, n, tt.again)
					}
				}
			})
			w.proxy.On(nil)
			w.wantOnNewMachine(map[string][]byte{first: content})
		})
	}
}
