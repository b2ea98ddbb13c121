package replication_test

import (
	"context"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/replication"
	"github.com/holdfast-mesh/holdfast/replication/plan"
)

// boasting says that all it has is verified and encrypted.
type boasting struct{ replication.Source }

func (b boasting) Catalog(ctx context.Context, ns naming.Namespace, depth int) (plan.Side, error) {
	side, err := b.Source.Catalog(ctx, ns, depth)
	for _, g := range side.Groups {
		for i := range g.Snapshots {
			g.Snapshots[i].Verified, g.Snapshots[i].Encrypted = "ok", true
		}
	}
	return side, err
}

// What a listing says is looked at again in the manifest itself.
func TestListingIsNotBelieved(t *testing.T) {
	home, dc := newSite(t, "home"), newSite(t, "dc")
	home.backUp("", at("vm/1", 0), owner, 1)
	l := home.serve(nil)
	defer l.close()
	for _, opt := range []plan.Options{{VerifiedOnly: true}, {EncryptedOnly: true}} {
		r, err := puller(t, dc, &taskLog{}, boasting{home.source(l, nil)}).Run(t.Context(), job(opt))
		if err == nil || r.Pulled > 0 || r.Swarm.Fetched > 0 {
			t.Errorf("%+v: %v, %+v", opt, err, r)
		}
	}
}
