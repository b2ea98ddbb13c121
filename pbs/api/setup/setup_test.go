package setup_test

import (
	"encoding/json"
	locks "github.com/holdfast-mesh/holdfast/chunks/cloud/lock"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/pbs/api/setup"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
)

// wants asks, and fails the test unless the answer has that status and text.
func wants(t *testing.T, w *storestest.World, who, method, target, body string, status int, text string) string {
	t.Helper()
	got, answer := w.Ask(who, method, target, storestest.Form, body)
	if got != status || !strings.Contains(answer, text) {
		t.Errorf("%s: %s %s %s: %d %.400s, want %d …%s…", who, method, target, body, got, answer, status, text)
	}
	return answer
}

func digestOf(t *testing.T, answer string) string {
	t.Helper()
	var a struct{ Digest string }
	if err := json.Unmarshal([]byte(answer), &a); err != nil || len(a.Digest) != 64 {
		t.Fatalf("no digest in %s", answer)
	}
	return a.Digest
}

func TestDatastore(t *testing.T) {
	w := newWorld(t)
	const path = "/config/datastore/store1"
	old := digestOf(t, wants(t, w, "admin@pbs", "GET", path, "", 200, `{"name":"store1","path":"/mnt/datastore/store1"}`))
	wants(t, w, "admin@pbs", "PUT", path, "comment=hello&gc-schedule=daily&verify-new=1&tuning=chunk-order%3Dnone&notification-mode=legacy-sendmail&digest="+old, 200, "null")
	wants(t, w, "admin@pbs", "PUT", path, "tuning=chunk-order%3Dnone%2Csync-level%3Dbogus", 400, "'tuning': property 'sync-level': value 'bogus' is not defined in the enumeration.")
	wants(t, w, "admin@pbs", "GET", path, "", 200, `{"name":"store1","path":"/mnt/datastore/store1","gc-schedule":"daily","notification-mode":"legacy-sendmail","tuning":"chunk-order=none","comment":"hello","verify-new":true}`)
	wants(t, w, "admin@pbs", "PUT", path, "comment=x&digest="+old, 400, "detected modified configuration - file changed by other user? Try again.")
	wants(t, w, "admin@pbs", "PUT", path, "digest=x", 400, "'digest': value does not match the regex pattern")
	wants(t, w, "admin@pbs", "PUT", path, "delete=nope", 400, "'delete': value 'nope' is not defined in the enumeration.")
	wants(t, w, "admin@pbs", "PUT", path, "comment=a%0Ab", 400, "'comment': value does not match the regex pattern")
	wants(t, w, "admin@pbs", "GET", "/admin/gc", "", 200, `"store":"store1","schedule":"daily","next-run":`)
	wants(t, w, "admin@pbs", "PUT", path, "delete=comment&delete=gc-schedule&delete=tuning&delete=verify-new&delete=notification-mode", 200, "null")
	wants(t, w, "admin@pbs", "GET", path, "", 200, `{"name":"store1","path":"/mnt/datastore/store1"}`)

	wants(t, w, "admin@pbs", "PUT", path, "maintenance-mode=read-only,message%3D%22a,%20%5C%22b%5C%22%22", 200, "null")
	wants(t, w, "admin@pbs", "GET", path, "", 200, `"maintenance-mode":"read-only,message=\"a, \\\"b\\\"\""`)
	wants(t, w, "admin@pbs", "POST", "/admin/datastore/store1/gc", "", 400, `datastore 'store1' is in read-only maintenance mode: a, "b"`)
	wants(t, w, "admin@pbs", "PUT", path, "maintenance-mode=type%3Doffline", 200, "null")
	wants(t, w, "admin@pbs", "GET", path, "", 200, `"maintenance-mode":"offline"`)
	wants(t, w, "admin@pbs", "PUT", path, "maintenance-mode=delete", 400, "'maintenance-mode': value 'delete' is not defined in the enumeration.")
	wants(t, w, "admin@pbs", "PUT", path, "delete=maintenance-mode", 200, "null")
	wants(t, w, "audit@pbs", "PUT", path, "comment=x", 403, "permission check failed")
	wants(t, w, "admin@pbs", "PUT", "/config/datastore/nostore", "comment=x", 400, "no such datastore 'nostore'")
}

