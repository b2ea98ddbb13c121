package node

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
)

// owned are the endpoints about one group or snapshot, with what they answer to
// somebody with the role DatastorePowerUser: when the group is somebody else's,
// and when it is the caller's own. Those that remove come last.
const owned = `
	GET /admin/datastore/{store}/catalog 400 200
	POST /admin/datastore/{store}/change-owner 401 401
	GET /admin/datastore/{store}/download 400 200
	GET /admin/datastore/{store}/download-decoded 400 200
	GET /admin/datastore/{store}/files 400 200
	GET /admin/datastore/{store}/group-notes 400 200
	PUT /admin/datastore/{store}/group-notes 400 200
	GET /admin/datastore/{store}/notes 400 200
	PUT /admin/datastore/{store}/notes 400 200
	GET /admin/datastore/{store}/protected 400 200
	PUT /admin/datastore/{store}/protected 400 200
	POST /admin/datastore/{store}/prune 400 200
	GET /admin/datastore/{store}/pxar-file-download 400 400
	POST /admin/datastore/{store}/upload-backup-log 400 400
	GET /backup 400 400
	GET /reader 400 400
	DELETE /admin/datastore/{store}/snapshots 400 200
	POST /holdfast/datastore/{store}/trash 403 200
	DELETE /admin/datastore/{store}/groups 400 200
`

// words are what an owner is told where the status is the same, since the
// request is not complete.
var words = map[string]string{
	"GET /admin/datastore/{store}/pxar-file-download": "name of an archive",
	"GET /backup": "older than last backup",
	"GET /reader": "take over the connection", // which this test has none of
}

// Who may back up and prune gets nothing of a group that is somebody else's, and
// all of one's own. The snapshot is there, so that nothing is refused for want
// of it.
func TestGroupsOfOthers(t *testing.T) {
	dir := t.TempDir() // removed after the node is closed
	g := newGateTest(t)
	g.store(filepath.Join(dir, "s"), storestest.Backup{
		Snapshot: "host/h/1970-01-01T00:00:01Z", Owner: "owner@pbs!tok",
		Files: []storestest.File{{Name: "a.conf.blob", Content: []byte("a")}, {Name: "b.img.fidx", Content: make([]byte, 4<<20)}},
	})
	var asked sync.WaitGroup // at once, since refusals take their time
	for name, row := range rows(owned) {
		asked.Go(func() {
			got, body := g.ask("other", name)
			if fmt.Sprint(got) != row[0] || !strings.Contains(body, "permission") && !strings.Contains(body, "owner") {
				t.Errorf("%s, of others: %d %.120s, want %s", name, got, body, row[0])
			}
		})
	}
	asked.Wait()
	for line := range strings.Lines(strings.TrimSpace(owned)) {
		f := strings.Fields(line)
		name, want := f[0]+" "+f[1], f[3]
		switch f[1] {
		case "/admin/datastore/{store}/snapshots", "/admin/datastore/{store}/groups":
			g.unprotect()
		}
		got, body := g.ask("owner", name)
		if fmt.Sprint(got) != want || got == 400 && !strings.Contains(body, words[name]) {
			t.Errorf("%s, one's own: %d %.120s, want %s", name, got, body, want)
		}
	}
}

// store makes the datastore main with one backup.
func (g *gateTest) store(dir string, b storestest.Backup) {
	g.t.Helper()
	c := stores.Create{}
	c.Name, c.Path = "main", dir
	u, err := g.n.stores.StartCreate(g.t.Context(), "root@pam", c)
	if err != nil {
		g.t.Fatal(err)
	}
	if i, err := g.n.tasks.Wait(g.t.Context(), u); err != nil || i.Status() != "OK" {
		g.t.Fatalf("%v, %v", i.Status(), err)
	}
	d, err := g.n.stores.Get("main")
	if err == nil {
		err = storestest.Make(g.t.Context(), d, b)
	}
	if err != nil {
		g.t.Fatal(err)
	}
}

// unprotect lets the snapshot be removed, which the table has protected.
func (g *gateTest) unprotect() {
	g.t.Helper()
	d, err := g.n.stores.Get("main")
	if err != nil {
		g.t.Fatal(err)
	}
	if err := d.SetProtected("", catalog.Snapshot{Group: catalog.Group{Type: naming.Host, ID: "h"}, Time: 1}, false); err != nil {
		g.t.Fatal(err)
	}
}
