package stores_test

import (
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/lock"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
)

// A datastore is copied into another bucket while its home stays, and then moves
// there: from then on the old bucket is asked for nothing.
func TestMigrate(t *testing.T) {
	key, err := seal.NewIdentity()
	must(t, err)
	near, far := cloudtest.Front(t, cloudtest.Start(t)), cloudtest.Front(t, cloudtest.Start(t))
	m := newMember(t, near.URL, "a", &ledger{has: map[string]string{}})
	m.has(t, key.String(), false, false)
	must(t, m.settings.Update(t.Context(), func(s *settings.State) error {
		s.S3Clients = append(s.S3Clients, settings.S3Client{ID: "far", Endpoint: far.URL, Region: cloudtest.Region, AccessKey: cloudtest.Key, PathStyle: true})
		return nil
	}))
	must(t, m.clouds.SetSecret(t.Context(), "far", cloudtest.Secret))
	to := stores.Migration{Client: "far", Bucket: cloudtest.Name, Prefix: "moved/", Override: []string{"keys", "lifecycle", "versioning", "tls"}}
	run := func() string {
		t.Helper()
		u, err := m.StartMigrate("cloud", root, to)
		state, text := m.end(t, u, err)
		if state != "OK" && !strings.HasPrefix(state, "WARNINGS") {
			t.Fatalf("migrate: %s\n%s", state, text)
		}
		return text
	}
	if text := run(); !strings.Contains(text, "were copied to") {
		t.Errorf("a copy:\n%s", text)
	}
	before, _ := m.Cloud("cloud")
	to.Home = true
	if text := run(); !strings.Contains(text, "the home of 'cloud' is") {
		t.Errorf("a move:\n%s", text)
	}
	after, ok := m.Cloud("cloud")
	if !ok || after.Bucket == before.Bucket || !strings.Contains(after.Bucket, "moved") || after.Store != before.Store || after.ReadOnly != "" {
		t.Errorf("before %+v, after %+v", before, after)
	}
	near.Reset()
	for what, start := range map[string]func(string, string) (jobs.UPID, error){"offload": m.StartOffload, "audit": m.StartAudit} {
		u, err := start("cloud", root)
		if state, text := m.end(t, u, err); state != "OK" {
			t.Errorf("%s: %s\n%s", what, state, text)
		}
	}
	if n := near.Total(); n != 0 {
		t.Errorf("the old bucket was asked %v", near.Counts())
	}
	if _, err := m.StartMigrate("cloud", root, to); err == nil {
		t.Error("it moves to where it is")
	}
}

// What is locked in its bucket is locked in the one that it moves to, and what is
// written there later as well.
func TestLocksMoveAlong(t *testing.T) {
	key, err := seal.NewIdentity()
	must(t, err)
	near, far := cloudtest.Front(t, cloudtest.Start(t)), cloudtest.Front(t, cloudtest.Start(t))
	m := newMember(t, near.URL, "a", &ledger{has: map[string]string{}})
	m.has(t, key.String(), false, false)
	policy := lock.Policy{Mode: lock.Governance, Days: 30}
	locked := cloudtest.Lockable(t, far.URL, policy)
	must(t, m.settings.Update(t.Context(), func(s *settings.State) error {
		s.S3Clients = append(s.S3Clients, settings.S3Client{ID: "far", Endpoint: far.URL, Region: cloudtest.Region, AccessKey: cloudtest.Key, PathStyle: true})
		s.Datastores[0].Backend.Lock = policy
		return nil
	}))
	must(t, m.clouds.SetSecret(t.Context(), "far", cloudtest.Secret))
	must(t, m.Sync(t.Context()))
	_, _, name, _, _ := locked.Place()
	u, err := m.StartMigrate("cloud", root, stores.Migration{Client: "far", Bucket: name, Home: true, Override: []string{"keys", "lifecycle", "versioning", "tls"}})
	if state, text := m.end(t, u, err); state != "OK" && !strings.HasPrefix(state, "WARNINGS") {
		t.Fatalf("migrate: %s\n%s", state, text)
	}
	free := func() (all, roots int) {
		t.Helper()
		must(t, locked.List(t.Context(), layout.Root, func(page []bucket.Info) error {
			for _, o := range page {
				until, err := locked.Retention(t.Context(), o.Key)
				must(t, err)
				if until.IsZero() != strings.HasSuffix(o.Key, "/"+layout.OwnerKey) {
					t.Errorf("%s is locked until %s", o.Key, until)
				}
				if all++; strings.Contains(o.Key, "/"+layout.RootDir) {
					roots++
				}
			}
			return nil
		}))
		return all, roots
	}
	all, before := free()
	if all < 2 { // format and owner: nothing was backed up
		t.Fatalf("%d objects were copied", all)
	}
	u, err = m.StartGC("cloud", root) // renews the locks, and notes in a root that it did
	if state, text := m.end(t, u, err); state != "OK" {
		t.Fatalf("gc: %s\n%s", state, text)
	}
	if _, after := free(); after <= before {
		t.Errorf("there were %d roots, and are %d: no lock was renewed", before, after)
	}
}
