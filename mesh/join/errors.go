package join

import "errors"

// The ways in which joining fails. Match them with errors.Is; every one comes
// as an [*Error] with a hint. Together with the errors of package invite,
// which are about the text of a token, they are all there are.
var (
	ErrUnreachable = errors.New("no member that the token names can be reached")
	ErrSomeoneElse = errors.New("someone else answers at the address of a member")
	ErrProtocol    = errors.New("the member and this machine do not understand each other")
	ErrCluster     = errors.New("the token is of another cluster")
	ErrChain       = errors.New("the member shows a cluster that is not the one of the token")
	ErrClock       = errors.New("the clocks of this machine and of the member differ too much")
	ErrUnknown     = errors.New("the cluster does not know this token")
	ErrExpired     = errors.New("the token has expired")
	ErrRevoked     = errors.New("the token was revoked")
	ErrUsedUp      = errors.New("the token was used as often as it may be")
	ErrBurnt       = errors.New("the token was tried with wrong signatures and is of no use any more")
	ErrSignature   = errors.New("the request is not signed as it must be")
	ErrRecord      = errors.New("the node record is not valid")
	ErrRole        = errors.New("the token is for another role or site")
	ErrTaken       = errors.New("the cluster has a node of this name or with this key already")
	ErrRemoved     = errors.New("this machine was removed from the cluster")
	ErrBusy        = errors.New("too many machines ask to join at the moment")
	ErrNoQuorum    = errors.New("the cluster cannot decide at the moment: no quorum")
	ErrUndecided   = errors.New("the cluster may have let this machine in, and may not")
	ErrRefused     = errors.New("the cluster refuses")
)

// An Error says why a machine cannot join. It never quotes a token.
type Error struct {
	Kind   error
	Detail string
	Member string // who said so; "": this machine itself
}

func (e *Error) Error() string {
	s := e.Kind.Error()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Member != "" {
		s += " (member " + e.Member + ")"
	}
	return s
}
func (e *Error) Unwrap() error { return e.Kind }

// Hint says what to do about it.
func (e *Error) Hint() string {
	for _, c := range codes {
		if c.kind == e.Kind {
			return c.hint
		}
	}
	return ""
}

const newToken = "make a new token with `holdfast invite create` on a member"

// codes are the errors as they are sent, and what helps. A number is never
// used for something else.
var codes = []struct {
	code uint8
	kind error
	hint string
}{
	{1, ErrProtocol, "upgrade holdfast on both machines to the same version"},
	{2, ErrCluster, "use a token that was made in the cluster you want to join; " + newToken},
	{3, ErrUnknown, "the invite was removed, or made by a cluster that was set up anew; " + newToken},
	{4, ErrExpired, newToken + "; if it should still be good, compare the clocks of the members"},
	{5, ErrRevoked, "ask the operator who revoked it, or " + newToken},
	{6, ErrUsedUp, "if this machine did not use it, somebody else did: look at `holdfast member list`, eject who does not belong there, and " + newToken},
	{7, ErrBurnt, "somebody tried to guess it; " + newToken},
	{8, ErrSignature, "paste the token again; if that does not help, " + newToken},
	{9, ErrRecord, "upgrade holdfast on both machines to the same version"},
	{10, ErrRole, "leave the site and role to the token, or " + newToken + " for the ones you want"},
	{11, ErrTaken, "choose another name with --name; if this machine is to take the place of that node, which is lost: `holdfast invite create --replaces NAME` on a member, then here `holdfast node join TOKEN --replaces NAME`"},
	{12, ErrRemoved, "a machine that was removed comes back with a new key: delete its node key, then join again"},
	{13, ErrBusy, "wait a minute and run the same command again"},
	{14, ErrNoQuorum, "run the same command again, with the same --data directory, when `holdfast status` on a member shows a quorum; this attempt did not use the token up"},
	{15, ErrRefused, ""},
	{16, ErrClock, "set the clock of this machine (or of the member, if that is the wrong one) and run the same command again"},
	{17, ErrUndecided, "run the same command again, with the same --data directory, before the token expires: it gives the result; `holdfast member list` on a member shows whether the node is there when there is a quorum"},
	{0, ErrUnreachable, "see that a member that the token names runs, and that its mesh port (UDP or TCP) can be reached from here; if it can, others who join may have all its places: try again in two minutes. The token stays good"},
	{0, ErrSomeoneElse, "do not go on before you know who that is: a member was set up anew at this address, or somebody is in between"},
	{0, ErrChain, "do not go on: the member is not what the operator who made the token saw; " + newToken},
}

// refusal is an error as it is sent.
type refusal struct {
	Code   uint8  `cbor:"1,keyasint"`
	Detail string `cbor:"2,keyasint,omitempty"`
}

const maxDetail = 300 // bytes of a refusal's text

// refuse returns err as it is sent. What is none of ours stays here.
func refuse(err error) *refusal {
	var e *Error
	if !errors.As(err, &e) {
		return &refusal{15, "it could not be done; the log of the member says why"}
	}
	for _, c := range codes {
		if c.kind == e.Kind && c.code != 0 {
			return &refusal{c.code, e.Detail[:min(len(e.Detail), maxDetail)]}
		}
	}
	return &refusal{15, e.Error()[:min(len(e.Error()), maxDetail)]}
}

// error returns what a member has sent.
func (r *refusal) error(member string) error {
	for _, c := range codes {
		if c.code == r.Code && c.code != 0 {
			return &Error{c.kind, printable(r.Detail), member}
		}
	}
	return &Error{ErrRefused, printable(r.Detail), member}
}

// printable keeps a text of somebody else from writing to the terminal.
func printable(s string) string {
	b := []rune(s[:min(len(s), maxDetail)])
	for i, r := range b {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0xfffd {
			b[i] = '?'
		}
	}
	return string(b)
}

// final tells whether it is of no use to ask another member.
func final(err error) bool {
	for _, kind := range []error{ErrExpired, ErrRevoked, ErrUsedUp, ErrBurnt, ErrRole, ErrTaken, ErrRemoved, ErrRefused, ErrRecord, ErrSignature} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}
