package content

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
)

const snap = "backup-type=host&backup-id=web&backup-time=1700000000"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newWorld has one datastore, an administrator, and alice and bob, who each
// may back up and prune what is theirs; alice has a token.
func newWorld(t testing.TB) *storestest.World {
	w := storestest.New(t, "store1")
	w.Serve(t, Endpoints(Config{Stores: w.Set, Accounts: w.Accounts})...)
	w.AddUser(t, "admin@pbs", "/ Admin")
	w.AddUser(t, "alice@pbs", "/datastore/store1 DatastorePowerUser")
	w.AddUser(t, "alice@pbs!pve", "/datastore/store1 DatastorePowerUser")
	w.AddUser(t, "bob@pbs", "/datastore/store1 DatastorePowerUser")
	w.AddUser(t, "reader@pbs", "/datastore/store1 DatastoreReader")
	w.AddUser(t, "nobody@pbs")
	return w
}

// wants asks, and fails the test unless the answer has that status and text.
func wants(t testing.TB, w *storestest.World, who, method, target, body string, status int, text string) string {
	t.Helper()
	got, answer := w.Ask(who, method, "/admin/datastore/store1/"+target, storestest.Form, body)
	if got != status || !strings.Contains(answer, text) {
		t.Errorf("%s: %s %s %s: %d %.400s, want %d …%s…", who, method, target, body, got, answer, status, text)
	}
	return answer
}

// tree is an archive with one of most kinds of entries, and its catalog.
func tree(t testing.TB) (archive, catalog []byte) {
	t.Helper()
	var a, c bytes.Buffer
	meta := func(mode uint32) *pxar.Metadata {
		return &pxar.Metadata{Mode: mode, Mtime: pxar.Timespec{Sec: 1600000000}}
	}
	e, err := pxar.NewEncoder(&a, meta(0o40755))
	must(t, err)
	list, err := pxar.NewCatalogWriter(&c)
	must(t, err)
	must(t, list.BeginDir("root.pxar.didx"))
	file := func(name, content string) pxar.Position {
		w, at, err := e.File(name, meta(0o100640), int64(len(content)))
		must(t, err)
		_, err = w.Write([]byte(content))
		must(t, err)
		must(t, w.Close())
		must(t, list.File(name, uint64(len(content)), 1600000000))
		return at
	}
	dir := func(name string) {
		must(t, e.BeginDir(name, meta(0o40755)))
		must(t, list.BeginDir(name))
	}
	end := func() {
		must(t, e.EndDir())
		must(t, list.EndDir())
	}
	dir("etc")
	at := file("hosts", "127.0.0.1 localhost\n")
	must(t, e.Hardlink("hosts.link", "etc/hosts", at))
	must(t, list.Add("hosts.link", pxar.CatalogHardlink))
	must(t, e.Symlink("mtab", meta(0o120777), "/proc/mounts"))
	must(t, list.Add("mtab", pxar.CatalogSymlink))
	dir("ssh")
	file("big", strings.Repeat("0123456789abcdef", 100000))
	end()
	end()
	file("motd", "")
	must(t, e.Close())
	must(t, list.EndDir())
	must(t, list.Close())
	return a.Bytes(), c.Bytes()
}

// web is a backup of tree.
func web(t testing.TB, key *chunks.Key) storestest.Backup {
	t.Helper()
	archive, list := tree(t)
	return storestest.Backup{
		Snapshot: "host/web/2023-11-14T22:13:20Z", Owner: "alice@pbs", Key: key,
		Files: []storestest.File{
			{Name: "root.pxar.didx", Content: archive},
			{Name: "disk.img.fidx", Content: bytes.Repeat([]byte("image"), 2<<20)},
			{Name: "etc.conf.blob", Content: []byte("conf")},
			{Name: "catalog.pcat1.didx", Content: list},
		},
	}
}

// small is a backup of one small file.
func small(owner, snapshot string) storestest.Backup {
	return storestest.Backup{Snapshot: snapshot, Owner: owner, Files: []storestest.File{{Name: "etc.conf.blob", Content: []byte(fmt.Sprint(snapshot))}}}
}

func webSnapshot(t testing.TB) naming.Snapshot {
	t.Helper()
	s, err := naming.ParseSnapshot("host/web/2023-11-14T22:13:20Z")
	must(t, err)
	return s
}

// wait waits for the task that an answer names, and fails the test unless it
// ended well.
func wait(t testing.TB, w *storestest.World, answer string) {
	t.Helper()
	var a struct{ Data jobs.UPID }
	must(t, json.Unmarshal([]byte(answer), &a))
	i, err := w.Tasks.Wait(t.Context(), a.Data)
	must(t, err)
	if i.Status() != "OK" {
		t.Errorf("task %s ended: %s", a.Data, i.Status())
	}
}
