package pulls

import (
	"context"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/retention"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/replication"
	"github.com/holdfast-mesh/holdfast/replication/wire"
)

// A Fate is what becomes of a snapshot that the source of a job has no more.
type Fate struct {
	NS       naming.Namespace `json:"ns"`
	Snapshot string           `json:"snapshot"`
	Keep     string           `json:"keep,omitempty"` // why it stays; "": it goes to the trash
}

func shownFates(list []replication.Fate) []Fate {
	all := make([]Fate, len(list))
	for i, f := range list {
		all[i] = Fate{f.Snapshot.Namespace, f.Snapshot.Snapshot.String(), f.Keep}
	}
	return all
}

// weigh says by whose word a copy may go that the source of a job has no more: a
// node of the cluster signs what it removes in its feed, and a server outside it
// signs nothing.
func (p *Pulls) weigh(c *replication.Config, j settings.SyncJob, first replication.Source) {
	if _, ours := first.(*wire.Client); !ours {
		c.Unsigned = true
		return
	}
	c.Pruned = func(_ context.Context, s wire.Snapshot) (*replication.Prune, error) {
		m, err := p.Resolve(j.Remote)
		if err != nil || p.cfg.Removed == nil {
			return nil, err
		}
		at, why, is := p.cfg.Removed(m.ID, j.RemoteStore, s)
		if !is {
			return nil, nil
		}
		return &replication.Prune{At: at, Why: why}, nil
	}
}

// floor returns what the prune jobs of a datastore keep in a namespace: no copy
// goes because it vanished elsewhere as long as they want it here.
func (p *Pulls) floor(store string) func(naming.Namespace) []retention.Keep {
	return func(ns naming.Namespace) (all []retention.Keep) {
		for _, j := range p.cfg.Settings.State().PruneJobs {
			deep := j.MaxDepth == nil || ns.Depth()-j.NS.Depth() <= *j.MaxDepth
			if j.Store == store && !j.Disable && !j.Keep.IsZero() && j.NS.Contains(ns) && deep {
				all = append(all, j.Keep)
			}
		}
		return all
	}
}
