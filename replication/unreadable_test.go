package replication_test

import (
	"os"
	"path"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/replication/plan"
)

// A snapshot that its source has and cannot read is an error of the run, and not one
// that vanished; those behind it are pulled. Once the run said that all was well.
func TestUnreadableAtTheSource(t *testing.T) {
	home, dc := newSite(t, "home"), newSite(t, "dc")
	for i, g := range []string{"vm/100", "vm/101", "vm/102"} {
		home.backUp("", at(g, 0), owner, uint64(10*i+1), uint64(10*i+2))
	}
	bad := at("vm/101", 0)
	name := path.Join("/store", string(bad.Type), bad.ID, naming.FormatTime(bad.Time), "root.pxar.didx")
	f, err := home.mem.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("damaged"), 0)
	must(t, err)
	must(t, f.Close())
	l := home.serve(nil)
	defer l.close()
	log := &taskLog{}
	r, err := puller(t, dc, log, home.source(l, nil)).Run(t.Context(), job(plan.Options{}))
	if err == nil || r.Pulled != 2 || r.Gone != 0 || len(r.Errors) != 1 || !strings.Contains(r.Errors[0], "vm/101") || !strings.Contains(r.Errors[0], "cannot be read") {
		t.Errorf("%+v %v\n%s", r, err, log)
	}
	dc.same("", home, "", at("vm/100", 0))
	dc.same("", home, "", at("vm/102", 0))
}