func TestDatastoreComesAndGoes(t *testing.T) {
	w := newWorld(t)
	answer := wants(t, w, "admin@pbs", "POST", "/config/datastore", "name=store9&path=/mnt/datastore/store9/&comment=new", 200, ":create-datastore:store9:admin@pbs:")
	await(t, w, answer)
	wants(t, w, "admin@pbs", "GET", "/config/datastore/store9", "", 200, `{"name":"store9","path":"/mnt/datastore/store9","comment":"new"}`)
	wants(t, w, "admin@pbs", "POST", "/config/datastore", "name=store8&path=/mnt/../etc", 400, "'path': ")
	wants(t, w, "admin@pbs", "POST", "/config/datastore", "name=store8&path=/mnt/x&backend=type%3Ds3,client%3Dc", 400, "'backend': ")
	const locked = "name=store8&path=/mnt/x&backend=type%3Ds3,client%3Dc,bucket%3Db,object-lock%3Dcompliance:90d"
	wants(t, w, "admin@pbs", "POST", "/config/datastore", locked, 400, "'confirm-compliance': nobody can delete what is written then, for 90 days")
	wants(t, w, "admin@pbs", "POST", "/config/datastore", locked+"&confirm-compliance=store9", 400, "'confirm-compliance': ")
	wants(t, w, "admin@pbs", "POST", "/config/datastore", locked+"&confirm-compliance=store8", 400, "no such s3 client 'c'")
	wants(t, w, "admin@pbs", "POST", "/config/prune", "id=job1&store=store9&schedule=daily", 200, "null")
	await(t, w, wants(t, w, "admin@pbs", "DELETE", "/config/datastore/store9", "", 200, ":delete-datastore:store9:"))
	wants(t, w, "admin@pbs", "GET", "/config/datastore/store9", "", 400, "no such datastore 'store9'")
	wants(t, w, "admin@pbs", "GET", "/config/prune", "", 200, `"data":[]`)
	await(t, w, wants(t, w, "admin@pbs", "POST", "/config/datastore", "name=store7&path=/mnt/datastore/store9&reuse-datastore=1", 200, "UPID"))
	wants(t, w, "admin@pbs", "GET", "/config/datastore/store7", "", 200, `"comment":"new"`)
}

func TestPruneJob(t *testing.T) {
	w := newWorld(t)
	wants(t, w, "admin@pbs", "POST", "/config/prune", "id=job1&store=store1&schedule=daily&keep-last=3&max-depth=1&comment=c", 200, "null")
	wants(t, w, "admin@pbs", "POST", "/config/prune", "id=job1&store=store1&schedule=daily", 400, "'id': job 'job1' already exists.")
	wants(t, w, "admin@pbs", "POST", "/config/prune", "id=job2&store=nostore&schedule=daily", 400, "no such datastore 'nostore'")
	wants(t, w, "admin@pbs", "POST", "/config/prune", "id=job2", 400, "'schedule': parameter is missing and it is not optional.")
	wants(t, w, "audit@pbs", "POST", "/config/prune", "id=job2&store=store1&schedule=daily", 403, "permission check failed - missing Datastore.Modify on /datastore/store1")
	old := digestOf(t, wants(t, w, "admin@pbs", "GET", "/config/prune/job1", "", 200, `"data":{"id":"job1","store":"store1","max-depth":1,"schedule":"daily","comment":"c","keep-last":3}`))
	wants(t, w, "admin@pbs", "PUT", "/config/prune/job1", "store=nostore", 400, "no such datastore 'nostore'")
	wants(t, w, "audit@pbs", "PUT", "/config/prune/job1", "keep-last=1", 403, "missing Datastore.Modify on /datastore/store1")
	wants(t, w, "noacc@pbs", "GET", "/config/prune/job1", "", 403, "missing Datastore.Audit|Datastore.Modify on /datastore/store1")
	wants(t, w, "admin@pbs", "PUT", "/config/prune/job1", "keep-daily=7&delete=keep-last&delete=max-depth&digest="+old, 200, "null")
	wants(t, w, "admin@pbs", "PUT", "/config/prune/job1", "keep-daily=8&digest="+old, 400, "detected modified configuration")
	wants(t, w, "admin@pbs", "GET", "/config/prune/job1", "", 200, `"schedule":"daily","comment":"c","keep-daily":7}`)
	w.Back(t, "store1", small("", "host/x", t0, "admin@pbs"))
	await(t, w, wants(t, w, "admin@pbs", "POST", "/admin/prune/job1/run", "", 200, ":prunejob:store1:admin@pbs:"))
	// The schedule hears of the end a moment after those who wait for the task.
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(time.Millisecond) {
		if _, answer := w.Ask("audit@pbs", "GET", "/admin/prune?store=store1", storestest.Form, ""); strings.Contains(answer, `"last-run-endtime":`) {
			break
		}
	}
	status := wants(t, w, "audit@pbs", "GET", "/admin/prune?store=store1", "", 200, `"last-run-state":"OK"`)
	for _, want := range []string{`"next-run":`, `"last-run-upid":"UPID:`, `"last-run-endtime":`} {
		if !strings.Contains(status, want) {
			t.Errorf("%s lacks %s", status, want)
		}
	}
	wants(t, w, "admin@pbs", "GET", "/admin/prune?store=src", "", 200, `"data":[]`)
	wants(t, w, "audit@pbs", "POST", "/admin/prune/job1/run", "", 403, "missing Datastore.Modify")
	wants(t, w, "admin@pbs", "POST", "/admin/prune/nojob/run", "", 400, "no such prune 'nojob'")
	wants(t, w, "admin@pbs", "DELETE", "/config/prune/job1", "", 200, "null")
	wants(t, w, "admin@pbs", "GET", "/config/prune/job1", "", 400, "no such prune 'job1'")
	wants(t, w, "admin@pbs", "POST", "/admin/prune/job1/run", "", 400, "no such prune 'job1'")
}

