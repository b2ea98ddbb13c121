package cluster

import (
	"context"
	"fmt"

	"github.com/holdfast-mesh/holdfast/consensus/claims"
	"github.com/holdfast-mesh/holdfast/consensus/guard"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
)

// What members ask each other, by the first byte of the question. Who does not
// know a kind refuses it, so that versions may differ.
const (
	askAlive = 1 // package claims: I live
	askSums  = 2 // what does your ledger come to, and where
	askLevel = 3 // which feature level do you know
)

// answer answers a question of a member.
func (c *Cluster) answer(_ context.Context, node string, question []byte) ([]byte, error) {
	if len(question) == 0 {
		return nil, fmt.Errorf("an empty question of %s", node)
	}
	kind, body := question[0], question[1:]
	switch kind {
	case askAlive:
		return c.claims.Answer(node, body)
	case askSums:
		return c.sums.Encode(), nil
	case askLevel:
		return []byte{ledger.Level}, nil
	}
	return nil, fmt.Errorf("a question of the kind %d is not known here", kind)
}

// ask asks a member, "" being whoever leads.
func (c *Cluster) ask(ctx context.Context, node string, kind byte, body []byte) (answer []byte, by string, err error) {
	return c.group.Ask(ctx, node, append([]byte{kind}, body...))
}

func (c *Cluster) leads() bool { return c.group.Status().Role == "leader" }

func (c *Cluster) newClaims() (*claims.Claims, error) {
	return claims.New(claims.Config{
		Client: c.client, Leads: c.leads, Log: c.cfg.Log,
		Ask: func(ctx context.Context, question []byte) ([]byte, error) {
			answer, _, err := c.ask(ctx, "", askAlive, question)
			return answer, err
		},
		Pass: func(resource string, f ledger.Fence) error {
			return c.guard.Pass(guard.Fence{Job: resource, Incarnation: f.Incarnation, Index: f.Index})
		},
	})
}

// Claims are what this node does in the place of all: see package claims.
func (c *Cluster) Claims() *claims.Claims { return c.claims }
