package sync_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
)

// What a push takes: of the remote, to see it and to back up there, and to prune there
// if it removes what vanished; here, to read what it pushes, or to own it (features
// rows 75 to 77).
func TestPushPrivileges(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t)
	if err := w.Settings.Update(t.Context(), func(s *settings.State) error {
		s.Remotes = []settings.Remote{{Name: "office", Host: "pbs.example.org", AuthID: "push@pbs"}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	const audit, backup, prune = "/remote/office RemoteAudit,", "/remote/office/main/home RemoteSyncPushOperator,", "/remote/office/main/home RemoteDatastorePowerUser,"
	for name, grants := range map[string]string{
		"none":     "",
		"far":      audit + backup,
		"near":     "/datastore/main DatastoreReader,",
		"blind":    backup + "/datastore/main DatastoreReader,", // does not see the remote
		"reader":   audit + backup + "/datastore/main DatastoreReader,",
		"owner":    audit + backup + "/datastore/main DatastoreBackup,",
		"pruner":   audit + prune + "/datastore/main DatastoreReader,",
		"another":  audit + "/remote/office/main/other RemoteSyncPushOperator,/datastore/main DatastoreReader,",
		"modifies": audit + prune + "/datastore/main DatastoreAdmin,",
	} {
		var list []string
		for g := range strings.SplitSeq(strings.Trim(grants, ","), ",") {
			if g != "" {
				list = append(list, g)
			}
		}
		w.AddUser(t, access.AuthID(name+"@pbs"), list...)
	}
	for i, tt := range []struct{ what, job, may string }{
		{"what is one's own", "&owner=SELF", "reader owner pruner modifies"},
		{"what is root's", "", "modifies"},
		{"what is somebody else's", "&owner=none@pbs", "modifies"},
		{"removing what vanished", "&owner=SELF&remove-vanished=1", "pruner modifies"},
		{"to another namespace", "&owner=SELF&remote-ns=other", "another"},
	} {
		for _, who := range strings.Fields("none far near blind reader owner pruner another modifies") {
			may := strings.Contains(" "+tt.may+" ", " "+who+" ")
			id, q := fmt.Sprintf("%s-%d", who, i), "store=main&remote=office&remote-store=main&sync-direction=push"+strings.ReplaceAll(tt.job, "SELF", who+"@pbs")
			if !strings.Contains(q, "remote-ns") {
				q += "&remote-ns=home"
			}
			if status, body := w.Ask(who+"@pbs", "POST", "/config/sync", storestest.Form, "id="+id+"&"+q); (status == 200) != may || !may && status != 403 {
				t.Errorf("%s pushes %s: %d %s", who, tt.what, status, body)
			}
			if status, body := w.Ask("admin@pbs", "POST", "/config/sync", storestest.Form, "id=x"+id+"&"+q); status != 200 {
				t.Fatalf("%d %s", status, body)
			}
			before := len(r.started)
			if status, body := w.Ask(who+"@pbs", "POST", "/admin/sync/x"+id+"/run", "", ""); (status == 200) != may || !may && len(r.started) > before {
				t.Errorf("%s runs a push of %s: %d %s", who, tt.what, status, body)
			}
		}
	}
}
