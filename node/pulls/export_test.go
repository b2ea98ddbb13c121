package pulls

import (
	"context"
	"time"

	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/replication"
	"github.com/holdfast-mesh/holdfast/replication/rate"
)

// First is first, for tests that make a source of it.
func (p *Pulls) First(j settings.SyncJob, in *rate.Bucket) (Member, replication.Source, error) {
	return p.first(j, in, newGuards(context.Background(), 0))
}

// LimitOf is limit, for tests that ask it for an hour.
func (p *Pulls) LimitOf(id string) func(time.Time) rate.Limit { return p.limit(id) }

// SignOld is signOld, for tests that do not wait for the day.
func (p *Pulls) SignOld(ctx context.Context) { p.signOld(ctx) }
