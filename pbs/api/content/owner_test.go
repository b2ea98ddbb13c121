package content

import (
	"context"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
)

// backups are alice's, her token's and bob's.
func backups(t testing.TB, w *storestest.World) {
	w.Back(t, "store1", small("alice@pbs", "host/alice/2023-11-14T22:13:20Z"))
	w.Back(t, "store1", small("alice@pbs!pve", "host/token/2023-11-14T22:13:20Z"))
	w.Back(t, "store1", small("bob@pbs", "host/bob/2023-11-14T22:13:20Z"))
	w.Back(t, "store1", small("bob@pbs", "host/bob/2023-11-15T22:13:20Z"))
}

// Whoever may not see all sees what is his, and what is his tokens'; a token
// sees nothing of its user's.
func TestListsHaveWhatOneOwns(t *testing.T) {
	w := newWorld(t)
	backups(t, w)
	for who, want := range map[string]string{
		"admin@pbs": "alice bob token", "reader@pbs": "alice bob token", "alice@pbs": "alice token", "alice@pbs!pve": "token", "bob@pbs": "bob",
	} {
		for _, list := range []string{"groups", "snapshots"} {
			_, answer := w.Ask(who, "GET", "/admin/datastore/store1/"+list, "", "")
			var got []string
			for _, id := range []string{"alice", "bob", "token"} {
				if strings.Contains(answer, `"backup-id":"`+id+`"`) {
					got = append(got, id)
				}
			}
			if text := strings.Join(got, " "); text != want {
				t.Errorf("%s sees %s of %q, want %q", who, list, text, want)
			}
		}
	}
	wants(t, w, "alice@pbs", "GET", "status?verbose=1", "", 200, `"host":{"groups":2,"snapshots":2}`)
	wants(t, w, "bob@pbs", "GET", "status?verbose=1", "", 200, `"host":{"groups":1,"snapshots":2}`)
	wants(t, w, "nobody@pbs", "GET", "snapshots", "", 403, "missing Datastore.Audit|Datastore.Backup on /datastore/store1")
}

func TestFilters(t *testing.T) {
	w := newWorld(t)
	backups(t, w)
	w.Back(t, "store1", small("bob@pbs", "vm/bob/2023-11-14T22:13:20Z"))
	for query, want := range map[string]int{
		"": 5, "?backup-type=host": 4, "?backup-type=vm": 1, "?backup-type=ct": 0, "?backup-id=bob": 3, "?backup-type=vm&backup-id=bob": 1, "?backup-id=none": 0, "?ns=": 5,
	} {
		_, answer := w.Ask("admin@pbs", "GET", "/admin/datastore/store1/snapshots"+query, "", "")
		if n := strings.Count(answer, `"backup-time"`); n != want {
			t.Errorf("snapshots%s has %d, want %d", query, n, want)
		}
	}
}

// What one may do to what one does not own is nothing.
func TestChangesOfWhatIsNotOnesOwn(t *testing.T) {
	w := newWorld(t)
	backups(t, w)
	const s = "backup-type=host&backup-id=bob&backup-time=1700000000"
	const not = "backup owner check failed (alice@pbs != bob@pbs)"
	for _, c := range []struct{ method, target, body string }{
		{"DELETE", "snapshots?" + s, ""}, {"DELETE", "groups?backup-type=host&backup-id=bob", ""},
		{"GET", "files?" + s, ""}, {"GET", "notes?" + s, ""}, {"PUT", "notes?" + s + "&notes=x", ""}, {"GET", "protected?" + s, ""}, {"PUT", "protected?" + s + "&protected=1", ""},
		{"GET", "group-notes?backup-type=host&backup-id=bob", ""}, {"PUT", "group-notes?backup-type=host&backup-id=bob&notes=x", ""},
		{"POST", "prune", "backup-type=host&backup-id=bob&keep-last=1"}, {"POST", "verify", s}, {"GET", "download-decoded?" + s + "&file-name=etc.conf.blob", ""},
		{"GET", "catalog?" + s + "&filepath=/", ""}, {"GET", "pxar-file-download?" + s + "&filepath=" + b64("/root.pxar.didx"), ""},
	} {
		wants(t, w, "alice@pbs", c.method, c.target, c.body, 400, not)
	}
	wants(t, w, "bob@pbs", "PUT", "notes?"+s, "notes=mine", 200, "null")
	wants(t, w, "bob@pbs", "POST", "prune", "backup-type=host&backup-id=bob&keep-last=1&dry-run=1", 200, `"keep":false`)
	wants(t, w, "bob@pbs", "DELETE", "snapshots?"+s, "", 200, "null")
	wants(t, w, "bob@pbs", "DELETE", "snapshots?"+s, "", 400, `unable to open snapshot directory "/mnt/datastore/store1/host/bob/2023-11-14T22:13:20Z" for locking - ENOENT`)
}

