package stores_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

func create(w *storestest.World, name, dir string, reuse bool) func() (jobs.UPID, error) {
	return func() (jobs.UPID, error) {
		return w.StartCreate(context.Background(), root, stores.Create{Datastore: settings.Datastore{Name: name, Path: dir}, Settings: catalog.Settings{Comment: "new"}, Reuse: reuse})
	}
}

func TestCreate(t *testing.T) {
	w := storestest.New(t, "store1")
	must(t, w.FS.Mkdir(storestest.Dir+"full", 0o755))
	must(t, w.FS.Mkdir(storestest.Dir+"full/x", 0o755))
	for _, c := range []struct{ what, name, dir, want string }{
		{"a new one", "new", storestest.Dir + "new", "OK"},
		{"another of that name", "new", storestest.Dir + "other", "datastore 'new' already exists."},
		{"in the directory of another", "again", storestest.Dir + "store1", "is that of datastore 'store1', or one lies within the other"},
		{"inside of another", "again", storestest.Dir + "store1/x", "is that of datastore 'store1', or one lies within the other"},
		{"around others", "again", storestest.Dir, "is that of datastore"},
		{"in a directory that is not empty", "again", storestest.Dir + "full", "not empty"},
	} {
		u, err := create(w, c.name, c.dir, false)()
		if i := ended(t, w, u, err); !strings.Contains(i.Status(), c.want) || u.Type != "create-datastore" || u.ID != c.name {
			t.Errorf("%s: %s ended with %q, want %q", c.what, u, i.Status(), c.want)
		}
	}
	d, err := w.Get("new")
	must(t, err)
	if d.Settings().Comment != "new" {
		t.Errorf("settings %+v", d.Settings())
	}
	if _, err := w.Get("again"); err == nil {
		t.Error("one that could not be made is there")
	}
	if left, err := w.FS.ReadDir(storestest.Dir + "other"); len(left) > 0 {
		t.Errorf("what the settings refused has left %v, %v", left, err)
	}
}

// Removing keeps the data, which can be taken over again; destroying them is
// something else.
func TestRemove(t *testing.T) {
	w := storestest.New(t, "store1", "store2")
	backup(t, w, "store1", "", "vm/100/2024-01-02T03:04:05Z")
	must(t, w.Settings.Update(t.Context(), func(s *settings.State) error {
		s.PruneJobs = []settings.PruneJob{{ID: "job1", Store: "store1", Schedule: "daily"}, {ID: "job2", Store: "store2", Schedule: "daily"}}
		return nil
	}))
	must(t, w.Sync(t.Context()))
	_, err := w.StartRemove(t.Context(), root, stores.Remove{Name: "nostore"})
	says(t, "an unknown one", err, "datastore 'nostore' does not exist.")

	u, err := w.StartRemove(t.Context(), root, stores.Remove{Name: "store1"})
	if i := ended(t, w, u, err); i.Status() != "OK" || u.Type != "delete-datastore" {
		t.Fatalf("%s: %s", u, i.Status())
	}
	_, err = w.Get("store1")
	says(t, "a removed one", err, "no such datastore 'store1'")
	if _, err := w.PruneSchedule("job1"); err == nil {
		t.Error("its job is left")
	}
	if _, err := w.PruneSchedule("job2"); err != nil {
		t.Errorf("the job of another: %v", err)
	}

	dir := storestest.Dir + "store1"
	u, err = create(w, "again", dir, false)()
	if i := ended(t, w, u, err); !strings.Contains(i.Status(), "reuse-datastore") {
		t.Errorf("made in its directory: %s", i.Status())
	}
	u, err = create(w, "again", dir, true)()
	if i := ended(t, w, u, err); i.Status() != "OK" {
		t.Fatalf("taken over: %s", i.Status())
	}
	d, err := w.Get("again")
	must(t, err)
	if list, err := d.List(t.Context(), catalog.ListOptions{}); err != nil || len(list) != 1 {
		t.Errorf("what is left of it: %v, %v", list, err)
	}

	must(t, d.SetGuard(catalog.Guard{MinRetention: catalog.Duration(time.Hour)}))
	u, err = w.StartRemove(t.Context(), root, stores.Remove{Name: "again", Destroy: true})
	if i := ended(t, w, u, err); !strings.Contains(i.Status(), "guard") {
		t.Errorf("destroyed though it is guarded: %s", i.Status())
	}
	must(t, d.SetGuard(catalog.Guard{}))
	must(t, w.FS.Mkdir(dir+"/mine", 0o755))
	u, err = w.StartRemove(t.Context(), root, stores.Remove{Name: "again", Destroy: true})
	if i := ended(t, w, u, err); i.Status() != "OK" {
		t.Errorf("destroyed: %s", i.Status())
	}
	left, err := w.FS.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != "mine" {
		t.Errorf("left of it: %v, %v", left, err)
	}
}

// What destroys data is agreed on at once: as a draft it was applied without the data,
// which nobody destroyed later. Data are not destroyed if it is not agreed on.
func TestDestroyIsAgreedAtOnce(t *testing.T) {
	for _, destroy := range []bool{true, false} {
		w := storestest.New(t, "store1")
		agree := &alone{Store: w.Settings}
		set, err := stores.New(stores.Config{Settings: agree, Tasks: w.Tasks, Scheduler: w.Scheduler, FS: w.FS, Node: "home"})
		must(t, err)
		must(t, errors.Join(w.Set.Close(), set.Open(t.Context())))
		w.Set = set
		u, err := w.StartRemove(t.Context(), root, stores.Remove{Name: "store1", Destroy: destroy})
		i := ended(t, w, u, err)
		if agree.atOnce != destroy || !strings.Contains(i.Status(), "no quorum") || destroy != strings.Contains(i.Status(), "the data of 'store1' are not destroyed") {
			t.Errorf("destroying %t: it ended %q, asked for at once: %t", destroy, i.Status(), agree.atOnce)
		}
		if _, err := w.FS.Stat(storestest.Dir + "store1/" + identity.File); err != nil {
			t.Errorf("its data: %v", err)
		}
		if _, err := w.Get("store1"); err != nil {
			t.Errorf("it is not there any more: %v", err)
		}
	}
}

