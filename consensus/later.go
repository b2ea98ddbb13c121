package consensus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/consensus/follow"
	"github.com/holdfast-mesh/holdfast/consensus/wire"
)

// errAwaits keeps what a node has of an incarnation that has ended, until it has the ledger
// of the one behind it: without either it would know no accounts and no datastores.
var errAwaits = &Error{
	errors.New("the cluster was recovered without this node, and no node answers that has its ledger of now: this one keeps what it knew"),
	"bring a node back that has it, such as the one on which recover-quorum was run; they are asked every few seconds, and backups and restores go on meanwhile; " +
		"if all that had it are lost for good, go on from what is known here: `holdfast member recover-quorum`",
}

// errAsks is what is said while the others are asked for the first time.
var errAsks = &Error{
	fmt.Errorf("%w: the cluster was recovered without this node, and it asks for the ledger of now", ErrStopped),
	"nothing: it is a matter of seconds",
}

// errLater ends the wait for a later incarnation, with the ledger of it; nil: its node is
// of a version that gives it only to who has none.
type errLater struct{ state *follow.State }

func (errLater) Error() string { return errSuperseded.Error() }
func (errLater) Unwrap() error { return errSuperseded }

// await keeps the state of an incarnation that has ended, and answers who asks how far it
// is, until it has the ledger of a later one, which is an [errLater]; or until this node is
// to go on, since the others are lost, which is an [errRecover].
func (g *Group) await(ctx context.Context, l *life) error {
	g.asks.Store(true)
	err := g.later(ctx)
	g.asks.Store(false)
	if err != nil {
		return err
	}
	var why error = errAwaits
	g.stopped.Store(&why)
	defer g.stopped.Store(nil)
	g.waits.Store(l)
	defer g.waits.Store(nil)
	g.cfg.Log.Error("consensus stopped on this node; backups and restores go on", "err", why, "hint", errAwaits.Hint())
	tasks, taskCtx := errgroup.WithContext(ctx)
	tasks.Go(func() error { return g.serve(taskCtx, l) })
	tasks.Go(func() error {
		select {
		case r := <-l.recoveries:
			return errRecover{r}
		case <-taskCtx.Done():
			return taskCtx.Err()
		}
	})
	tasks.Go(func() error {
		for taskCtx.Err() == nil {
			if err := g.later(taskCtx); err != nil {
				return err
			}
			select {
			case <-taskCtx.Done():
			case <-time.After(5 * time.Second):
			}
		}
		return taskCtx.Err()
	})
	if err := tasks.Wait(); ctx.Err() == nil {
		return err
	}
	return nil
}

// later asks all for the ledger of an incarnation that this node knows of and is not in.
// It is an [errLater] if one has given it.
func (g *Group) later(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute) // for the ledger; who does not answer is given up before
	defer cancel()
	var found error
	var once sync.Once
	var tasks sync.WaitGroup
	for _, node := range g.others() {
		tasks.Go(func() {
			if err := g.laterFrom(ctx, node); errors.As(err, new(errLater)) {
				once.Do(func() { found = err; cancel() })
			} else {
				g.cfg.Log.Debug("a node does not give the ledger of a later incarnation", "node", node, "err", err)
			}
		})
	}
	tasks.Wait()
	return found
}

// others are who can be asked for what this node has not.
func (g *Group) others() []string {
	all := append(slices.Clone(g.cfg.Nodes()), g.cfg.Roster.Base())
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(id string) bool { return id == g.cfg.Self || id == "" })
}

func (g *Group) laterFrom(ctx context.Context, node string) error {
	asked, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	t, err := g.tailOf(asked, node)
	switch {
	case err != nil:
		return err
	case t.Incarnation == 0:
		return errLater{}
	case t.Incarnation < g.cfg.Roster.Incarnation() || t.Applied == 0:
		return fmt.Errorf("it has entry %d of incarnation %d", t.Applied, t.Incarnation)
	}
	conn, err := g.cfg.Network.Dial(asked, node, ServiceLedger)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := wire.Write(conn, request{Op: opFollow, Incarnation: t.Incarnation}, maxFrame); err != nil {
		return err
	}
	state, err := follow.Fetch(conn)
	if err != nil {
		return err
	}
	return errLater{state}
}

// adopt writes the ledger of a later incarnation, which is that of the machine, where it
// comes in the place of what is put away. Without it, the node is given one as a standby.
func (g *Group) adopt(s *Stores, state *follow.State) error {
	return store(s, g.cfg.Machine, history{index: state.Index, term: state.Term, config: state.Group, configIndex: state.GroupIndex}, encoder{})
}