// A prune of the whole datastore by somebody who may prune what is his leaves
// what is not.
func TestPruneDatastorePrunesOnesOwn(t *testing.T) {
	w := newWorld(t)
	for _, day := range []string{"14", "15"} {
		w.Back(t, "store1", small("alice@pbs", "host/alice/2023-11-"+day+"T22:13:20Z"))
		w.Back(t, "store1", small("bob@pbs", "host/bob/2023-11-"+day+"T22:13:20Z"))
	}
	wait(t, w, wants(t, w, "alice@pbs", "POST", "prune-datastore", "keep-last=1", 200, ":prune:store1"))
	_, answer := w.Ask("admin@pbs", "GET", "/admin/datastore/store1/groups", "", "")
	if !strings.Contains(answer, `"backup-id":"alice","last-backup":1700086400,"backup-count":1`) || !strings.Contains(answer, `"backup-id":"bob","last-backup":1700086400,"backup-count":2`) {
		t.Errorf("groups are %s", answer)
	}
}

func TestGroups(t *testing.T) {
	w := newWorld(t)
	backups(t, w)
	const g = "backup-type=host&backup-id=bob"
	wants(t, w, "admin@pbs", "PUT", "group-notes", g+"&notes=first%0Asecond", 200, "null")
	wants(t, w, "admin@pbs", "GET", "group-notes?"+g, "", 200, `{"data":"first\nsecond"}`)
	wants(t, w, "admin@pbs", "GET", "groups", "", 200, `"comment":"first"}`)
	wants(t, w, "admin@pbs", "PUT", "protected", g+"&backup-time=1700000000&protected=1", 200, "null")
	wants(t, w, "admin@pbs", "DELETE", "groups?"+g+"&error-on-protected=false", "", 200, `{"data":{"removed-groups":0,"protected-snapshots":1,"removed-snapshots":1}}`)
	wants(t, w, "admin@pbs", "DELETE", "groups?"+g, "", 400, "group only partially deleted due to protected snapshots")
	wants(t, w, "admin@pbs", "PUT", "protected", g+"&backup-time=1700000000&protected=0", 200, "null")
	wants(t, w, "admin@pbs", "DELETE", "groups?"+g, "", 200, `{"data":{"removed-groups":1,"protected-snapshots":0,"removed-snapshots":1}}`)
	wants(t, w, "admin@pbs", "DELETE", "groups?"+g, "", 400, "ENOENT: No such file or directory")
}

func TestNamespacesOfGroups(t *testing.T) {
	w := newWorld(t)
	w.AddUser(t, "tenant@pbs", "/datastore/store1/a DatastoreAdmin")
	for _, name := range []string{"a", "b"} {
		wants(t, w, "admin@pbs", "POST", "namespace", "name="+name, 200, `"`+name+`"`)
	}
	wants(t, w, "tenant@pbs", "POST", "namespace", "name=x&parent=a", 200, `"a/x"`)
	wants(t, w, "tenant@pbs", "POST", "namespace", "name=x", 403, "missing Datastore.Modify on /datastore/store1")
	wants(t, w, "tenant@pbs", "GET", "namespace", "", 200, `{"data":[{"ns":"a"},{"ns":"a/x"}]}`)
	wants(t, w, "tenant@pbs", "GET", "namespace?max-depth=0", "", 403, "permission check failed")
	wants(t, w, "tenant@pbs", "GET", "status", "", 200, `"total":0`)
	wants(t, w, "tenant@pbs", "GET", "snapshots", "", 403, "permission check failed - missing")
	b := small("tenant@pbs", "host/t/2023-11-14T22:13:20Z")
	b.Namespace = "a/x"
	w.Back(t, "store1", b)
	wants(t, w, "tenant@pbs", "DELETE", "namespace?ns=a/x", "", 400, "only partially deleted due to existing groups but `delete-groups` not true ")
	wants(t, w, "tenant@pbs", "PUT", "protected", "ns=a/x&backup-type=host&backup-id=t&backup-time=1700000000&protected=1", 200, "null")
	wants(t, w, "tenant@pbs", "DELETE", "namespace?ns=a/x&delete-groups=1", "", 400, "group only partially deleted due to protected snapshots")
	wants(t, w, "tenant@pbs", "DELETE", "namespace?ns=a/x&delete-groups=1&error-on-protected=0", "", 200, `{"removed-groups":0,"protected-snapshots":1,"removed-snapshots":0}`)
	wants(t, w, "tenant@pbs", "PUT", "protected", "ns=a/x&backup-type=host&backup-id=t&backup-time=1700000000&protected=0", 200, "null")
	wants(t, w, "tenant@pbs", "DELETE", "namespace?ns=a/x&delete-groups=1&error-on-protected=0", "", 200, `{"removed-groups":1,"protected-snapshots":0,"removed-snapshots":1}`)
	wants(t, w, "admin@pbs", "DELETE", "namespace?ns=", "", 400, "cannot delete root namespace!")
}

