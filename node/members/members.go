// Package members has the endpoints about who belongs to the cluster: invites,
// members, the way out after the loss of a quorum, and the changes that wait for
// one. They are below /holdfast, as all that is ours.
//
// What an operator has to sign is called twice with the same parameters: with
// draft, the answer is what to sign, see package operator; then with link,
// which is that with the signature.
package members

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/consensus"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/mesh/invite"
	"github.com/holdfast-mesh/holdfast/node/cluster"
	"github.com/holdfast-mesh/holdfast/node/operator"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// Config says whose members they are.
type Config struct {
	Cluster *cluster.Cluster                             // required
	Ask     func() []invite.Member                       // whom a machine that joins can ask, best first; required
	Cut     func(ctx context.Context)                    // makes this node, and all that it reaches, follow the roster at once; default: nothing
	Health  func(node string) string                     // of a node as this one sees it: "up", "slow", "down"; default: not known
	Rotate  func() error                                 // begins to change this node's key in the tunnel; default: there is none
	Keys    func(node string) []string                   // of a node in the tunnel, the newest first; default: they are not known
	ByHand  func(node string) []netip.AddrPort           // where a node is looked for beside its record; default: nowhere
	SetHand func(node string, at []netip.AddrPort) error // changes that; default: it fails
	Clocks  func() map[string]time.Duration              // how far those of other nodes are ahead; default: not known
	Now     func() time.Time                             // default: time.Now

	// Told is who knows what this node knew at a time of who belongs to the cluster, and
	// how many more are connected; default: nobody.
	Told func(since time.Time) (nodes []string, left int)
}

type api struct{ Config }

// Endpoints returns the endpoints.
func Endpoints(cfg Config) []rest.Endpoint {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Cut == nil {
		cfg.Cut = func(context.Context) {}
	}
	if cfg.Told == nil {
		cfg.Told = func(time.Time) ([]string, int) { return nil, 0 }
	}
	if cfg.Rotate == nil {
		cfg.Rotate = func() error { return errors.New("this node is linked to no other") }
	}
	if cfg.Clocks == nil {
		cfg.Clocks = func() map[string]time.Duration { return nil }
	}
	if cfg.Health == nil {
		cfg.Health = func(string) string { return "" }
	}
	if cfg.Keys == nil {
		cfg.Keys = func(string) []string { return nil }
	}
	if cfg.SetHand == nil {
		cfg.ByHand = func(string) []netip.AddrPort { return nil }
		cfg.SetHand = func(string, []netip.AddrPort) error { return errors.New("this node is linked to no other") }
	}
	a := api{cfg}
	look, change := rest.Any(access.PrivSysAudit, "/system/status"), rest.Any(access.PrivSysModify, "/system/network")
	audit := rest.Any(access.PrivSysAudit, "/") // as that of package audit: they name users, rights and addresses
	const member = "/holdfast/members/{member}"
	return []rest.Endpoint{
		{Method: http.MethodGet, Path: "/holdfast/members", Need: look, Handle: a.list},
		{Method: http.MethodGet, Path: member, Need: look, Handle: a.show},
		{Method: http.MethodPut, Path: member, Need: change, Handle: a.change},
		{Method: http.MethodDelete, Path: member, Need: change, Handle: a.remove},
		{Method: http.MethodPost, Path: member + "/block", Need: change, Handle: a.block},
		{Method: http.MethodPut, Path: member + "/address", Need: change, Handle: a.address},
		{Method: http.MethodGet, Path: "/holdfast/invites", Need: look, Handle: a.invites},
		{Method: http.MethodPost, Path: "/holdfast/invites", Need: change, Handle: a.invite},
		{Method: http.MethodDelete, Path: "/holdfast/invites/{invite}", Need: change, Handle: a.revoke},
		{Method: http.MethodGet, Path: "/holdfast/drafts", Need: look, Handle: a.drafts},
		{Method: http.MethodPost, Path: "/holdfast/drafts", Need: change, Handle: a.submit},
		{Method: http.MethodDelete, Path: "/holdfast/drafts/{draft}", Need: change, Handle: a.discard},
		{Method: http.MethodPost, Path: "/holdfast/keys", Need: change, Handle: a.rotate},
		{Method: http.MethodGet, Path: "/holdfast/operators", Need: look, Handle: a.operators},
		{Method: http.MethodPost, Path: "/holdfast/operators", Need: change, Handle: a.setOperators},
		{Method: http.MethodDelete, Path: "/holdfast/operators", Need: change, Handle: a.vetoOperators},
		{Method: http.MethodGet, Path: "/holdfast/recover", Need: look, Handle: a.survey},
		{Method: http.MethodPost, Path: "/holdfast/recover", Need: change, Handle: a.recover},
		{Method: http.MethodPut, Path: "/holdfast/clock", Need: change, Handle: a.setClock},
		{Method: http.MethodGet, Path: "/holdfast/orphans", Need: audit, Handle: a.orphans},
		{Method: http.MethodDelete, Path: "/holdfast/orphans", Need: change, Handle: a.forgetOrphans},
	}
}

