package members

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/node/cluster"
	"github.com/holdfast-mesh/holdfast/node/operator"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// A Survivor is a node that could go on alone.
type Survivor struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Why     string `json:"why,omitempty"` // it does not answer
	Last    uint64 `json:"last"`          // index of the newest entry of its log
	Term    uint64 `json:"term"`          // of that
	Applied uint64 `json:"applied"`
	Best    bool   `json:"best,omitempty"`  // of those that could go on, if nobody leads
	Leads   bool   `json:"leads,omitempty"` // nothing needs to be recovered
}

// beginTime is how long a node may take to find out how far the others are, before it
// leads by its own vote alone.
const beginTime = 30 * time.Second

// begun waits until this node knows whether it may lead, and fails if Raft does not run on
// it: before that nothing is to be signed, since it could not be applied.
func (a api) begun(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, beginTime)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		s := a.Cluster.Group().Status()
		starts, elects := errors.Is(s.Stopped, consensus.ErrStopped), s.Stopped == nil && s.Leader == "" && slices.Equal(s.Voters, []string{a.Cluster.Self()})
		if !starts && !elects {
			break
		}
		select {
		case <-tick.C:
			continue
		case <-ctx.Done():
		}
		if elects {
			break
		}
		return &hinted{errors.New("this node still finds out how far the others are, and nothing is signed"), "run the same command again in half a minute; `holdfast status` says what is in its way"}
	}
	err := a.Cluster.Group().Status().Stopped
	if err == nil {
		return nil
	}
	if _, none := a.Cluster.Group().Survey(ctx); errors.Is(none, consensus.ErrStopped) { // there is nothing here that could go on
		cure := "see `holdfast status`, and docs/consensus.md for what it says"
		if why := (*consensus.Error)(nil); errors.As(err, &why) {
			cure = a.names().Replace(why.Hint())
		}
		return &hinted{fmt.Errorf("nothing is signed, since the ledger of this node has stopped: %w", err), cure}
	}
	return nil
}

// survey asks every node of the group how far it is.
func (a api) survey(ctx context.Context, _ *rest.Call) (any, error) {
	if err := a.begun(ctx); err != nil {
		return nil, err
	}
	all, err := a.Cluster.Group().Survey(ctx)
	if err != nil {
		return nil, err
	}
	names := a.names()
	list := []Survivor{}
	best := -1
	for i, s := range all {
		n := Survivor{ID: s.Node, Name: names.Replace(s.Node), Last: s.Last, Term: s.LastTerm, Applied: s.Applied}
		if s.Err != nil {
			n.Why = strings.TrimPrefix(names.Replace(s.Err.Error()), "this node does not lead: ") // nobody has asked that
		} else if best < 0 || cmp.Or(cmp.Compare(s.LastTerm, all[best].LastTerm), cmp.Compare(s.Last, all[best].Last)) > 0 {
			best = i
		}
		list = append(list, n)
	}
	leader := a.Cluster.Group().Status().Leader
	for i := range list {
		list[i].Leads = list[i].ID == leader
		list[i].Best = i == best && leader == ""
	}
	return list, nil
}

// recover makes this node go on alone, in a new incarnation that an operator, or
// whoever has the recovery key, has signed.
func (a api) recover(ctx context.Context, c *rest.Call) (any, error) {
	if err := a.begun(ctx); err != nil {
		return nil, err
	}
	status := a.Cluster.Group().Status()
	if status.Leader != "" {
		return nil, &hinted{fmt.Errorf("the cluster has a quorum: %s leads it", a.names().Replace(status.Leader)), "nothing needs to be recovered; lost members are removed with `holdfast member eject`"}
	}
	chain := a.Cluster.Roster().Chain()
	before := chain.Incarnation()
	if own := a.Cluster.View().Chain(); parted(own, chain) { // who agreed on the branch of the roster is lost
		chain = own
	}
	self, err := authority.ParseNodeID(a.Cluster.Self())
	if err != nil {
		return nil, err
	}
	reason := "most voters are lost"
	if c.Has("reason") {
		reason = c.Text("reason")
	}
	body := authority.Recovery{Incarnation: a.next(before, self), Base: self, Reason: reason}
	if !c.Has("link") {
		d := operator.NewDraft(chain, authority.Recover, body)
		return d.Called(self.NodeID(), a.names().Replace(self.NodeID())), c.Err()
	}
	said, err := operator.ReadRecovery(c.Text("link"))
	if err != nil {
		return nil, err
	}
	if body.Incarnation = said.Incarnation; said.Incarnation <= before { // the number is of when it was drafted
		return nil, &hinted{fmt.Errorf("the cluster was recovered meanwhile: incarnation %d is not behind %d", said.Incarnation, before), operator.Again}
	}
	link, err := operator.Signed(c.Text("link"), authority.Recover, body)
	if err != nil {
		return nil, err
	}
	if _, err := chain.Next(link); err != nil {
		return nil, overtaken(a.tooFew(err, c.Text("link")))
	}
	// What operators have signed since there was no quorum comes first: whom they have
	// ejected may be why there is none.
	err = a.Cluster.Group().Recover(ctx, a.Cluster.Unsaid(chain, string(c.Who), c.Source(), link)...)
	if why := (*consensus.Error)(nil); errors.As(err, &why) {
		names := a.names()
		return nil, &hinted{&renamed{err, names.Replace(err.Error())}, names.Replace(why.Hint())}
	}
	return nil, err
}

// parted tells whether neither chain is the other with more links.
func parted(a, b *authority.Chain) bool { return !a.Extends(b) && !b.Extends(a) }

// next is the number of a new incarnation. Two nodes that do not reach each other may both
// be recovered: theirs are never the same, and of two the later one counts when they meet.
// So it is the time in milliseconds and three digits of the node, if that is greater than
// the one behind the incarnation of now.
func (a api) next(before uint64, self authority.Key) uint64 {
	if a.Cluster.View().Level() < authority.LevelSkip {
		return before + 1
	}
	at := uint64(max(0, a.Now().UnixMilli()))*1000 + uint64(binary.BigEndian.Uint16(self[:]))%1000
	return max(before+1, min(at, authority.MaxIncarnation))
}

// renamed is an error with the names of nodes in its text.
type renamed struct {
	error
	text string
}

func (e *renamed) Error() string { return e.text }
func (e *renamed) Unwrap() error { return e.error }

// names puts the names of members in the place of their IDs.
func (a api) names() *strings.Replacer {
	var pairs []string
	for _, m := range All(a.Cluster, true) {
		pairs = append(pairs, m.ID, cmp.Or(m.Name, m.ID))
	}
	return strings.NewReplacer(pairs...)
}

// Advice is what an operator should know about how many lost nodes the cluster
// survives, or "".
func Advice(c *cluster.Cluster) string {
	voting := map[string]bool{}
	for _, m := range All(c, false) {
		if m.MayVote && m.State == ledger.Active {
			voting[m.Site] = true
		}
	}
	names := []string{}
	for s := range voting {
		names = append(names, s)
	}
	slices.Sort(names)
	if len(voting) == 2 {
		return fmt.Sprintf("with nodes that may vote at two sites only, %s, one of them votes, and nothing can be changed while that one is away; "+
			"a witness at a third place, without a datastore, changes that: holdfast invite create --role witness", strings.Join(names, " and "))
	}
	return ""
}
