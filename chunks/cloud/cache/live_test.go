package cache

import (
	"os"
	"sync"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
)

// A cache comes and goes while it is read; with no bound its files are gone, and
// what cannot be is refused and leaves it as it was.
func TestLive(t *testing.T) {
	dir := t.TempDir() + "/cache"
	l := NewLive(Config{Dir: dir})
	c := chunktest.Blob(1, 4000)
	l.Put(c.Digest, c.Blob)
	if _, ok := l.Get(c.Digest, nil); ok || l.Has(c.Digest) || l.Bound() != 0 {
		t.Error("a cache without a bound keeps something")
	}
	var readers sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					l.Put(c.Digest, c.Blob)
					if b, ok := l.Get(c.Digest, nil); ok && b.Verify(c.Digest, nil) != nil {
						t.Error("the cache gives another chunk")
					}
					l.Stats()
				}
			}
		})
	}
	for _, bound := range []int64{4 << 20, 0, 2 << 20, 8 << 20, 0, 4 << 20} {
		if err := l.Resize(bound); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(dir); l.Bound() != bound || os.IsNotExist(err) != (bound == 0) {
			t.Errorf("bound %d, want %d; its directory: %v", l.Bound(), bound, err)
		}
	}
	close(stop)
	readers.Wait()
	if err := l.Resize(5); err == nil || l.Bound() != 4<<20 {
		t.Errorf("a bound of 5 bytes: %v, bound %d", err, l.Bound())
	}
	l.Put(c.Digest, c.Blob)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := l.Resize(4 << 20); err != nil || !l.Has(c.Digest) {
		t.Errorf("what was kept is not there again: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	var none *Live
	none.Put(c.Digest, c.Blob)
	if none.Has(c.Digest) || none.Bound() != 0 || none.Stats() != (Stats{}) {
		t.Error("no cache keeps something")
	}
}
