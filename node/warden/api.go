package warden

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/guard"
	"github.com/holdfast-mesh/holdfast/node/operator"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// A Keeper is whose guard the endpoints are about.
type Keeper interface {
	Guard() *guard.Guard
	Chain() *authority.Chain
	Self() string
	Release() // has what was just lifted count at once
}

type api struct {
	k   Keeper
	age func() time.Duration
}

// Endpoints returns the endpoints about the guard of this node. Whoever may
// change the node tightens it; to loosen it takes the operators' signatures: the
// call with draft answers what to sign, see [operator.Draft].
func Endpoints(k Keeper, age func() time.Duration) []rest.Endpoint {
	a := api{k, age}
	look, change := rest.Any(access.PrivSysAudit, "/system/status"), rest.Any(access.PrivSysModify, "/system/network")
	return []rest.Endpoint{
		{Method: http.MethodGet, Path: "/holdfast/guard", Need: look, Handle: a.show},
		{Method: http.MethodPut, Path: "/holdfast/guard/floor", Need: change, Handle: a.raise},
		{Method: http.MethodPut, Path: "/holdfast/guard/breaker", Need: change, Handle: a.breaker},
		{Method: http.MethodPost, Path: "/holdfast/guard/release", Need: change, Handle: a.release},
		{Method: http.MethodDelete, Path: "/holdfast/guard/release/{id}", Need: change, Handle: a.veto},
	}
}

// A State is what the guard holds, as the API shows it.
type State struct {
	Breaker string    `json:"breaker"`    // why it is open; "": it is closed
	Ledger  int64     `json:"ledger-age"` // seconds for which it was not heard of
	Clock   int64     `json:"clock"`      // of the guard, in seconds
	Floors  []Floor   `json:"floors"`
	Blocks  []Block   `json:"blocks"`
	Waiting []Waiting `json:"waiting"`
}

// The parts of a State.
type (
	Floor struct {
		Scope     string `json:"scope"`
		MinAge    int64  `json:"min-age,omitempty"` // seconds
		MinCopies int    `json:"min-copies,omitempty"`
		LockUntil int64  `json:"lock-until,omitempty"` // Unix seconds
	}
	Block struct {
		What   string `json:"what"`
		Reason string `json:"reason,omitempty"`
	}
	// Waiting is a loosening whose delay is not over.
	Waiting struct {
		ID     string `json:"id"`
		What   string `json:"what"`
		Left   int64  `json:"left"` // seconds
		Reason string `json:"reason"`
	}
)

// See returns what a guard holds.
func See(g *guard.Guard, age time.Duration) State {
	s := State{Breaker: g.Tripped(), Ledger: int64(age / time.Second), Clock: g.Clock(), Floors: []Floor{}, Blocks: []Block{}, Waiting: []Waiting{}}
	for _, f := range g.Floors() {
		s.Floors = append(s.Floors, Floor(f))
	}
	for _, b := range g.Blocks() {
		s.Blocks = append(s.Blocks, Block(b))
	}
	for _, p := range g.Pending() {
		s.Waiting = append(s.Waiting, Waiting{hex.EncodeToString(p.Request.ID[:]), operator.Describe(p.Request), max(0, p.Due-s.Clock), p.Request.Reason})
	}
	return s
}

// Warnings are what an operator of the node should look at.
func (s State) Warnings() (all []string) {
	if s.Breaker != "" {
		all = append(all, "the breaker is open, and nothing in the trash goes for good: "+s.Breaker+"; see `holdfast guard show`")
	}
	if age := time.Duration(s.Ledger) * time.Second; age > MaxAge {
		all = append(all, "the ledger was "+notHeard(age)+", and the trash is not emptied")
	}
	for _, w := range s.Waiting {
		all = append(all, fmt.Sprintf("operators have signed to %s, which counts in %s; `holdfast guard veto %s` stops it", w.What, time.Duration(w.Left)*time.Second, w.ID))
	}
	return all
}

func (a api) show(context.Context, *rest.Call) (any, error) { return See(a.k.Guard(), a.age()), nil }

// floor reads a floor.
func floor(c *rest.Call) (f guard.Floor) {
	f.Scope = c.Text("scope")
	if c.Has("min-age") {
		f.MinAge = c.Int("min-age", 0, 1<<40)
	}
	if c.Has("min-copies") {
		f.MinCopies = int(c.Int("min-copies", 0, 64))
	}
	if c.Has("lock-until") {
		f.LockUntil = c.Int("lock-until", 0, 1<<40)
	}
	return f
}

