package offload

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

// A bucket that loses or changes what it has just confirmed gets no snapshot of
// that batch. The next run sends again what is known to be gone, and then all can
// be restored though the bucket never has the first packs again.
func TestReadBack(t *testing.T) {
	for _, tt := range []struct {
		name, says string
		fault      cloudtest.Fault
		again      int // chunks that are sent again
	}{
		{"missing", "0 are damaged and ", cloudtest.Fault{Status: 404, Code: "NoSuchKey"}, 0},
		{"damaged", " damaged and 0 missing", cloudtest.Fault{Flip: 200}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, false)
			content := image(1, identity.MinPackBytes/2)
			w.backup(first, content)
			packs, later := map[string]bool{}, false
			locked := w.on(func(r cloudtest.Request) *cloudtest.Fault {
				switch pack := strings.Contains(r.Key, "/p/"); {
				case pack && r.Class == "put" && !later:
					packs[r.Key] = true
				case pack && r.Class == "get" && packs[r.Key]:
					return &tt.fault
				}
				return nil
			})
			r, err := w.offloader(0).Run(t.Context(), job())
			if why := (*broken)(nil); !errors.As(err, &why) || !strings.Contains(err.Error(), tt.says) || r.Snapshots != 0 {
				t.Fatalf("read back: %v, %+v", err, r)
			}
			if got := names(t, w.to.Datastore()); got != "" {
				t.Errorf("in the bucket are %s", got)
			}
			locked(func() { later = true })
			if tt.again > 0 { // the other chunks of the pack are as they were
				w.proxy.On(nil)
			} else {
				tt.again = len(content) / chunkSize
			}
			if r := w.run(job()); r.Snapshots != 1 || r.Chunks != tt.again {
				t.Errorf("the next run: %+v", r)
			}
			w.wantOnNewMachine(map[string][]byte{first: content})
		})
	}
}
