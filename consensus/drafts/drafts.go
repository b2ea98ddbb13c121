// Package drafts keeps what people decide while there is no quorum, until there
// is one. A draft is a change of the ledger with the versions of the rows that
// its author saw. It changes nothing before it is applied: a user in a draft
// cannot log in.
//
// Drafts are made one on top of the other, on a fork of the ledger, so that what
// would be refused is refused at once, and a permission can be given to a user
// who is a draft. When there is a quorum they are submitted in their order. One
// that does not fit any more, since somebody else has changed a row of it, or
// its author has other rights, stays, with the reason, until it is discarded.
package drafts

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/access/statefile"
	"github.com/holdfast-mesh/holdfast/consensus/actor"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
)

// Config says whose drafts they are. All but Applied and Log are
// required.
type Config struct {
	File   string // where they are kept
	Key    ed25519.PrivateKey
	Ledger *ledger.Ledger
	// Submit has a command applied and returns what Apply returned.
	Submit func(ctx context.Context, command []byte) ([]byte, error)
	// Fresh returns nil when there is a quorum, and all that it has agreed on is
	// in the ledger here.
	Fresh func(ctx context.Context) error
	// Check says what is wrong with a state, all rows together.
	Check func(*ledger.Ledger) error
	// Rights is what an actor may do now, in short; "": nothing.
	Rights func(actor string) string
	// Applied follows what has changed when drafts were applied; default: nothing.
	Applied func() error
	Log     *slog.Logger // default: discard
}

// A Draft is a change that is not made yet.
type Draft struct {
	Number  uint64 `json:"number"`
	Made    int64  `json:"made"` // Unix seconds, by the clock of this node
	Actor   string `json:"actor"`
	Address string `json:"address,omitempty"`
	Why     string `json:"why,omitempty"` // it is not submitted any more; "": it waits
	Request []byte `json:"request"`
	Rights  string `json:"rights"` // of its actor, when it was made
	Body    []byte `json:"body"`   // a [ledger.Change]
}

// Subject says which rows it is about.
func (d Draft) Subject() string {
	var c ledger.Change
	if err := canon.Decode(d.Body, &c); err != nil {
		return "what cannot be read: " + err.Error()
	}
	return c.Subject()
}

// state is what the file has.
type state struct {
	Next   uint64            `json:"next"` // number of the next draft
	Drafts []Draft           `json:"drafts"`
	Done   map[uint64]uint64 `json:"done,omitempty"` // the index of drafts that were applied, while others are on top of them
}

// maxDrafts bounds how many there are.
const maxDrafts = 256

var kind = statefile.Kind[state]{
	Name: "drafts", Version: 1, Limit: 64 << 20,
	New: func() *state { return &state{Next: 1} },
	Clone: func(s *state) *state {
		return &state{s.Next, slices.Clone(s.Drafts), maps.Clone(s.Done)}
	},
	Tidy: func(s *state) {
		if !slices.ContainsFunc(s.Drafts, Draft.waits) {
			s.Done = nil
		}
	},
	Check: func(s *state) error {
		if len(s.Drafts) > maxDrafts {
			return fmt.Errorf("%d drafts wait for a quorum, which is the limit", maxDrafts)
		}
		return nil
	},
	Loss: "changes that were made while there was no quorum have to be made again",
}

func (d Draft) waits() bool { return d.Why == "" }

// Drafts are those of one node. Its methods may be called concurrently.
type Drafts struct {
	cfg  Config
	file *statefile.File[state]
}

// New opens the drafts. It starts nothing.
func New(cfg Config) (*Drafts, error) {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if cfg.Applied == nil {
		cfg.Applied = func() error { return nil }
	}
	file, err := statefile.Open(cfg.File, kind)
	if err != nil {
		return nil, err
	}
	return &Drafts{cfg, file}, nil
}

// List returns the drafts, oldest first.
func (d *Drafts) List() []Draft { return d.file.State().Drafts }

// Waiting tells whether a draft waits for a quorum.
func (d *Drafts) Waiting() bool { return slices.ContainsFunc(d.List(), Draft.waits) }

// Kept says that a change is a draft, and not made.
type Kept struct{ Number uint64 }

func (k *Kept) Error() string {
	return fmt.Sprintf("there is no quorum: nothing is changed yet; it is kept as draft %d and submitted when there is one", k.Number)
}

// Hint says what an operator can do about it.
func (k *Kept) Hint() string {
	return fmt.Sprintf("`holdfast draft list` shows it, `holdfast draft discard %d` drops it; if most voters are lost for good: `holdfast member recover-quorum`", k.Number)
}

// Draft is its number.
func (k *Kept) Draft() uint64 { return k.Number }