// An alone has settings that nobody agrees to change.
type alone struct {
	settings.Store
	atOnce bool
}

func (a *alone) Update(ctx context.Context, _ func(*settings.State) error) error {
	a.atOnce = settings.IsAtOnce(ctx)
	return errors.New("no quorum")
}

// What is no datastore of ours is not destroyed, whatever its path.
func TestDestroyOnlyDatastores(t *testing.T) {
	w := storestest.New(t)
	dir := storestest.Dir + "precious"
	for _, d := range []string{"/mnt", "/mnt/datastore", dir, dir + "/vm"} {
		if err := w.FS.Mkdir(d, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
	}
	must(t, w.Settings.Update(t.Context(), func(s *settings.State) error {
		s.Datastores = append(s.Datastores, settings.Datastore{Name: "precious", Path: dir})
		return nil
	}))
	must(t, w.Sync(t.Context()))
	u, err := w.StartRemove(t.Context(), root, stores.Remove{Name: "precious", Destroy: true})
	if i := ended(t, w, u, err); !strings.Contains(i.Status(), "are not destroyed") {
		t.Errorf("it ended: %s", i.Status())
	}
	if _, err := w.FS.Stat(dir + "/vm"); err != nil {
		t.Errorf("it was removed: %v", err)
	}
	if len(w.Names()) != 1 {
		t.Error("it is forgotten though its data were to go first")
	}
}

// A datastore that is worked on is removed when that has ended, and nothing
// new begins meanwhile; whoever stops the removal has it back.
func TestRemoveWaits(t *testing.T) {
	w := storestest.New(t, "store1")
	backup(t, w, "store1", "", "vm/100/2024-01-02T03:04:05Z")
	d, err := w.Get("store1")
	must(t, err)
	r, err := d.OpenSnapshot(t.Context(), "", snapshot(t, "vm/100/2024-01-02T03:04:05Z"))
	must(t, err)
	u, err := w.StartRemove(t.Context(), root, stores.Remove{Name: "store1"})
	must(t, err)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if _, err := w.Get("store1"); err != nil {
			says(t, "while it waits", err, "datastore 'store1' is being deleted")
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the removal does not begin")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must(t, w.Tasks.Stop(ctx, u))
	if _, err := w.Get("store1"); err != nil {
		t.Errorf("after it was stopped: %v", err)
	}
	u, err = w.StartRemove(t.Context(), root, stores.Remove{Name: "store1"})
	must(t, err)
	r.Close()
	if i := ended(t, w, u, nil); i.Status() != "OK" {
		t.Errorf("it ended: %s", i.Status())
	}
}

// A datastore that has to be opened anew, and is in use, says so; the change is
// kept and no failure, and it is followed when the use has ended.
func TestOpenedAgain(t *testing.T) {
	w := storestest.New(t, "store1")
	backup(t, w, "store1", "", "vm/100/2024-01-02T03:04:05Z")
	d, err := w.Get("store1")
	must(t, err)
	r, err := d.OpenSnapshot(t.Context(), "", snapshot(t, "vm/100/2024-01-02T03:04:05Z"))
	must(t, err)
	_, err = identity.Init(w.FS, storestest.Dir+"other", 0)
	must(t, err)
	must(t, w.Update(t.Context(), "store1", "", func(d *stores.Described) error { d.Path = storestest.Dir + "other"; return nil }))
	_, err = w.Get("store1")
	says(t, "while it is in use", err, "datastore 'store1' is being opened again, try again")
	if e := (*upgrade.Error)(nil); !errors.As(err, &e) || e.Status != http.StatusServiceUnavailable {
		t.Errorf("the status of %v", err)
	}
	r.Close()
	must(t, w.Sync(t.Context()))
	if _, err = w.Get("store1"); err != nil {
		t.Error(err)
	}
}

func TestUpdate(t *testing.T) {
	w := storestest.New(t, "store1")
	digest := settings.Digest(w.Describe())
	err := w.Update(t.Context(), "store1", digest, func(d *stores.Described) error {
		d.Settings.Comment, d.GCSchedule = "hello", "daily"
		return nil
	})
	must(t, err)
	d, err := w.Get("store1")
	must(t, err)
	if s, err := w.GCSchedule("store1"); d.Settings().Comment != "hello" || err != nil || s.Event != "daily" {
		t.Errorf("settings %+v, schedule %+v, %v", d.Settings(), s, err)
	}
	err = w.Update(t.Context(), "store1", digest, func(*stores.Described) error { return nil })
	if !errors.Is(err, settings.ErrModified) {
		t.Errorf("with an old digest: %v", err)
	}
	err = w.Update(t.Context(), "nostore", "", func(*stores.Described) error { return nil })
	says(t, "an unknown one", err, "no such datastore 'nostore'")
	if _, err := identity.Read(w.FS, storestest.Dir+"store1"); err != nil {
		t.Error(err)
	}
}
