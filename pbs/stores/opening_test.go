package stores_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// A hanging is two datastores, one on a disk that hangs until it is released.
type hanging struct {
	*stores.Set
	w       *storestest.World
	release func()
}

func newHanging(t *testing.T) *hanging {
	t.Helper()
	h := &hanging{w: storestest.New(t)}
	mem := disktest.NewMem()
	mem.Disable(disk.Abilities{Direct: true})
	for _, name := range []string{"good", "slow"} {
		_, err := identity.Init(mem, storestest.Dir+name, 0)
		must(t, err)
		must(t, h.w.Settings.Update(t.Context(), func(s *settings.State) error {
			s.Datastores = append(s.Datastores, settings.Datastore{Name: name, Path: storestest.Dir + name})
			return nil
		}))
	}
	hangs, release := context.WithCancel(context.Background())
	h.release = release
	t.Cleanup(release)
	mem.SetHook(func(op disktest.Op) error {
		if strings.HasPrefix(op.Name, storestest.Dir+"slow") {
			<-hangs.Done()
		}
		return nil
	})
	var err error
	h.Set, err = stores.New(stores.Config{
		Settings: h.w.Settings, Tasks: h.w.Tasks, Scheduler: h.w.Scheduler, FS: mem, Patience: time.Millisecond,
	})
	must(t, err)
	return h
}

// opened waits until a datastore can be used.
func (h *hanging) opened(t *testing.T, name string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		_, err := h.Get(name)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// One whose disk hangs holds up neither the start nor the others, says what is
// the matter, and is there when the disk is.
func TestOneThatHangs(t *testing.T) {
	h := newHanging(t)
	must(t, h.Open(t.Context()))
	h.opened(t, "good")
	_, err := h.Get("slow")
	says(t, "the one that hangs", err, "datastore 'slow' is not available: it is being opened: try again in a moment, the log says when it is ready")
	if upgrade.StatusOf(err) != 503 {
		t.Errorf("status %d, want one that says to try again", upgrade.StatusOf(err))
	}
	must(t, h.Sync(t.Context())) // which does not open it twice, nor wait
	h.release()
	h.opened(t, "slow")
	must(t, h.Close())
}

// One that was taken out of the settings while it was being opened is closed
// again.
func TestOneThatHangsIsRemoved(t *testing.T) {
	h := newHanging(t)
	must(t, h.Open(t.Context()))
	must(t, h.w.Settings.Update(t.Context(), func(s *settings.State) error {
		s.Datastores = s.Datastores[:1]
		return nil
	}))
	must(t, h.Sync(t.Context()))
	_, err := h.Get("slow")
	says(t, "after its removal", err, "no such datastore 'slow'")
	h.release()
	h.opened(t, "good")
	must(t, h.Close())
	_, err = h.Get("slow")
	says(t, "at the end", err, "no such datastore 'slow'")
}
