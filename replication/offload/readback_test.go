package offload

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

// sentPacks are the keys of packs that were put, and what becomes of reads of them.
type sentPacks struct {
	mu    sync.Mutex
	keys  map[string]int // puts
	ended bool           // later packs are not noted
	fault cloudtest.Fault
}

func (s *sentPacks) hook(r cloudtest.Request) *cloudtest.Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !strings.Contains(r.Key, "/p/") {
		return nil
	}
	switch {
	case r.Class == "put" && !s.ended:
		s.keys[r.Key]++
	case r.Class == "get" && s.keys[r.Key] > 0:
		f := s.fault
		return &f
	}
	return nil
}

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
			w := newWorld(t, false)
			content := image(1, identity.MinPackBytes/2)
			w.backup(first, content)
			packs := &sentPacks{keys: map[string]int{}, fault: tt.fault}
			w.proxy.On(packs.hook)
			r, err := w.offloader(0).Run(t.Context(), job())
			if why := (*broken)(nil); !errors.As(err, &why) || !strings.Contains(err.Error(), tt.says) || r.Snapshots != 0 {
				t.Fatalf("read back: %v, %+v", err, r)
			}
			if got := names(t, w.to.Datastore()); got != "" {
				t.Errorf("in the bucket are %s", got)
			}
			packs.mu.Lock()
			packs.ended = true
			packs.mu.Unlock()
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
