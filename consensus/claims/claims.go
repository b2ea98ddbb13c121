// Package claims lets one node of several do a thing: run a slot of a job, write
// to a bucket, send a digest.
//
// A node that wants to has a session, which the leader of the ledger keeps open
// as long as it hears of the node every ten seconds; a session that it has not
// heard of for 45 s it ends, by an entry. In a session the node claims a
// resource, by an entry too. The index of that entry, behind the incarnation of
// the cluster, is the fence: whoever claims later has a greater one.
//
// A lease alone protects nothing, since a node may sleep between looking at its
// clock and writing. So the fence goes with every effect, and what is written to
// refuses a smaller one than it has seen: the guard of a node, a bucket's owner
// object, a peer. The lease only decides who tries. A node that was not answered
// for 30 s by its own clock, the time that it slept counted, stops by itself: the
// context of its work ends with [ErrLost].
//
// Nothing here is needed for what a node does to its own datastores.
package claims

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
)

// Times say how patient sessions are. Every node has the same.
type Times struct {
	Alive time.Duration // between two words to the leader
	Stop  time.Duration // without an answer a node stops its work after this
	TTL   time.Duration // without a word the leader ends a session after this
}

// WAN is the default: of the profile of that name.
var WAN = Times{10 * time.Second, 30 * time.Second, 45 * time.Second}

// Config says whose claims they are. All but Times and Log are required.
type Config struct {
	Client *ledger.Client
	// Ask puts a question to whoever leads, where Answer of its Claims is called.
	Ask func(ctx context.Context, question []byte) ([]byte, error)
	// Leads tells whether this node leads.
	Leads func() bool
	// Pass lets a run go on, and none with a smaller fence from then on: the guard.
	Pass  func(resource string, f ledger.Fence) error
	Times Times
	Log   *slog.Logger // default: discard
}

// Claims are those of one node. Its methods may be called concurrently, and
// claim only while Run runs.
type Claims struct {
	cfg  Config
	self authority.Key

	opening chan struct{} // held while a session is opened

	mu      sync.Mutex
	session *session // nil: there is none
	unended []end    // runs that have ended and whose claims have not
	heard   map[string]word
	led     bool
}

// A session is a stretch of time in which this node is known to live.
type session struct {
	epoch uint64
	ctx   context.Context // ends when it is lost
	lose  context.CancelCauseFunc
	acked time.Time // when the word was sent that was answered last
}

var (
	// ErrTaken is an error that says who does it: see [Taken].
	ErrTaken = errors.New("another node does it")
	// ErrDone says that a slot was done before.
	ErrDone = errors.New("it was done before")
	// ErrLost ends the context of work whose session was lost: another node may
	// do it from now on.
	ErrLost = errors.New("this node was not heard of, and another may do it now")
	// ErrStalled is what work returns that gets nowhere here, and that another node is to
	// do. The ledger has to have [authority.LevelDelay].
	ErrStalled = errors.New("it got nowhere here, and is left to another node")
)

// Taken says who does what was to be claimed.
type Taken struct {
	Resource string
	Node     string // its ID
	Fence    ledger.Fence
}

func (t *Taken) Error() string { return fmt.Sprintf("claim %s: %v: %s", t.Resource, ErrTaken, t.Node) }
func (t *Taken) Unwrap() error { return ErrTaken }

// New returns the claims of a node. It starts nothing.
func New(cfg Config) (*Claims, error) {
	if cfg.Client == nil || cfg.Ask == nil || cfg.Leads == nil || cfg.Pass == nil {
		return nil, errors.New("claims: no client, or nobody to ask")
	}
	cfg.Times = cmp.Or(cfg.Times, WAN)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	return &Claims{cfg: cfg, self: authority.PublicKey(cfg.Client.Key), opening: make(chan struct{}, 1), heard: map[string]word{}}, nil
}

// Hold claims a resource for as long as do runs, and has others wait so long.
// It fails at once with [ErrTaken] if another has it. The context of do ends
// with [ErrLost] when the claim may not be ours any more; what do writes is to
// carry the fence, and to be refused by whoever has seen a greater one.
func (c *Claims) Hold(ctx context.Context, resource string, do func(ctx context.Context, fence ledger.Fence) error) error {
	return c.hold(ctx, resource, time.Now().UnixMicro(), false, do)
}

// Slot is Hold for a slot of a job: the time at which it was due. It fails with
// [ErrDone] if the slot was done; one whose run has failed may be run again. A run
// that was cut short since ctx ended, as a node does, has not failed: it is lost
// with the session, and others may do the slot then.
func (c *Claims) Slot(ctx context.Context, job string, slot time.Time, do func(ctx context.Context, fence ledger.Fence) error) error {
	return c.hold(ctx, job, slot.Unix(), true, do)
}

