package ledger

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// The kinds of command. A number is never used again.
const (
	KindChange     uint16 = 1  // body [Change]; by a node in the role full, or about the node itself
	KindAuthority  uint16 = 2  // body [Link]; by whoever has a valid link
	KindJoin       uint16 = 3  // body [Join]; by the member that was asked
	KindInvite     uint16 = 4  // body [NewInvite]; by a node in the role full
	KindRevoke     uint16 = 5  // body [Revoke]; likewise
	KindRecord     uint16 = 6  // body [Record]; by the node itself
	KindSession    uint16 = 7  // body [OpenSession]; by the node itself
	KindExpire     uint16 = 8  // body [ExpireSession]; by the leader
	KindClaim      uint16 = 9  // body [NewClaim]; by the node that wants to do it
	KindEnd        uint16 = 10 // body [EndClaim]; by the node that did it
	KindLevel      uint16 = 11 // body [RaiseLevel]; by the leader
	KindCheckpoint uint16 = 12 // body [NewCheckpoint]; by any member, signed by the origin
	KindState      uint16 = 13 // body [SetState]; by a node in the role full, or the node itself
	KindClock      uint16 = 14 // body [SetClock]; by a node in the role full; from level 4 on
)

// ignorable marks kinds that a program which does not know them may skip.
const ignorable uint16 = 1 << 15

// A Command is what somebody wants, where.
type Command struct {
	Kind        uint16        `cbor:"1,keyasint"`
	Request     [16]byte      `cbor:"2,keyasint"` // random; a command with the same is the same
	Actor       string        `cbor:"3,keyasint"` // who: "op@pbs", "op@pbs!tok", or "node" for the node itself
	Address     string        `cbor:"4,keyasint,omitempty"`
	Node        authority.Key `cbor:"5,keyasint"` // where, and who signs
	Cluster     [16]byte      `cbor:"6,keyasint"`
	Incarnation uint64        `cbor:"7,keyasint"`
	Body        []byte        `cbor:"8,keyasint"`
}

// signed is what goes through the log: the bytes of the command, which are
// never written anew, and the node's signature of them.
type signed struct {
	Version uint8    `cbor:"1,keyasint"`
	Command []byte   `cbor:"2,keyasint"`
	Sig     [64]byte `cbor:"3,keyasint"`
}

const (
	commandVersion = 1
	commandDomain  = "holdfast/cmd/1\x00"
	maxBody        = 64 << 10
	maxActor       = 200
)

// NewRequest returns a request ID.
func NewRequest() (id [16]byte) {
	rand.Read(id[:]) // never fails
	return id
}

// Sign returns the bytes of a command for the log, signed by its node.
func (c Command) Sign(key ed25519.PrivateKey) []byte {
	b := canon.Encode(c)
	return canon.Encode(signed{commandVersion, b, [64]byte(ed25519.Sign(key, append([]byte(commandDomain), b...)))})
}

// A Code is what became of a command.
type Code uint8

// The codes of results.
const (
	Done      Code = iota
	Conflict       // something is not what the author saw
	Refused        // not allowed, or not possible
	Skipped        // of an ignorable kind that this program does not know
	Forbidden      // the signature or the role of the node does not allow it
)

func (c Code) String() string {
	if int(c) < len(codes) {
		return codes[c]
	}
	return fmt.Sprintf("code %d", c)
}

var codes = [...]string{"done", "changed by somebody else", "refused", "skipped", "not permitted"}

// A Result is what became of a command.
type Result struct {
	Code  Code   `cbor:"1,keyasint"`
	Text  string `cbor:"2,keyasint,omitempty"` // why not
	Index uint64 `cbor:"3,keyasint"`           // of the command when it was first applied
	Fence *Fence `cbor:"4,keyasint,omitempty"` // of a claim
	Key   string `cbor:"5,keyasint,omitempty"` // of what is in the way
	keep  bool   // what it changed stays, though it was refused
}

// ReadResult reads what [Ledger.Apply] returned.
func ReadResult(b []byte) (r Result, err error) {
	if err := canon.Decode(b, &r); err != nil {
		return r, fmt.Errorf("read the result of a command: %w", err)
	}
	return r, nil
}

