package cluster

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/access/statefile"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/node/cluster/home"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// A Founding is what a new cluster begins with.
type Founding struct {
	Name, Site string                             // of its first node
	Operator   func() (ed25519.PrivateKey, error) // the operators' key, asked for if it is needed
	Recovery   authority.Key                      // may begin a new incarnation, too; zero: there is none
	Accounts   *access.State                      // that the node had before; nil: none
	Settings   *settings.State                    // likewise
}

// foundTime is how long all of it may take.
const foundTime = time.Minute

// Found makes a cluster with this node as the only one, and has the ledger take
// over what the node had before. Where an earlier call was cut short it goes on.
// [home.Founded] is to be called when nothing needs the old files any more; until
// then [home.IsMember] says that the cluster is not complete.
func Found(ctx context.Context, cfg Config, f Founding) error {
	ctx, cancel := context.WithTimeout(ctx, foundTime)
	defer cancel()
	if err := found(ctx, cfg, f); err != nil {
		return fmt.Errorf("found a cluster in %s: %w", cfg.Dir, err)
	}
	return nil
}

func found(ctx context.Context, cfg Config, f Founding) error {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return err
	}
	if _, err := statefile.WriteSecret(filepath.Join(cfg.Dir, home.Founding), nil, true); err != nil {
		return err
	}
	if err := foundChain(cfg, f); err != nil {
		return err
	}
	c, err := open(cfg, founding)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- c.group.Run(ctx) }()
	err = c.begin(ctx, f)
	stop()
	return errors.Join(err, <-ran, c.Close())
}

// foundChain makes the chain, unless there is one.
func foundChain(cfg Config, f Founding) error {
	path := filepath.Join(cfg.Dir, home.Authority)
	if _, err := home.ReadChain(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	operator, err := f.Operator()
	if err != nil {
		return err
	}
	body := authority.GenesisBody{Operators: []authority.Key{authority.PublicKey(operator)}, Threshold: 1, Recovery: f.Recovery, At: time.Now().Unix()}
	rand.Read(body.Cluster[:]) // never fails
	chain, err := authority.Read([][]byte{authority.Found(body, operator)})
	if err != nil {
		return err
	}
	votes, _ := authority.MayVote("full")
	self := authority.Node{Key: authority.PublicKey(cfg.Key), Name: f.Name, Site: f.Site, Role: "full", Votes: votes}
	if chain, err = chain.Next(chain.Sign(chain.Draft(authority.AddNode, self), operator)); err != nil {
		return err
	}
	return home.WriteChain(path, chain)
}

// begin fills the ledger: the chain, then what the node had before.
func (c *Cluster) begin(ctx context.Context, f Founding) error {
	if err := c.group.Linear(ctx); err != nil { // what was begun before
		return err
	}
	known, _ := c.ledger.View().Chain().Head()
	for _, link := range c.keeper.Links(known) {
		if _, err := c.client.Do(ctx, "node", "", ledger.KindAuthority, ledger.Link{Link: link}); err != nil {
			return err
		}
	}
	if err := c.raiseTo(ctx, ledger.Level); err != nil {
		return err
	}
	if f.Accounts != nil {
		if err := c.accounts.ledger.TakeOver(ctx, f.Accounts); err != nil {
			return err
		}
	}
	if f.Settings == nil {
		return nil
	}
	return c.settings.takeOver(ctx, f.Settings)
}

// Enter makes this node one of a cluster that somebody else has founded and
// that has admitted it. The chain was checked. Where an earlier call was cut short it
// goes on; what that one has made may hold promises then, and is opened like that of
// any member.
func Enter(cfg Config, chain *authority.Chain) error {
	how := entering
	entered, err := home.Enter(cfg.Dir, chain)
	if entered {
		how = again
	}
	if err == nil {
		var c *Cluster
		if c, err = open(cfg, how); err == nil {
			return c.Close()
		}
	}
	return fmt.Errorf("enter the cluster: %w", err)
}
