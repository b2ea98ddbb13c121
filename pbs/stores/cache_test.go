package stores_test

import (
	"os"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
)

// A cache comes and goes while the datastore is used, and the datastore stays
// open. What a disk refuses is not kept in the settings.
func TestACacheComesAndGoes(t *testing.T) {
	m := newMember(t, cloudtest.Start(t).URL, "berlin", &ledger{has: map[string]string{}})
	key, err := seal.NewIdentity()
	must(t, err)
	m.has(t, key.String(), false, false)
	d, done, err := m.Use("cloud", false) // as a mount does
	must(t, err)
	defer done()
	size := func(n int64, dir string) error {
		return m.Update(t.Context(), "cloud", "", func(d *stores.Described) error {
			d.Backend.CacheSize, d.Backend.CacheDir = n, dir
			return nil
		})
	}
	for _, n := range []int64{settings.MinCache, 0, 2 * settings.MinCache, settings.MinCache, 0} {
		must(t, size(n, ""))
		st, ok := m.Cloud("cloud")
		if now, err := m.Get("cloud"); err != nil || now != d || !ok || st.Cache.Bound != n {
			t.Errorf("with %d bytes: the cache has %d, %v", n, st.Cache.Bound, err)
		}
	}
	at := ""
	for _, s := range m.settings.State().Datastores {
		at = s.Path + "/cloud/cache"
	}
	must(t, os.WriteFile(at, nil, 0o600)) // no directory can be made there
	if err := size(settings.MinCache, ""); err == nil {
		t.Error("a cache that cannot be had")
	}
	if kept, _ := m.settings.State().Datastore("cloud"); kept.Backend.CacheSize != 0 {
		t.Errorf("what failed is kept: %d", kept.Backend.CacheSize)
	}
}
