package tier

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/identity"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
)

// content is every file of a server's bucket, as it lies on the disk.
func (s *site) content() map[string]string {
	s.t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(s.server.Dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		all[name] = string(b)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}

// A fork is a store that was copied to another bucket, of which another node became the
// owner there.
type fork struct {
	s, far      *site
	mine, other *Tier
}

func newFork(t *testing.T) *fork {
	t.Helper()
	f := &fork{s: newSite(t), far: newSite(t)}
	cfg := f.s.config("home")
	recovery := f.s.create(cfg, true)
	f.mine, _ = f.s.open(cfg)
	f.backup(f.mine, "vm/100/2024-01-02T03:04:05Z", 1)
	if _, err := f.mine.CopyTo(t.Context(), f.far.b, nil); err != nil {
		t.Fatal(err)
	}
	theirs := f.far.config("other")
	if err := Attach(t.Context(), theirs, recovery, true); err != nil {
		t.Fatal(err)
	}
	f.other, _ = f.far.open(theirs)
	return f
}

func (f *fork) backup(tr *Tier, text string, seed uint64) {
	f.s.t.Helper()
	mustBackup(f.s.t, tr, text, image(seed, 4*chunkSize))
	offload(f.s.t, tr, OffloadOptions{})
}

// expire ends the lease of the owner in the other bucket.
func (f *fork) expire() {
	f.s.t.Helper()
	id := f.mine.state.Store
	p := part(f.far.b, id)
	o, etag, err := identity.ReadOwner(f.s.t.Context(), p, id)
	if err == nil {
		o.Until = time.Now().Add(-time.Hour).UTC()
		_, err = identity.WriteOwner(f.s.t.Context(), p, o, etag)
	}
	if err != nil {
		f.s.t.Fatal(err)
	}
}

// refused wants a plan, a copy and a move to be refused, and nothing to be written.
func (f *fork) refused(word string) {
	t := f.s.t
	t.Helper()
	before := f.far.content()
	_, plan := f.mine.Migration(t.Context(), f.far.b)
	_, copying := f.mine.CopyTo(t.Context(), f.far.b, nil)
	_, moving := f.mine.MoveTo(t.Context(), f.far.b, nil)
	for what, err := range map[string]error{"plan": plan, "copy": copying, "move": moving} {
		var hinted interface{ Hint() string }
		if err == nil || !strings.Contains(err.Error(), word) || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "--prefix") {
			t.Errorf("%s into a bucket that another node owns: %v", what, err)
		}
	}
	if !maps.Equal(before, f.far.content()) {
		t.Error("something was written into the bucket of another node")
	}
}

// A move to a copy that another node had taken over made itself its owner, with the same
// epoch: it adopted the other's newest root, and its own newest snapshots lost their
// chunks. It is refused while the other's lease runs, and for good if that has written.
func TestAMoveToWhatAnotherNodeOwns(t *testing.T) {
	f := newFork(t)
	f.refused("belongs to node other until ")
	f.backup(f.other, "vm/200/2024-01-02T03:04:05Z", 2)
	f.backup(f.mine, "vm/100/2024-01-03T03:04:05Z", 3)
	f.refused("belongs to node other until ")
	f.expire()
	f.refused("was written to since it was copied, last by node other")
	f.backup(f.mine, "vm/100/2024-01-04T03:04:05Z", 4) // here, too, with the number that is taken there
	f.refused("was written to since it was copied")
	for seed, text := range map[uint64]string{1: "vm/100/2024-01-02T03:04:05Z", 3: "vm/100/2024-01-03T03:04:05Z", 4: "vm/100/2024-01-04T03:04:05Z"} {
		wantImage(t, f.mine, text, image(seed, 4*chunkSize))
	}
	wantImage(t, f.other, "vm/200/2024-01-02T03:04:05Z", image(2, 4*chunkSize))
}

// Who only tried, and whose lease has ended, keeps nobody out; the epoch is above its own,
// so that it finds out.
func TestAMoveToWhereSomebodyTried(t *testing.T) {
	f := newFork(t)
	f.expire()
	was, err := f.other.Owner(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.mine.MoveTo(t.Context(), f.far.b, nil); err != nil {
		t.Fatal(err)
	}
	is, err := f.other.Owner(t.Context())
	if err != nil || is.Node != "home" || is.Epoch <= was.Epoch {
		t.Errorf("owner %+v after %+v, %v", is, was, err)
	}
	mustBackup(t, f.other, "vm/200/2024-01-02T03:04:05Z", image(2, 4*chunkSize))
	if _, err := f.other.Offload(t.Context(), OffloadOptions{}); err == nil {
		t.Error("two nodes write to the bucket")
	}
}

// Somebody who becomes the owner while the store is copied, or writes a root at the moment
// of the switch, is not written over.
func TestSomebodyComesWhileAStoreMoves(t *testing.T) {
	for _, when := range []string{"copy", "switch", "root"} {
		f := newFork(t)
		f.expire()
		id := f.mine.state.Store
		direct := part(cloudtest.Open(t, f.far.server.URL), id)
		came := false
		f.far.proxy.On(func(r cloudtest.Request) *cloudtest.Fault {
			if came || r.Class != "put" || strings.Contains(r.Key, "probe/") {
				return nil
			}
			var err error
			switch owner := strings.HasSuffix(r.Key, "/owner"); {
			case when == "copy" && strings.Contains(r.Key, "/p/"), when == "switch" && owner:
				came = true
				o, etag, rerr := identity.ReadOwner(t.Context(), direct, id)
				o.Epoch, o.Node, o.Until = o.Epoch+1, "third", time.Now().Add(time.Hour).UTC()
				_, err = identity.WriteOwner(t.Context(), direct, o, etag)
				err = errors.Join(rerr, err)
			case when == "root" && owner:
				came = true
				_, err = direct.PutBytes(t.Context(), layout.RootKey(layout.Seq{Epoch: 9, N: 99}), []byte("root"), bucket.PutOption{})
			}
			if err != nil {
				t.Error(err)
			}
			return nil
		})
		f.backup(f.mine, "vm/100/2024-01-03T03:04:05Z", 3) // so that there is something to copy
		if _, err := f.mine.MoveTo(t.Context(), f.far.b, nil); err == nil || !came {
			t.Errorf("%s: came %t, %v", when, came, err)
		}
		if o, _, err := identity.ReadOwner(t.Context(), direct, id); err != nil || o.Node == "home" {
			t.Errorf("%s: the owner is %+v, %v", when, o, err)
		}
		f.backup(f.mine, "vm/100/2024-01-04T03:04:05Z", 4) // at its old home
		wantImage(t, f.mine, "vm/100/2024-01-03T03:04:05Z", image(3, 4*chunkSize))
	}
}