// An Error is an error with a known cure.
type Error struct{ Err error }

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Hint says what an operator can do about it.
func (e *Error) Hint() string {
	return "there is no quorum, and drafts wait for one already: `holdfast draft list`"
}

// base is where the indexes of drafts begin: no log gets there. The row of a
// draft has the version base + its number.
const base = 1 << 62

// Make has change make one change with the client that it is given, on top of
// the drafts that there are, and keeps that as a draft. It returns [Kept] then,
// nil if there was nothing to change, else why it is refused.
func (d *Drafts) Make(ctx context.Context, change func(context.Context, *ledger.Client) error) error {
	var kept uint64
	err := d.file.Update(ctx, func(s *state) error {
		draft, err := d.draft(ctx, s, change)
		if err != nil || draft.Body == nil {
			return err
		}
		kept = draft.Number
		s.Next++
		s.Drafts = append(s.Drafts, draft)
		return nil
	})
	if err != nil || kept == 0 {
		return err
	}
	return &Kept{kept}
}

// draft returns the change as a draft, without a body if there is nothing to do.
func (d *Drafts) draft(ctx context.Context, s *state, change func(context.Context, *ledger.Client) error) (Draft, error) {
	fork, who := d.fork(s), actor.Of(ctx)
	draft := Draft{Number: s.Next, Made: time.Now().Unix(), Actor: who, Rights: d.cfg.Rights(who)}
	err := change(ctx, &ledger.Client{Key: d.cfg.Key, Ledger: fork, Submit: func(_ context.Context, b []byte) ([]byte, error) {
		if draft.Body != nil {
			return nil, errors.New("it takes more than one command, which a draft cannot be")
		}
		c, _, err := ledger.ReadChange(b)
		if err != nil {
			return nil, err
		}
		answer, err := fork.Apply(base+draft.Number, time.Now(), b)
		if err != nil {
			return nil, err
		}
		if r, err := ledger.ReadResult(answer); err != nil || r.Err() != nil {
			return answer, err
		}
		draft.Address, draft.Request, draft.Body = c.Address, c.Request[:], c.Body
		return answer, nil
	}})
	if err != nil && d.Waiting() {
		err = &Error{err}
	}
	return draft, err
}

// fork returns the ledger as it would be with all drafts that wait.
func (d *Drafts) fork(s *state) *ledger.Ledger {
	fork := d.cfg.Ledger.Fork()
	for _, draft := range s.Drafts {
		if !draft.waits() {
			continue
		}
		command, _, err := d.command(fork.View(), s, draft)
		if err == nil {
			_, err = fork.Apply(base+draft.Number, time.Now(), command)
		}
		if err != nil {
			d.cfg.Log.Debug("a draft does not fit any more", "draft", draft.Number, "err", err)
		}
	}
	return fork
}

// command returns the command of a draft for the state of a view: for the
// incarnation of that, and with the rows of drafts below it as they are by now.
// fit says whether it builds on nothing that was not applied.
func (d *Drafts) command(v ledger.View, s *state, draft Draft) (command []byte, fit bool, err error) {
	var c ledger.Change
	if err := canon.Decode(draft.Body, &c); err != nil {
		return nil, false, err
	}
	fit = true
	for i := range c.Ops {
		o := &c.Ops[i]
		if version, is := o.Made(v); is {
			o.Expect = version
		}
		switch below, applied := s.Done[o.Expect-base]; {
		case o.Mark(): // what it stands for is checked instead, see [Config.Check]
			row, _ := ledger.Settings.Get(v, o.Key)
			o.Expect = row.Version
		case o.Expect > base && applied:
			o.Expect = below
		case o.Expect > base:
			fit = false
		}
	}
	chain := v.Chain()
	cmd := ledger.Command{
		Kind: ledger.KindChange, Actor: draft.Actor, Address: draft.Address, Node: authority.PublicKey(d.cfg.Key),
		Incarnation: chain.Incarnation(), Body: canon.Encode(c),
	}
	if chain != nil {
		cmd.Cluster = chain.Cluster()
	}
	copy(cmd.Request[:], draft.Request)
	return cmd.Sign(d.cfg.Key), fit, nil
}

// Discard drops a draft. What is on top of it is not applied any more either.
func (d *Drafts) Discard(ctx context.Context, number uint64) error {
	return d.file.Update(ctx, func(s *state) error {
		i := slices.IndexFunc(s.Drafts, func(o Draft) bool { return o.Number == number })
		if i < 0 {
			return fmt.Errorf("there is no draft %d; `holdfast draft list` names them", number)
		}
		gone := s.Drafts[i]
		s.Drafts = slices.Delete(s.Drafts, i, i+1)
		s.orphaned(gone)
		return nil
	})
}