func TestOwnersThatUsersMayGive(t *testing.T) {
	for _, c := range []struct {
		who, owner, next string
		want             bool
	}{
		{"alice@pbs", "alice@pbs", "alice@pbs!pve", true},
		{"alice@pbs", "alice@pbs!pve", "alice@pbs", true},
		{"alice@pbs", "alice@pbs!pve", "alice@pbs!other", true},
		{"alice@pbs", "alice@pbs", "bob@pbs", false},
		{"alice@pbs", "bob@pbs", "alice@pbs", false},
		{"alice@pbs", "alice@pbs", "alice@pbs", false},
		{"alice@pbs!pve", "alice@pbs!pve", "alice@pbs", false},
		{"alice@pbs!pve", "alice@pbs!pve", "alice@pbs!other", false},
	} {
		if got := mayGive(access.AuthID(c.who), access.AuthID(c.owner), access.AuthID(c.next)); got != c.want {
			t.Errorf("%s may give what is %s's to %s: %v, want %v", c.who, c.owner, c.next, got, c.want)
		}
	}
}

// In maintenance nothing is changed, and offline nothing is read either, not
// even from the directories, which needs no lock.
func TestMaintenance(t *testing.T) {
	w := newWorld(t)
	backups(t, w)
	d, err := w.Get("store1")
	must(t, err)
	const s = "backup-type=host&backup-id=bob&backup-time=1700000000"
	const ro, off = "datastore 'store1' is in read-only maintenance mode: later", "datastore 'store1' is in offline maintenance mode: later"
	must(t, d.SetSettings(catalog.Settings{Maintenance: catalog.Maintenance{Mode: catalog.ReadOnly, Message: "later"}}))
	wants(t, w, "admin@pbs", "GET", "snapshots", "", 200, "bob")
	wants(t, w, "admin@pbs", "DELETE", "snapshots?"+s, "", 400, ro)
	wants(t, w, "admin@pbs", "POST", "gc", "", 400, ro)
	must(t, d.SetSettings(catalog.Settings{Maintenance: catalog.Maintenance{Mode: catalog.Offline, Message: "later"}}))
	for _, target := range []string{"snapshots", "groups", "status", "namespace", "files?" + s, "notes?" + s, "download?" + s + "&file-name=etc.conf.blob"} {
		wants(t, w, "admin@pbs", "GET", target, "", 400, off)
	}
	if _, answer := w.Ask("admin@pbs", "GET", "/admin/datastore", "", ""); !strings.Contains(answer, `"maintenance":"offline,message=later"`) {
		t.Errorf("the list is %s", answer)
	}
}

// Lists, changes, prunes, collections and verifications at the same time are
// answered, and the datastore is whole afterwards.
func TestAllAtOnce(t *testing.T) {
	w := newWorld(t)
	for day := int64(1); day < 12; day++ {
		w.Back(t, "store1", small("alice@pbs", "host/alice/"+naming.FormatTime(1700000000+86400*day)))
	}
	work, _ := errgroup.WithContext(context.Background())
	for _, c := range []struct{ who, method, target, body string }{
		{"admin@pbs", "GET", "snapshots", ""}, {"alice@pbs", "GET", "groups", ""}, {"bob@pbs", "GET", "status?verbose=1", ""},
		{"alice@pbs", "PUT", "notes", "backup-type=host&backup-id=alice&backup-time=1700950400&notes=x"},
		{"admin@pbs", "POST", "gc", ""}, {"admin@pbs", "POST", "verify", "ignore-verified=0"}, {"admin@pbs", "GET", "active-operations", ""},
		{"alice@pbs", "POST", "prune", "backup-type=host&backup-id=alice&keep-last=3"},
		{"admin@pbs", "POST", "change-owner", "backup-type=host&backup-id=alice&new-owner=alice@pbs"},
	} {
		work.Go(func() error {
			for range 8 {
				status, answer := w.Ask(c.who, c.method, "/admin/datastore/store1/"+c.target, storestest.Form, c.body)
				if status != 200 && !strings.Contains(answer, "already running") && !strings.Contains(answer, "prune") {
					t.Errorf("%s %s: %d %s", c.method, c.target, status, answer)
				}
			}
			return nil
		})
	}
	must(t, work.Wait())
	wait(t, w, wants(t, w, "admin@pbs", "POST", "verify", "ignore-verified=0", 200, "UPID"))
	wants(t, w, "alice@pbs", "GET", "snapshots", "", 200, `"verification":{"state":"ok"`)
}
