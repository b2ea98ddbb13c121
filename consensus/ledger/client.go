package ledger

import (
	"context"
	"crypto/ed25519"
	"errors"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// A Client gives commands in the name of a node.
type Client struct {
	Key    ed25519.PrivateKey // of the node
	Ledger *Ledger
	// Submit has a command applied and returns what Apply returned.
	Submit func(ctx context.Context, command []byte) (value []byte, err error)
}

// ErrNotYet says that a node gives a command that has joined, or begun anew, and has
// nothing of the ledger yet.
var ErrNotYet = errors.New("this node has not heard from its cluster yet, which takes some seconds after it has joined: try again")

// Do gives a command for an actor: "op@pbs", or "node" for the node itself.
// The error is that of Submit, or says that the command had no effect.
func (c *Client) Do(ctx context.Context, actor, address string, kind uint16, body any) (Result, error) {
	if kind != KindAuthority && !c.Heard(ctx) { // a cluster begins with its chain
		return Result{}, ErrNotYet
	}
	return c.Send(ctx, c.Command(actor, address, kind, body))
}

// hearTime is how long a command waits for a node to hear from its cluster: after it has
// joined and begun, some ten seconds pass until the leader takes it up.
const hearTime = 20 * time.Second

// Heard waits until there is something of the ledger; false if nothing comes in time.
func (c *Client) Heard(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, hearTime)
	defer cancel()
	v := c.Ledger.View()
	for err := error(nil); err == nil && v.Chain() == nil; {
		v, err = c.Ledger.Wait(ctx, v, Members)
	}
	return v.Chain() != nil
}

// Command returns the bytes of a command, which may be sent more than once.
func (c *Client) Command(actor, address string, kind uint16, body any) []byte {
	chain := c.Ledger.View().Chain()
	command := Command{
		Kind: kind, Request: NewRequest(), Actor: actor, Address: address, Node: authority.PublicKey(c.Key),
		Incarnation: chain.Incarnation(), Body: canon.Encode(body),
	}
	if chain != nil {
		command.Cluster = chain.Cluster()
	}
	return command.Sign(c.Key)
}

// Send sends a command that Command returned.
func (c *Client) Send(ctx context.Context, command []byte) (Result, error) {
	value, err := c.Submit(ctx, command)
	if err != nil {
		return Result{}, err
	}
	r, err := ReadResult(value)
	return r, errors.Join(err, r.Err())
}
