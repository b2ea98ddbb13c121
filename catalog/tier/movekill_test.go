package tier

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
)

// A killer ends a process at one of its steps: a request to a bucket, which is served
// and whose answer never comes, or a change of a file. From then on nothing works.
type killer struct {
	mu   sync.Mutex
	at   int // the step; 0: never
	n    int
	dead bool
}

func (k *killer) reset(at int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.at, k.n, k.dead = at, 0, false
}

// step reports whether this is the last step, or one that is not made any more.
func (k *killer) step() (last, dead bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.dead {
		return false, true
	}
	k.n++
	k.dead = k.n == k.at
	return k.dead, false
}

func (k *killer) request(r cloudtest.Request) *cloudtest.Fault {
	if strings.Contains(r.Key, "probe/") {
		return nil // what is tried out before is the same for all
	}
	last, dead := k.step()
	switch {
	case last:
		return &cloudtest.Fault{Status: 403, Code: "AccessDenied", After: true}
	case dead:
		return &cloudtest.Fault{Status: 403, Code: "AccessDenied"}
	}
	return nil
}

func (k *killer) change(o disktest.Op) error {
	if !o.Kind.Changes() {
		return nil
	}
	if last, dead := k.step(); last || dead {
		return disktest.ErrCrashed
	}
	return nil
}

// A node that was killed in the middle of "migrate --home" refused every backup from
// its next start on: its own "moved to …" in the old bucket read as another node's.
// Killed at any step it works at its old home after the start, and the command run
// again moves it.
func TestAMoveIsKilled(t *testing.T) {
	s, far := newSite(t), newSite(t)
	cfg := s.config("home")
	s.create(cfg, true)
	want := map[string][]byte{}
	add := func(tr *Tier, n int) {
		t.Helper()
		text, content := fmt.Sprintf("vm/100/2024-01-02T03:%02d:%02dZ", n/60, n%60), image(uint64(n+1), 2*chunkSize)
		mustBackup(t, tr, text, content)
		want[text] = content
	}
	var k killer
	s.proxy.On(k.request)
	far.proxy.On(k.request)
	home := cfg.FS
	killed, at := 0, 0
	for ; ; at++ {
		if at > 300 {
			t.Fatal("it is never done")
		}
		k.reset(0)
		fsys := disktest.NewFaulty(home)
		fsys.SetHook(k.change)
		cfg.FS = fsys
		tr, err := Open(t.Context(), cfg)
		if err != nil {
			t.Fatalf("after a kill at step %d: %v", at, err)
		}
		if err := tr.Writable(); err != nil {
			t.Fatalf("after a kill at step %d no backup is taken: %v", at, err)
		}
		add(tr, at)
		if _, err := tr.Offload(t.Context(), OffloadOptions{}); err != nil {
			t.Fatalf("after a kill at step %d: %v", at, err)
		}
		if err := tr.Writable(); err != nil {
			t.Fatalf("after a kill at step %d: %v", at, err)
		}
		k.reset(at + 1)
		_, err = tr.MoveTo(t.Context(), far.b, nil)
		if err == nil && killed > 0 {
			k.reset(0)
			tr.Close()
			break // but the settings were not changed any more
		}
		killed++
		tr.Close() // nothing of which reaches the disk
	}
	if killed < 10 {
		t.Errorf("it was killed %d times only", killed)
	}
	cfg.FS = home
	tr, closed := s.open(cfg)
	add(tr, at+1)
	offload(t, tr, OffloadOptions{})
	if _, err := tr.MoveTo(t.Context(), far.b, nil); err != nil {
		t.Fatal(err)
	}
	add(tr, at+2) // before the settings are changed
	if _, err := tr.Offload(t.Context(), OffloadOptions{}); err == nil {
		t.Error("something goes to the bucket that was left")
	}
	closed()
	s.proxy.Reset()
	cfg.Bucket = far.b
	tr, _ = far.open(cfg)
	offload(t, tr, OffloadOptions{})
	for text, content := range want {
		wantImage(t, tr, text, content)
	}
	if n := s.proxy.Total(); n != 0 {
		t.Errorf("the old bucket is asked %v", s.proxy.Counts())
	}
}

// A move that fails while the node runs leaves the node at its old home at once: it
// was read-only before, until somebody took the bucket over by force.
func TestAMoveFails(t *testing.T) {
	s, far := newSite(t), newSite(t)
	cfg := s.config("home")
	s.create(cfg, true)
	tr, _ := s.open(cfg)
	mustBackup(t, tr, "vm/100/2024-01-02T03:04:05Z", image(1, 2*chunkSize))
	offload(t, tr, OffloadOptions{})
	left := false
	s.proxy.On(func(r cloudtest.Request) *cloudtest.Fault {
		left = left || r.Class == "put" && strings.HasSuffix(r.Key, "owner")
		return nil
	})
	far.proxy.On(func(cloudtest.Request) *cloudtest.Fault {
		if left { // the old bucket was, and the new one is away now
			return &cloudtest.Fault{Status: 403, Code: "AccessDenied"}
		}
		return nil
	})
	if _, err := tr.MoveTo(t.Context(), far.b, nil); err == nil || !left {
		t.Fatalf("it moves: %v, left: %v", err, left)
	}
	mustBackup(t, tr, "vm/100/2024-01-03T03:04:05Z", image(2, 2*chunkSize))
	offload(t, tr, OffloadOptions{})
	if o, err := tr.Owner(t.Context()); err != nil || o.Node != "home" {
		t.Errorf("the old bucket is owned by %q, %v", o.Node, err)
	}
}

// A store that was moved to its own bucket, which is called otherwise there, left it
// for good and arrived nowhere.
func TestAMoveToTheSameBucket(t *testing.T) {
	s, far := newSite(t), newSite(t)
	cfg := s.config("home")
	s.create(cfg, true)
	tr, _ := s.open(cfg)
	mustBackup(t, tr, "vm/100/2024-01-02T03:04:05Z", image(1, 2*chunkSize))
	offload(t, tr, OffloadOptions{})
	for _, url := range []string{cloudtest.Front(t, s.server).URL, strings.Replace(s.proxy.URL, "127.0.0.1", "localhost", 1)} {
		own := cloudtest.Open(t, url)
		_, look := tr.Migration(t.Context(), own)
		_, copying := tr.CopyTo(t.Context(), own, nil)
		_, moving := tr.MoveTo(t.Context(), own, nil)
		for what, err := range map[string]error{"a plan": look, "a copy": copying, "a move": moving} {
			if err == nil || !strings.Contains(err.Error(), "by another name") {
				t.Errorf("%s to %s: %v", what, url, err)
			}
		}
	}
	offload(t, tr, OffloadOptions{}) // it is ours still
	for range 2 {
		if _, err := tr.CopyTo(t.Context(), far.b, nil); err != nil {
			t.Errorf("a copy to another bucket: %v", err)
		}
	}
}