func (a api) raise(_ context.Context, c *rest.Call) (any, error) {
	f := floor(c)
	if err := c.Err(); err != nil {
		return nil, err
	}
	return nil, a.k.Guard().Raise(string(c.Who), f)
}

func (a api) breaker(_ context.Context, c *rest.Call) (any, error) {
	open, reason := c.Bool("open"), c.Text("reason")
	if err := c.Err(); err != nil {
		return nil, err
	}
	if open {
		return nil, a.k.Guard().Trip(string(c.Who), reason)
	}
	return nil, a.k.Guard().CloseBreaker(string(c.Who), reason)
}

// wanted reads what is to be loosened.
func wanted(c *rest.Call) guard.Request {
	r := guard.Request{Reason: c.Text("reason")}
	if c.Has("scope") {
		f := floor(c)
		r.Floor = &f
	}
	if c.Has("block") {
		r.Unblock = c.Text("block")
	}
	r.Sweep = c.Has("trash") && c.Bool("trash")
	return r
}

// release loosens: with draft it answers what to sign, with request it takes
// what was signed.
func (a api) release(_ context.Context, c *rest.Call) (any, error) {
	self, err := authority.ParseNodeID(a.k.Self())
	if err != nil {
		return nil, err
	}
	if c.Has("request") {
		r, err := operator.ReadRequest(c.Text("request"))
		if err := errors.Join(err, c.Err()); err != nil {
			return nil, err
		}
		if err := a.ask(self, r); err != nil {
			return nil, err
		}
		return See(a.k.Guard(), a.age()), nil
	}
	r := wanted(c)
	if r.Unblock != "" && !a.k.Guard().Blocked(r.Unblock) {
		c.Fail("block", "this node keeps out nothing that is called %q; `holdfast guard show` names what it does", r.Unblock)
	}
	r.Cluster, r.Node = a.k.Chain().Cluster(), self
	rand.Read(r.ID[:]) // never fails
	if err := c.Err(); err != nil {
		return nil, err
	}
	if err := r.Check(); err != nil {
		return nil, err
	}
	return operator.NewRequest(a.k.Chain(), r), nil
}

// ask has the guard take what was signed.
func (a api) ask(self authority.Key, r guard.Request) error {
	chain := a.k.Chain()
	if r.Cluster != chain.Cluster() {
		return &hinted{errors.New("the request is for a node of another cluster"), "have it made again, with `holdfast guard release … --sign-to FILE` on the node whose guard it is for"}
	}
	if r.Node != self {
		name := r.Node.NodeID()
		if n, is := chain.Node(r.Node); is {
			name = n.Name
		}
		return &hinted{fmt.Errorf("the request is for node %s (%s), and this is another one", name, r.Node.NodeID()), "`holdfast operator submit FILE` on " + name}
	}
	if t, err := operator.NewRequest(chain, r).Tally(); err != nil || !t.Enough() {
		return errors.Join(err, &hinted{fmt.Errorf("loosen the guard: %w: %s", authority.ErrRefused, t), operator.More})
	}
	if err := a.k.Guard().Ask(chain, self, r); err != nil {
		return err
	}
	err := a.k.Guard().Settle()
	a.k.Release()
	return err
}

// A hinted error has a known cure.
type hinted struct {
	error
	cure string
}

func (e *hinted) Unwrap() error { return e.error }
func (e *hinted) Hint() string  { return e.cure }

// fewest is how many digits of an ID are taken for all of it.
const fewest = 4

// waiting finds a loosening that waits by the beginning of its ID.
func (a api) waiting(id string) (found [16]byte, err error) {
	if len(id) < fewest {
		return found, &hinted{fmt.Errorf("%.40q is no ID of a request: it has at least 4 digits", id), "`holdfast guard show` names them"}
	}
	n := 0
	for _, p := range a.k.Guard().Pending() {
		if strings.HasPrefix(hex.EncodeToString(p.Request.ID[:]), strings.ToLower(id)) {
			found = p.Request.ID
			n++
		}
	}
	switch n {
	case 0:
		return found, &hinted{fmt.Errorf("there is no request %.40q", id), "`holdfast guard show` names them"}
	case 1:
		return found, nil
	}
	return found, &hinted{fmt.Errorf("%d requests begin with %.40q", n, id), "name more digits: `holdfast guard show` has all"}
}

func (a api) veto(_ context.Context, c *rest.Call) (any, error) {
	id, err := a.waiting(c.Text("id"))
	if err != nil {
		return nil, err
	}
	v := guard.Veto{ID: id}
	if c.Has("reason") {
		v.Reason = c.Text("reason")
	}
	return nil, a.k.Guard().Veto(string(c.Who), v)
}