// Roles are the names of all roles that a member may have.
func Roles() []string { return authority.Roles() }

// A Member is a node as the ledger and the group have it.
type Member struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Site    string `json:"site"`
	Role    string `json:"role"`
	State   string `json:"state"`
	Voter   bool   `json:"voter"`    // it votes now
	MayVote bool   `json:"may-vote"` // its role lets it
	Leader  bool   `json:"leader,omitempty"`
	Self    bool   `json:"self,omitempty"`
	Blocked bool   `json:"blocked,omitempty"` // this node keeps it out, though it was not removed
	Signed  bool   `json:"signed"`            // an operator has signed for it
	Joined  int64  `json:"joined"`            // Unix seconds

	Health string   `json:"health,omitempty"`      // of its link, as this node sees it
	Keys   []string `json:"tunnel-keys,omitempty"` // the newest first; only of one that is shown alone, as the next

	Addresses []netip.AddrPort `json:"addresses-by-hand,omitempty"` // where this node looks for it beside
}

// All returns the members, those that were removed if all is true, by name.
func All(c *cluster.Cluster, removed bool) []Member {
	list := []Member{}
	status, view := c.Group().Status(), c.View()
	for id, row := range ledger.Members.All(view) {
		m := row.Body
		if m.State == ledger.Removed && !removed {
			continue
		}
		key, err := authority.ParseNodeID(id)
		if err != nil {
			continue // it never joined: IDs are checked
		}
		_, signed := c.Roster().Chain().Node(key)
		list = append(list, Member{
			ID: id, Name: m.Name, Site: m.Site, Role: m.Role, State: m.State, MayVote: m.Votes,
			Voter: slices.Contains(status.Voters, id), Leader: status.Leader == id, Self: id == c.Self(),
			Blocked: m.State != ledger.Removed && c.Guard().Blocked(cluster.BlockOf(key)), Signed: signed, Joined: row.Created.Unix(),
		})
	}
	slices.SortFunc(list, func(a, b Member) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return list
}

func (a api) list(_ context.Context, c *rest.Call) (any, error) {
	removed := c.Has("removed") && c.Bool("removed")
	list := All(a.Cluster, removed)
	for i := range list {
		list[i].Health = a.Health(list[i].ID)
	}
	return list, c.Err()
}

// find returns the member that a call is about, by its name or ID.
func (a api) find(c *rest.Call) (Member, error) {
	name := c.Text("member")
	if err := c.Err(); err != nil {
		return Member{}, err
	}
	all := All(a.Cluster, true)
	slices.SortStableFunc(all, func(a, b Member) int { // a name may have been taken again
		return compareBool(a.State == ledger.Removed, b.State == ledger.Removed)
	})
	i := slices.IndexFunc(all, func(m Member) bool { return m.ID == name }) // before one that was named so
	if i < 0 {
		i = slices.IndexFunc(all, func(m Member) bool { return m.Name == name })
	}
	if i < 0 {
		return Member{}, &hinted{fmt.Errorf("there is no member %q", name), "`holdfast member list` names them"}
	}
	return all[i], nil
}

func (a api) show(_ context.Context, c *rest.Call) (any, error) {
	m, err := a.find(c)
	m.Keys, m.Health, m.Addresses = a.Keys(m.ID), a.Health(m.ID), a.ByHand(m.ID)
	return m, err
}

// rotate begins to change the key of this node in the tunnel.
func (a api) rotate(context.Context, *rest.Call) (any, error) { return nil, a.Rotate() }

// change sets the state of a member, or its role and vote, which an operator
// signs.
func (a api) change(ctx context.Context, c *rest.Call) (any, error) {
	m, err := a.find(c)
	if err != nil {
		return nil, err
	}
	approve := c.Has("approve") && c.Bool("approve")
	if approve && m.State != ledger.Pending {
		return nil, fmt.Errorf("node %q does not wait for approval: it is %s", m.Name, m.State)
	}
	if c.Has("state") {
		state := c.Text("state")
		key, _ := authority.ParseNodeID(m.ID)
		if state == ledger.Active && m.State == ledger.Active {
			return nil, fmt.Errorf("node %q is not drained: it takes part", m.Name)
		}
		if state == ledger.Removed && m.State != ledger.Pending {
			return nil, &hinted{fmt.Errorf("node %q does not wait for approval: it is %s", m.Name, m.State), "holdfast member remove " + m.Name}
		}
		_, err := a.do(ctx, c, ledger.KindState, ledger.SetState{Node: key, State: state})
		if err == nil && state == ledger.Draining && m.Leader && m.Self && len(a.Cluster.Group().Status().Voters) > 1 {
			err = a.Cluster.Group().Transfer(ctx, "")
		}
		return nil, err
	}
	node, err := a.asNode(m)
	if err != nil {
		return nil, err
	}
	if c.Has("role") {
		node.Role = c.Text("role")
		votes, known := authority.MayVote(node.Role)
		if node.Votes = votes; !known {
			c.Fail("role", "there is no role %q: it is full, replica, cloud, witness or follower", node.Role)
		}
	}
	if node.Role == "" || m.State == ledger.Pending && !approve {
		return nil, &hinted{fmt.Errorf("node %q waits for approval", m.Name), "holdfast member approve " + m.Name}
	}
	if c.Has("vote") {
		node.Votes = c.Bool("vote")
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	if !node.Votes {
		if err := a.mayGo(m); err != nil {
			return nil, err
		}
	}
	return a.signed(ctx, c, authority.AddNode, node)
}

// mayGo refuses to take the vote from the only node that has one: nothing could be agreed
// on any more, and what it agreed on alone from then on no other would have.
func (a api) mayGo(m Member) error {
	if !m.Voter || len(a.Cluster.Group().Status().Voters) > 1 {
		return nil
	}
	return &hinted{fmt.Errorf("node %q is the only one that votes", m.Name),
		"`holdfast member drain " + m.Name + "`, and wait until `holdfast member list` shows that another votes; if it is lost for good: `holdfast member recover-quorum` on a node that is left"}
}

// asNode is what the chain says of a member, or would.
func (a api) asNode(m Member) (authority.Node, error) {
	key, err := authority.ParseNodeID(m.ID)
	if err != nil {
		return authority.Node{}, err
	}
	if n, is := a.Cluster.Roster().Chain().Node(key); is {
		return n, nil
	}
	if m.State == ledger.Removed {
		return authority.Node{}, fmt.Errorf("node %q was removed; it joins again with a new key", m.Name)
	}
	return authority.Node{Key: key, Name: m.Name, Site: m.Site, Role: m.Role, Votes: m.MayVote}, nil
}

// signed drafts a link, or gives the signed one to the ledger.
func (a api) signed(ctx context.Context, c *rest.Call, kind uint8, body any) (any, error) {
	if !c.Has("link") {
		d := operator.NewDraft(a.Cluster.Roster().Chain(), kind, body)
		if r, is := body.(authority.Removal); is {
			id := r.Key.NodeID()
			d = d.Called(id, a.names().Replace(id))
		}
		return d, nil
	}
	link, err := operator.Signed(c.Text("link"), kind, body)
	if err != nil {
		return nil, err
	}
	_, err = a.do(ctx, c, ledger.KindAuthority, ledger.Link{Link: link})
	if r, is := body.(authority.Removal); is && (errors.Is(err, consensus.ErrNoLeader) || errors.Is(err, consensus.ErrUnknown)) {
		// It is cut off all the same, wherever this is heard of.
		if err = overtaken(a.Cluster.Believe(link)); a.Cluster.RemovalSigned(r.Key.NodeID()) {
			err = nil // the ledger has it by now
		}
	}
	if err == nil {
		a.Cut(ctx)
	}
	return nil, err
}

func (a api) do(ctx context.Context, c *rest.Call, kind uint16, body any) (ledger.Result, error) {
	r, err := a.Cluster.Client().Do(ctx, string(c.Who), c.Source(), kind, body)
	if err != nil && c.Has("link") {
		err = a.tooFew(err, c.Text("link"))
	}
	return r, overtaken(err)
}

// tooFew says of a signed link that was refused who has not signed it, if that is why.
func (a api) tooFew(err error, text string) error {
	link, wrong := operator.ReadLink(text)
	if wrong != nil || operator.Overtaken(err) || errors.Is(err, consensus.ErrNoLeader) {
		return err
	}
	d, wrong := operator.DraftOf(a.Cluster.Roster().Chain(), link)
	if wrong != nil {
		return err
	}
	t, wrong := d.Tally()
	if wrong != nil || t.Lacks() == "" {
		return err
	}
	return &hinted{fmt.Errorf("%w: %s", err, t.Lacks()), operator.More}
}

// overtaken says of a signed link that came too late what can be done about it.
func overtaken(err error) error {
	if operator.Overtaken(err) {
		return &hinted{fmt.Errorf("something else was signed since this was drafted, or this was done already: %w", err), operator.Again}
	}
	return err
}

// remove removes a member for good. With eject, whoever can be reached cuts it
// off at once, before anything is agreed on.
func (a api) remove(ctx context.Context, c *rest.Call) (any, error) {
	m, err := a.find(c)
	if err != nil {
		return nil, err
	}
	eject := c.Has("eject") && c.Bool("eject")
	switch {
	case m.Self:
		return nil, &hinted{errors.New("a node does not remove itself"), "run it on another member; to give up a cluster of one, remove its directory"}
	case m.State == ledger.Pending:
		return nil, &hinted{fmt.Errorf("node %q waits for approval, and takes no part", m.Name), "holdfast member deny " + m.Name}
	case m.State == ledger.Removed:
		return nil, fmt.Errorf("node %q was removed before", m.Name)
	case m.State != ledger.Draining && !eject:
		return nil, &hinted{fmt.Errorf("node %q takes part: it has to be drained first", m.Name),
			"`holdfast member drain " + m.Name + "`, then remove it; if it is in hostile hands, `holdfast member eject " + m.Name + "` cuts it off at once"}
	}
	if !eject {
		if err := a.mayGo(m); err != nil {
			return nil, err
		}
	}
	node, err := a.asNode(m)
	if err != nil {
		return nil, err
	}
	if eject && !c.Has("link") {
		if err := a.Cluster.Block(string(c.Who), node.Key, "ejected"); err != nil {
			return nil, err
		}
		a.Cut(ctx)
	}
	if a.Cluster.RemovalSigned(m.ID) {
		return nil, &hinted{fmt.Errorf("operators have signed already that node %q is removed: it is cut off here, and the ledger has not agreed on it yet", m.Name),
			"nothing while there is a quorum: it is told within seconds; without one: `holdfast member recover-quorum`"}
	}
	if !m.Signed {
		return a.signed(ctx, c, authority.AddNode, node) // so that it can be removed
	}
	answer, err := a.signed(ctx, c, authority.RemoveNode, authority.Removal{Key: node.Key})
	if err != nil || !c.Has("link") {
		return answer, err
	}
	return a.heard(ctx, m), nil
}

// block keeps a node out here, without asking anybody.
func (a api) block(_ context.Context, c *rest.Call) (any, error) {
	m, err := a.find(c)
	if err != nil {
		return nil, err
	}
	reason := ""
	if c.Has("reason") {
		reason = c.Text("reason")
	}
	key, err := authority.ParseNodeID(m.ID)
	if err != nil {
		return nil, err
	}
	return nil, a.Cluster.Block(string(c.Who), key, reason)
}

// address says where this node looks for another beside what that has said of itself.
func (a api) address(_ context.Context, c *rest.Call) (any, error) {
	m, err := a.find(c)
	if err != nil {
		return nil, err
	}
	var at []netip.AddrPort
	for _, text := range c.Texts("address") {
		one, err := netip.ParseAddrPort(text)
		if err != nil {
			c.Fail("address", "%q is no address of a mesh port, want ADDRESS:PORT", text)
		}
		at = append(at, one)
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	if m.Self {
		return nil, &hinted{errors.New("this is the node itself"), "say at another node where this one is"}
	}
	return nil, a.SetHand(m.ID, at)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// A hinted error has a known cure.
type hinted struct {
	error
	cure string
}

func (e *hinted) Unwrap() error { return e.error }
func (e *hinted) Hint() string  { return e.cure }