func TestVerifyJob(t *testing.T) {
	w := newWorld(t)
	wants(t, w, "admin@pbs", "POST", "/config/verify", "id=job1&store=store1&schedule=weekly&ignore-verified=0&outdated-after=7&ns=a", 200, "null")
	wants(t, w, "admin@pbs", "GET", "/config/verify/job1", "", 200, `"data":{"id":"job1","store":"store1","ns":"a","schedule":"weekly","ignore-verified":false,"outdated-after":7}`)
	wants(t, w, "admin@pbs", "PUT", "/config/verify/job1", "delete=ns&delete=outdated-after&verify-threads=2", 200, "null")
	wants(t, w, "admin@pbs", "GET", "/config/verify/job1", "", 200, `"data":{"id":"job1","store":"store1","schedule":"weekly","ignore-verified":false,"verify-threads":2}`)
	wants(t, w, "admin@pbs", "PUT", "/config/verify/job1", "delete=store", 400, "'delete': value 'store' is not defined in the enumeration.")
	w.Back(t, "store1", small("", "host/x", t0, "admin@pbs"))
	await(t, w, wants(t, w, "reader@pbs", "POST", "/admin/verify/job1/run", "", 200, `:verificationjob:store1\\x3ajob1:reader@pbs:`))
	wants(t, w, "reader@pbs", "GET", "/admin/verify", "", 200, `"last-run-state":"OK"`)
	wants(t, w, "backup@pbs", "POST", "/admin/verify/job1/run", "", 403, "missing Datastore.Verify on /datastore/store1")
	wants(t, w, "admin@pbs", "DELETE", "/config/verify/job1", "", 200, "null")
	wants(t, w, "admin@pbs", "GET", "/admin/verify", "", 200, `"data":[]`)
}

// What is not offered says so, and nothing that is offered is among it.
func TestAbsent(t *testing.T) {
	w := newWorld(t)
	endpoints := w.Router.Endpoints()
	for path, sentence := range setup.Absent() {
		if slices.ContainsFunc(endpoints, func(e rest.Endpoint) bool { return strings.HasPrefix(e.Path+"/", path+"/") }) || len(sentence) < 20 {
			t.Errorf("%s is absent (%q) and there", path, sentence)
		}
	}
}

// A lock that nobody can undo is confirmed by name when it is set later, and when it
// is made longer, as when the datastore is made; other locks are not.
func TestComplianceIsConfirmedAtAChange(t *testing.T) {
	w := newWorld(t)
	lock := func() string {
		d, _ := w.Settings.State().Datastore("store1")
		return d.Backend.Lock.String()
	}
	set := func(text string) {
		p, err := locks.Parse(text)
		if err == nil {
			err = w.Settings.Update(t.Context(), func(s *settings.State) error {
				for i := range s.Datastores {
					if !s.Datastores[i].Backend.IsZero() {
						s.Datastores[i].Backend.Lock = p
					}
				}
				return nil
			})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	const tried = "no S3 clients"
	err := w.Settings.Update(t.Context(), func(s *settings.State) error {
		s.S3Clients = append(s.S3Clients, settings.S3Client{ID: "c", Endpoint: "127.0.0.1:1", AccessKey: "k"})
		for i := range s.Datastores {
			if s.Datastores[i].Name == "store1" {
				s.Datastores[i].Backend = settings.Backend{Client: "c", Bucket: "b"}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	const path = "/config/datastore/store1"
	for _, days := range []string{"30d", "90d"} {
		before := lock()
		for _, wrong := range []string{"", "&confirm-compliance=store9", "&confirm-compliance="} {
			if wants(t, w, "admin@pbs", "PUT", path, "object-lock=compliance:"+days+wrong, 400, "'confirm-compliance'"); lock() != before {
				t.Fatalf("the lock is %s, and nobody confirmed it", lock())
			}
		}
		// It was confirmed, and so it is tried: what cannot be tried is not set up.
		if wants(t, w, "admin@pbs", "PUT", path, "object-lock=compliance:"+days+"&confirm-compliance=store1", 400, tried); lock() != before {
			t.Fatalf("the lock is %s, and nobody tried it", lock())
		}
		set("compliance:" + days)
	}
	wants(t, w, "admin@pbs", "PUT", path, "object-lock=governance:7d", 400, tried)
}