// Err is nil if the command did what it should.
func (r Result) Err() error {
	if r.Code == Done || r.Code == Skipped {
		return nil
	}
	return &Error{r}
}

// An Error is a result that is not [Done].
type Error struct{ Result Result }

func (e *Error) Error() string {
	if e.Result.Key != "" {
		return fmt.Sprintf("%s: %s: %s", e.Result.Code, e.Result.Key, e.Result.Text)
	}
	return fmt.Sprintf("%s: %s", e.Result.Code, e.Result.Text)
}

// Hint says what an operator can do about it.
func (e *Error) Hint() string {
	if e.Result.Code == Conflict {
		return "look at what is there now, then repeat the change if it is still wanted"
	}
	return ""
}

// A prepared command was read as far as it can be without the state.
type prepared struct {
	command Command
	bytes   []byte // of the command
	sig     [64]byte
	body    any // a pointer to the body
	skip    bool
}

// prepare reads a command. An error means that this program does not know it.
func prepare(b []byte) (p prepared, err error) {
	var s signed
	if err := canon.Decode(b, &s); err != nil || s.Version != commandVersion {
		return p, fmt.Errorf("%w: a command of %d bytes, version %d", ErrUnknown, len(b), s.Version)
	}
	p.bytes, p.sig = s.Command, s.Sig
	if err := canon.Decode(s.Command, &p.command); err != nil {
		return p, fmt.Errorf("%w: a command: %w", ErrUnknown, err)
	}
	c := p.command
	if len(c.Body) > maxBody || len(c.Actor) > maxActor || len(c.Address) > maxActor || c.Actor == "" {
		return p, fmt.Errorf("%w: a command of the kind %d with a body of %d bytes by %.40q", ErrUnknown, c.Kind, len(c.Body), c.Actor)
	}
	k, known := kinds[c.Kind]
	if !known {
		if c.Kind&ignorable != 0 {
			p.skip = true
			return p, nil
		}
		return p, fmt.Errorf("%w: a command of the kind %d", ErrUnknown, c.Kind)
	}
	p.body = k.body()
	if err := canon.Decode(c.Body, p.body); err != nil {
		return p, fmt.Errorf("%w: a command of the kind %d: %w", ErrUnknown, c.Kind, err)
	}
	if b, is := p.body.(interface{ known() error }); is {
		if err := b.known(); err != nil {
			return p, fmt.Errorf("%w: %w", ErrUnknown, err)
		}
	}
	return p, nil
}

// A kind is how one kind of command is read and run.
type kind struct {
	body func() any
	full bool                // only nodes in the role full
	own  func(*tx, any) bool // what others may do nevertheless, from level 2 on
	free bool                // also nodes that are no members
	run  func(*tx, any) Result
}

func of[T any](run func(*tx, *T) Result) kind {
	return kind{body: func() any { return new(T) }, run: func(t *tx, b any) Result { return run(t, b.(*T)) }}
}

func (k kind) onlyFull() kind { k.full = true; return k }

// orOwn lets a node in any role do what is about itself alone.
func orOwn[T any](k kind, own func(*tx, *T) bool) kind {
	k.own = func(t *tx, b any) bool { return own(t, b.(*T)) }
	return k
}
func (k kind) anybody() kind { k.free = true; return k }

var kinds = map[uint16]kind{
	KindChange:     orOwn(of((*tx).change).onlyFull(), (*tx).ownChange),
	KindAuthority:  of((*tx).link).anybody(),
	KindJoin:       of((*tx).join),
	KindInvite:     of((*tx).invite).onlyFull(),
	KindRevoke:     of((*tx).revoke).onlyFull(),
	KindRecord:     of((*tx).record),
	KindSession:    of((*tx).openSession),
	KindExpire:     of((*tx).expireSession),
	KindClaim:      of((*tx).claim),
	KindEnd:        of((*tx).endClaim),
	KindLevel:      of((*tx).raiseLevel),
	KindCheckpoint: of((*tx).checkpoint),
	KindState:      of((*tx).setState),
	KindClock:      of((*tx).setClock).onlyFull(),
}
