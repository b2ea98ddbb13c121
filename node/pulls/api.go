package pulls

import (
	"context"
	"net/http"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// Endpoints are those about healing, which are ours. Who may verify a datastore may
// have it healed: nothing is changed that was whole.
func (p *Pulls) Endpoints() []rest.Endpoint {
	const path = "/holdfast/datastore/{store}/heal"
	need := rest.Any(access.PrivDatastoreVerify, "/datastore/{store}")
	return []rest.Endpoint{
		{Method: http.MethodPost, Path: path, Need: need, Handle: p.startHeal},
		{Method: http.MethodGet, Path: path, Need: need, Handle: p.showHealing},
	}
}

func (p *Pulls) startHeal(_ context.Context, c *rest.Call) (any, error) {
	store, full := c.Store(), c.Has("full") && c.Bool("full")
	if err := c.Err(); err != nil {
		return nil, err
	}
	return p.StartHeal(store, string(c.Who), full)
}

func (p *Pulls) showHealing(_ context.Context, c *rest.Call) (any, error) {
	store := c.Store()
	if err := c.Err(); err != nil {
		return nil, err
	}
	return p.Healing(store), nil
}
