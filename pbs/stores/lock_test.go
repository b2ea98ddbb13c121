package stores_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/lock"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
)

// A lock was set up for a datastore whose bucket has no Object Lock, and every
// offload failed from then on. It is tried first.
func TestLocksAreTriedFirst(t *testing.T) {
	key, err := seal.NewIdentity()
	must(t, err)
	near := cloudtest.Front(t, cloudtest.Start(t))
	m := newMember(t, near.URL, "a", &ledger{has: map[string]string{}})
	m.has(t, key.String(), false, false)
	policy := lock.Policy{Mode: lock.Governance, Days: 30}
	locks := func(d *stores.Described) error { d.Backend.Lock = policy; return nil }
	err = m.Update(t.Context(), "cloud", "", locks)
	var hint interface{ Hint() string }
	if err == nil || !strings.Contains(err.Error(), "takes no object with a lock") || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "object-lock") {
		t.Errorf("a lock on a bucket without: %v", err)
	}
	if d, _ := m.settings.State().Datastore("cloud"); !d.Backend.Lock.IsZero() {
		t.Errorf("it is kept: %v", d.Backend.Lock)
	}
	u, err := m.StartOffload("cloud", root)
	if state, text := m.end(t, u, err); state != "OK" {
		t.Errorf("offload: %s\n%s", state, text)
	}

	// The doctor says so before a datastore is made, and though the store does not
	// tell whether it has locks.
	near.On(func(r cloudtest.Request) *cloudtest.Fault {
		if r.HTTP.URL.Query().Has("object-lock") {
			return &cloudtest.Fault{Status: 501, Code: "NotImplemented"}
		}
		return nil
	})
	make := func(name, bucket, prefix string) (state, text string) {
		t.Helper()
		u, err := m.StartCreate(t.Context(), root, stores.Create{
			Datastore: settings.Datastore{Name: name, Path: filepath.Join(t.TempDir(), name), Backend: settings.Backend{Client: "near", Bucket: bucket, Prefix: prefix, Lock: policy}},
			Cloud:     stores.NewCloud{Recovery: key.String(), Override: []string{"keys", "lifecycle", "versioning", "tls"}},
		})
		return m.end(t, u, err)
	}
	if state, text := make("other", cloudtest.Name, "other/"); !strings.Contains(state, "the bucket is not fit for backups: lock: ") || !strings.Contains(text, "takes no object with a lock") {
		t.Errorf("create: %s\n%s", state, text)
	}
	near.On(nil)
	_, _, name, _, _ := cloudtest.Lockable(t, near.URL, policy).Place()
	if state, text := make("locked", name, ""); state != "OK" && !strings.HasPrefix(state, "WARNINGS") {
		t.Errorf("create in a bucket with locks: %s\n%s", state, text)
	}
	policy.Days = 60
	must(t, m.Update(t.Context(), "locked", "", locks))
}
