package stores_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// A datastore that cannot be opened is reported and stops none of the others;
// when it can be, it is opened.
func TestOneThatCannotBeOpened(t *testing.T) {
	w := storestest.New(t, "good")
	must(t, w.Settings.Update(t.Context(), func(s *settings.State) error {
		s.Datastores = append(s.Datastores, settings.Datastore{Name: "gone", Path: storestest.Dir + "gone"})
		return nil
	}))
	must(t, w.Sync(t.Context()))
	if _, err := w.Get("good"); err != nil {
		t.Error(err)
	}
	_, err := w.Get("gone")
	if err == nil || !strings.HasPrefix(err.Error(), "datastore 'gone' is not available: ") || !errors.Is(err, identity.ErrNotStore) {
		t.Errorf("of one that is not there: %v", err)
	}
	if names := strings.Join(w.Names(), " "); names != "gone good" {
		t.Errorf("names %q", names)
	}
	for _, d := range w.Describe() {
		if (d.Err != nil) != (d.Name == "gone") {
			t.Errorf("%s is described with %v", d.Name, d.Err)
		}
	}
	_, err = identity.Init(w.FS, storestest.Dir+"gone", 0)
	must(t, err)
	must(t, w.Sync(t.Context()))
	if _, err := w.Get("gone"); err != nil {
		t.Errorf("after it was mended: %v", err)
	}
}

// The texts are those that clients match, and the status is 400.
func TestWhatCannotBeUsed(t *testing.T) {
	w := storestest.New(t, "store1")
	_, err := w.Get("nostore")
	says(t, "an unknown one", err, "no such datastore 'nostore'")
	if upgrade.StatusOf(err) != 400 {
		t.Errorf("status %d", upgrade.StatusOf(err))
	}
	d, err := w.Get("store1")
	must(t, err)
	for _, c := range []struct {
		m           catalog.Maintenance
		read, write string
	}{
		{catalog.Maintenance{}, "", ""},
		{catalog.Maintenance{Mode: catalog.ReadOnly, Message: "moving"}, "", "datastore 'store1' is in read-only maintenance mode: moving"},
		{catalog.Maintenance{Mode: catalog.Offline}, "datastore 'store1' is in offline maintenance mode", "datastore 'store1' is in offline maintenance mode"},
	} {
		must(t, d.SetSettings(catalog.Settings{Maintenance: c.m}))
		for _, write := range []bool{false, true} {
			want := c.read
			if write {
				want = c.write
			}
			_, done, err := w.Use("store1", write)
			says(t, string(c.m.Mode), err, want)
			if err == nil {
				done()
			}
		}
	}
}

// Work is counted while it goes on, and a reader of the catalog is work.
func TestActive(t *testing.T) {
	w := storestest.New(t, "store1")
	backup(t, w, "store1", "", "vm/100/2024-01-02T03:04:05Z")
	d, err := w.Get("store1")
	must(t, err)
	is := func(read, write int) {
		t.Helper()
		if r, x, err := w.Active("store1"); r != read || x != write || err != nil {
			t.Errorf("%d readers, %d writers, %v; want %d and %d", r, x, err, read, write)
		}
	}
	is(0, 0)
	_, done, err := w.Use("store1", true)
	must(t, err)
	is(0, 1)
	r, err := d.OpenSnapshot(t.Context(), "", snapshot(t, "vm/100/2024-01-02T03:04:05Z"))
	must(t, err)
	is(1, 1)
	b, err := d.Begin(t.Context(), "", snapshot(t, "vm/100/2025-01-02T03:04:05Z"), "alice@pbs")
	must(t, err)
	is(1, 2)
	done()
	done()
	r.Close()
	r.Close()
	must(t, b.Abort())
	is(0, 0)
	if _, err := d.Begin(t.Context(), "", snapshot(t, "vm/100/2023-01-02T03:04:05Z"), "alice@pbs"); err == nil {
		t.Error("a backup went back in time")
	}
	is(0, 0)
}

// counter counts how often the disk was asked how full it is.
type counter struct {
	disk.FS
	asked int
}

func (c *counter) Space(name string) (disk.Space, error) {
	if c.asked++; c.asked > 1000 {
		return disk.Space{}, errors.New("asked too often")
	}
	return disk.Space{TotalBytes: 100, FreeBytes: 40}, nil
}

func TestRoomIsAskedOnceASecond(t *testing.T) {
	c := &counter{FS: disktest.Plain(disktest.NewMem())}
	w := storestest.NewOn(t, c, "store1")
	before := c.asked
	for range 100 {
		s, err := w.Room("store1")
		must(t, err)
		if s.FreeBytes != 40 || s.TotalBytes != 100 {
			t.Fatalf("room %+v", s)
		}
	}
	if n := c.asked - before; n > 20 { // a slow machine may take seconds for this
		t.Errorf("the disk was asked %d times", n)
	}
}

// Run follows settings that were changed behind its back; Close closes all.
func TestRun(t *testing.T) {
	w := storestest.New(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	_, err := identity.Init(w.FS, storestest.Dir+"late", 0)
	must(t, err)
	must(t, w.Settings.Update(t.Context(), func(s *settings.State) error {
		s.Datastores = append(s.Datastores, settings.Datastore{Name: "late", Path: storestest.Dir + "late"})
		return nil
	}))
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := w.Get("late"); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the new datastore is not opened")
		}
	}
	stop()
	must(t, <-done)
	if _, err = w.Get("late"); err != nil {
		t.Errorf("closed, though somebody may be at work: %v", err)
	}
	must(t, w.Close())
	_, err = w.Get("late")
	says(t, "after the end", err, "no such datastore 'late'")
	l, err := w.FS.Lock(storestest.Dir + "late/" + identity.LockFile)
	if err != nil {
		t.Fatalf("it is still open: %v", err)
	}
	l.Close()
}