func (c *Claims) hold(ctx context.Context, resource string, slot int64, leave bool, do func(context.Context, ledger.Fence) error) error {
	s, err := c.open(ctx)
	if err != nil {
		return fmt.Errorf("claim %s: %w", resource, err)
	}
	fence, err := c.claim(ctx, s, resource, slot)
	if err != nil {
		return err
	}
	work, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.ctx, func() { cancel(context.Cause(s.ctx)) })()
	err = c.cfg.Pass(resource, fence)
	if err == nil {
		err = do(work, fence)
	}
	if leave && ctx.Err() != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	e := end{s.epoch, ledger.EndClaim{Job: resource, Slot: slot, Fence: fence, State: ledger.Ended}}
	switch {
	case errors.Is(err, ErrStalled):
		e.body.State = ledger.Stalled
	case err != nil:
		e.body.State = ledger.Failed
	}
	return errors.Join(err, c.finish(ctx, s, e))
}

// claim asks for the claim, again with the same request as long as it is not
// known what has become of it.
func (c *Claims) claim(ctx context.Context, s *session, resource string, slot int64) (ledger.Fence, error) {
	command := c.cfg.Client.Command("node", "", ledger.KindClaim, ledger.NewClaim{Job: resource, Slot: slot, Epoch: s.epoch})
	r, err := c.cfg.Client.Send(ctx, command)
	var refused *ledger.Error
	for try := 0; err != nil && !errors.As(err, &refused) && try < 2 && ctx.Err() == nil; try++ {
		r, err = c.cfg.Client.Send(ctx, command)
	}
	switch {
	case err == nil && r.Fence != nil:
		return *r.Fence, nil
	case refused == nil:
		// Whether we have it is not known: in the next session we have not.
		c.drop(s, fmt.Errorf("%w: what became of a claim is not known", ErrLost))
		return ledger.Fence{}, fmt.Errorf("claim %s: %w", resource, err)
	case refused.Result.Code == ledger.Conflict && refused.Result.Fence != nil:
		return ledger.Fence{}, c.taken(resource, slot, *refused.Result.Fence)
	case refused.Result.Text == ledger.TooEarly:
		return ledger.Fence{}, fmt.Errorf("claim %s: %w", resource, ErrNotYet)
	}
	return ledger.Fence{}, fmt.Errorf("claim %s: %w", resource, err)
}

// taken says who has a claim.
func (c *Claims) taken(resource string, slot int64, fence ledger.Fence) error {
	t := &Taken{Resource: resource, Fence: fence}
	v := c.cfg.Client.Ledger.View()
	if row, is := ledger.Claims.Get(v, ledger.ClaimKey(resource, slot)); is && row.Body.Fence == fence && row.Body.State == ledger.Ended {
		return fmt.Errorf("claim %s: %w", resource, ErrDone)
	}
	for _, row := range ledger.Claims.All(v) {
		if row.Body.Job == resource && row.Body.Fence == fence {
			t.Node = row.Body.Owner.NodeID()
		}
	}
	return t
}

// An end is what became of a run in a session.
type end struct {
	epoch uint64
	body  ledger.EndClaim
}

// finish says what became of a run. Who cannot say so now does it later; a run
// that was superseded is an error, whatever it did.
func (c *Claims) finish(ctx context.Context, s *session, e end) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.cfg.Times.Alive)
	defer cancel()
	err := c.end(ctx, e)
	var refused *ledger.Error
	switch {
	case errors.As(err, &refused):
		return fmt.Errorf("end the claim of %s: %w", e.body.Job, errors.Join(ErrLost, err))
	case s.ctx.Err() != nil:
		return fmt.Errorf("end the claim of %s: %w", e.body.Job, context.Cause(s.ctx))
	case err != nil:
		c.mu.Lock()
		c.unended = append(c.unended, e)
		c.mu.Unlock()
	}
	return nil
}

func (c *Claims) end(ctx context.Context, e end) error {
	_, err := c.cfg.Client.Do(ctx, "node", "", ledger.KindEnd, e.body)
	return err
}

// Has returns who holds a resource now, as far as it is known here.
func Has(v ledger.View, resource string) (ledger.Claim, bool) {
	for _, row := range ledger.Claims.All(v) {
		if row.Body.Job == resource && row.Body.State == ledger.Running {
			return row.Body, true
		}
	}
	return ledger.Claim{}, false
}
