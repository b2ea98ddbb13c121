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
	"github.com/holdfast-mesh/holdfast/consensus/guard"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
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
// [Founded] is to be called when nothing needs the old files any more; until
// then [IsMember] says that the cluster is not complete.
func Found(ctx context.Context, cfg Config, f Founding) error {
	ctx, cancel := context.WithTimeout(ctx, foundTime)
	defer cancel()
	if err := found(ctx, cfg, f); err != nil {
		return fmt.Errorf("found a cluster in %s: %w", cfg.Dir, err)
	}
	return nil
}

// Founded says that a cluster is complete.
func Founded(dir string) error {
	err := os.Remove(filepath.Join(dir, foundingFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Abandon removes a cluster that is not complete, if there is one.
func Abandon(dir string) error {
	if is, complete := IsMember(dir); is && complete {
		return nil
	}
	return errors.Join(os.RemoveAll(dir), forgetHead(dir))
}

// forgetHead removes what says how far the guard of a node was, whose cluster it
// begins anew or leaves behind.
func forgetHead(dir string) error {
	if err := os.Remove(guard.HeadOf(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Lost tells whether a node belonged to a cluster, and who belongs to that is gone
// from its directory: not a node that was in none yet, nor one that was founding.
func Lost(dir string) bool {
	is, _ := IsMember(dir)
	if _, founding := os.Stat(filepath.Join(dir, foundingFile)); is || founding == nil {
		return false
	}
	_, guarded := os.Stat(guard.HeadOf(dir))
	_, logged := os.Stat(filepath.Join(dir, "raft"))
	return guarded == nil || logged == nil
}

func found(ctx context.Context, cfg Config, f Founding) error {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return err
	}
	if _, err := statefile.WriteSecret(filepath.Join(cfg.Dir, foundingFile), nil, true); err != nil {
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
	path := filepath.Join(cfg.Dir, authorityFile)
	if _, err := readChain(path); !errors.Is(err, fs.ErrNotExist) {
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
	return writeChain(path, chain)
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
// that has admitted it. The chain was checked.
func Enter(cfg Config, chain *authority.Chain) error {
	if is, complete := IsMember(cfg.Dir); is && complete {
		return &Error{errors.New("this node belongs to a cluster already"), "to put it into another, begin with an empty data directory"}
	}
	err := os.MkdirAll(cfg.Dir, 0o700)
	if Lost(cfg.Dir) {
		err = errors.Join(err, forgetHead(cfg.Dir))
	}
	if err == nil {
		err = writeChain(filepath.Join(cfg.Dir, authorityFile), chain)
	}
	if err != nil {
		return fmt.Errorf("enter the cluster: %w", err)
	}
	c, err := open(cfg, entering)
	if err != nil {
		return fmt.Errorf("enter the cluster: %w", err)
	}
	return c.Close()
}
