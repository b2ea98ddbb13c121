package conformance

import (
	"testing"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/pbstest"
	"github.com/holdfast-mesh/holdfast/pbs/sitetest"
)

// A site is a server with one datastore, store1, that a test looks into, and an
// administrator who speaks by a token.
type site struct {
	*sitetest.Site
	wire
	d *catalog.Datastore
}

func newSite(t *testing.T) *site {
	t.Helper()
	d := pbstest.NewDatastore(t)
	s, err := sitetest.New(sitetest.Config{Dir: t.TempDir(), Datastores: map[string]*catalog.Datastore{"store1": d}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &site{Site: s, wire: wire{t: t, addr: s.Addr}, d: d}
	w.running = func() int {
		_, n := s.Tasks.List(jobs.Filter{Running: true})
		return n
	}
	if err := s.Access.AddUser(t.Context(), access.User{ID: sitetest.Admin}, ""); err != nil {
		t.Fatal(err)
	}
	if err := s.AddUser(t.Context(), sitetest.Admin, "/ Admin"); err != nil {
		t.Fatal(err)
	}
	w.secret = w.token(sitetest.Admin+"!tok", "/ Admin")
	return w
}

func (s *site) token(id access.AuthID, grants ...string) string {
	s.t.Helper()
	secret, err := s.AddToken(s.t.Context(), id, grants...)
	if err != nil {
		s.t.Fatal(err)
	}
	return secret
}
