package cloud

import (
	"context"
	"slices"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/thaw"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
)

// thawing reads how archived objects are asked for.
func thawing(c *rest.Call) stores.Thawing {
	how := stores.Thawing{Tier: thaw.Tiers()[0], Days: 14}
	if c.Has("days") {
		how.Days = int(c.Int("days", 1, 365))
	}
	if c.Has("tier") {
		if how.Tier = c.Text("tier"); !slices.Contains(thaw.Tiers(), how.Tier) {
			c.Fail("tier", "value '%s' is not defined in the enumeration.", how.Tier)
		}
	}
	return how
}

// A thawPlan is what it takes to read all again.
type thawPlan struct {
	thaw.Plan
	Manifest string `json:"manifest,omitempty"` // for S3 Batch Operations
}

// planThaw says what of a bucket is archived. It is a listing, which costs.
func (a *api) planThaw(ctx context.Context, c *rest.Call) (any, error) {
	store, how, all := c.Store(), thawing(c), c.Bool("manifest")
	if err := c.Err(); err != nil {
		return nil, err
	}
	p, manifest, err := a.Stores.PlanThaw(ctx, store, how)
	if err != nil {
		return nil, err
	}
	if !all {
		manifest = ""
	}
	return thawPlan{p, manifest}, nil
}

// thaw begins to ask for all that is archived.
func (a *api) thaw(_ context.Context, c *rest.Call) (any, error) {
	how := thawing(c)
	return a.start(c, func(store, auth string) (any, error) { return a.Stores.StartThaw(store, auth, how) })
}
