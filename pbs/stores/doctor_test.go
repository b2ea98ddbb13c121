package stores_test

import (
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/doctor"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
)

// What was found before a datastore was made, and answered for by name, was forgotten
// until the next Sunday: the examination was thrown away.
func TestWhatWasOverriddenIsRemembered(t *testing.T) {
	key, err := seal.NewIdentity()
	must(t, err)
	near := cloudtest.Front(t, cloudtest.Start(t))
	near.On(func(r cloudtest.Request) *cloudtest.Fault {
		if r.HTTP.URL.Query().Has("lifecycle") {
			return &cloudtest.Fault{Reply: `<LifecycleConfiguration><Rule><ID>x</ID><Status>Enabled</Status><Filter></Filter><Expiration><Days>30</Days></Expiration></Rule></LifecycleConfiguration>`}
		}
		return nil
	})
	m := newMember(t, near.URL, "a", &ledger{has: map[string]string{}})
	m.has(t, key.String(), false, false)
	r, err := m.Doctor("cloud")
	must(t, err)
	if r == nil || !slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool { return f.Check == "lifecycle" && f.Severity == doctor.Critical }) {
		t.Errorf("the doctor remembers %+v", r)
	}
}

// A node that only reads a bucket, with a key that may only read, was refused since the
// key may not write; and so it was for whatever else was wrong with the bucket, though it
// may be there to rescue what is in it.
func TestReaderIsAdmitted(t *testing.T) {
	key, err := seal.NewIdentity()
	must(t, err)
	near := cloudtest.Front(t, cloudtest.Start(t))
	newMember(t, near.URL, "a", &ledger{has: map[string]string{}}).has(t, key.String(), false, false)
	deny := func(methods ...string) {
		near.On(func(r cloudtest.Request) *cloudtest.Fault {
			switch {
			case slices.Contains(methods, r.HTTP.Method):
				return &cloudtest.Fault{Status: http.StatusForbidden, Code: "AccessDenied"}
			case r.HTTP.URL.Query().Has("lifecycle"):
				return &cloudtest.Fault{Reply: `<LifecycleConfiguration><Rule><ID>x</ID><Status>Enabled</Status><Filter></Filter><Expiration><Days>30</Days></Expiration></Rule></LifecycleConfiguration>`}
			}
			return nil
		})
	}
	b := newMember(t, near.URL, "b", &ledger{has: map[string]string{}})
	attach := func(name string) (state, text string) {
		u, err := b.StartCreate(t.Context(), root, stores.Create{
			Datastore: settings.Datastore{Name: name, Path: filepath.Join(t.TempDir(), name), Backend: settings.Backend{Client: "near", Bucket: cloudtest.Name, ReadOnly: true}},
			Reuse:     true, Cloud: stores.NewCloud{Recovery: key.String()},
		})
		return b.end(t, u, err)
	}
	deny(http.MethodGet)
	if state, text := attach("blind"); !strings.Contains(state, "keys: the key fails at s3:") {
		t.Errorf("a key that reads nothing: %s\n%s", state, text)
	}
	deny(http.MethodPut, http.MethodPost, http.MethodDelete)
	if state, text := attach("reader"); state != "OK" && !strings.HasPrefix(state, "WARNINGS") {
		t.Errorf("a key that reads: %s\n%s", state, text)
	}
	r, err := b.Doctor("reader")
	must(t, err)
	if r == nil || !slices.Contains(r.Passed, "keys") || r.Requests["put"] != 0 {
		t.Errorf("the doctor: %+v", r)
	}
}
