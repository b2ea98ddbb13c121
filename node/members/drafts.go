package members

import (
	"context"

	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// A Draft is a change that waits for a quorum, as it is listed.
type Draft struct {
	Number uint64 `json:"draft"`
	Made   int64  `json:"made"` // Unix seconds
	By     string `json:"by"`
	What   string `json:"what"` // the rows that it changes
	State  string `json:"state"`
	Why    string `json:"why,omitempty"`
}

func (a api) drafts(context.Context, *rest.Call) (any, error) {
	list := []Draft{}
	for _, d := range a.Cluster.Drafts().List() {
		state := "waits for a quorum"
		if d.Why != "" {
			state = "not applied"
		}
		list = append(list, Draft{d.Number, d.Made, d.Actor, d.Subject(), state, d.Why})
	}
	return list, nil
}

// submit submits all drafts now, instead of within seconds, and answers which
// are left.
func (a api) submit(ctx context.Context, c *rest.Call) (any, error) {
	if err := a.Cluster.Drafts().Submit(ctx); err != nil {
		return nil, err
	}
	return a.drafts(ctx, c)
}

func (a api) discard(ctx context.Context, c *rest.Call) (any, error) {
	number := c.Int("draft", 1, 1<<60)
	if err := c.Err(); err != nil {
		return nil, err
	}
	return nil, a.Cluster.Drafts().Discard(ctx, uint64(number))
}
