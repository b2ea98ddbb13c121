package pulls

import (
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/replication"
	"github.com/holdfast-mesh/holdfast/replication/rate"
)

// First is first, for tests that make a source of it.
func (p *Pulls) First(j settings.SyncJob, in *rate.Bucket) (Member, replication.Source, error) {
	return p.first(j, in)
}
