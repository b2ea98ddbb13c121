package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/consensus"
	"github.com/holdfast-mesh/holdfast/consensus/actor"
	"github.com/holdfast-mesh/holdfast/consensus/drafts"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
)

const draftsFile = "drafts.json"

func (c *Cluster) newDrafts() (*drafts.Drafts, error) {
	return drafts.New(drafts.Config{
		File: filepath.Join(c.cfg.Dir, draftsFile), Key: c.cfg.Key, Ledger: c.ledger, Submit: c.client.Submit, Log: c.cfg.Log,
		Applied: func() error {
			if c.inherited == nil {
				return nil
			}
			return c.inherited()
		},
		Fresh: func(ctx context.Context) error {
			if c.group.Status().Leader == "" {
				return consensus.ErrNoLeader
			}
			return c.group.Linear(ctx)
		},
		Check: func(l *ledger.Ledger) error {
			on := &ledger.Client{Ledger: l}
			return errors.Join(ledger.NewAccounts(on).State().Check(), newSettings(on, c.Self()).State().Check())
		},
		Rights: func(actor string) string { return rights(c.accounts.State(), access.AuthID(actor)) },
	})
}

// rights is what an account may do, in short: the ACL entries of it and, if it
// is a token, of its user; "" if it may do nothing.
func rights(s *access.State, id access.AuthID) string {
	now, found := time.Now(), id.User() == access.Root
	for _, u := range s.Users {
		found = found || u.ID == id.User() && u.Active(now)
	}
	if id.IsToken() {
		found = found && slices.ContainsFunc(s.Tokens, func(t access.Token) bool { return t.ID == id && t.Active(now) })
	}
	if !found {
		return ""
	}
	entries := []access.ACLEntry{}
	for _, e := range s.ACL {
		if e.ID == id || e.ID == id.User() {
			entries = append(entries, e)
		}
	}
	text, err := json.Marshal(entries)
	if err != nil {
		return "" // it is not submitted then
	}
	return string(text)
}

// drafting makes a change at once, or keeps it as a draft on a ledger that has
// those before it.
type drafting func(ctx context.Context, now func(context.Context) error, on func(context.Context, *ledger.Client) error) error

// With no leader for lost, a change waits for one no longer than soon. An election
// takes 25 s at most.
const (
	lost = 30 * time.Second
	soon = 3 * time.Second
)

// patient bounds how long something waits for a leader.
func (c *Cluster) patient(ctx context.Context) (context.Context, context.CancelFunc) {
	if c.group.Status().Leader == "" && c.LedgerAge() > lost && time.Since(c.votes.Begun) > lost/2 {
		return context.WithTimeout(ctx, soon)
	}
	return context.WithCancel(ctx)
}

// submit has a command applied.
func (c *Cluster) submit(ctx context.Context, command []byte) ([]byte, error) {
	if c.Gone() {
		return nil, &Error{errors.New("this node was removed from the cluster, and changes nothing in it"), "to take it back: move its data directory away, keep its datastores, and join it again with a new token"}
	}
	ctx, cancel := c.patient(ctx)
	defer cancel()
	r, err := c.group.Submit(ctx, command)
	return r.Value, err
}

// Agreed says why the cluster cannot say now what is decided; nil means that what
// this node knows is that.
func (c *Cluster) Agreed(ctx context.Context) error {
	ctx, cancel := c.patient(ctx)
	defer cancel()
	return c.group.Linear(ctx)
}

// drafted is the [drafting] of this node: what people decide is kept if there is
// nobody to agree on it.
func (c *Cluster) drafted(ctx context.Context, now func(context.Context) error, on func(context.Context, *ledger.Client) error) error {
	err := now(ctx)
	if err == nil || actor.Of(ctx) == "node" || ctx.Err() != nil || c.Gone() || c.Waits() {
		return err
	}
	below := c.drafts.Waiting() && c.group.Status().Leader == "" // it may be about what is in a draft
	if !below && !errors.Is(err, consensus.ErrNoLeader) {
		return err
	}
	return c.drafts.Make(ctx, on)
}

// Drafts are the changes that wait for a quorum.
func (c *Cluster) Drafts() *drafts.Drafts { return c.drafts }
