package ledger

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"strings"
	"unicode"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// A Link carries one link of the authority chain, as it is.
type Link struct {
	Link []byte `cbor:"1,keyasint"`
}

// An Invite is a token that somebody may join with. The seed in it is known to
// nobody here: only its public key is.
type Invite struct {
	Key     authority.Key `cbor:"1,keyasint"`
	Role    string        `cbor:"2,keyasint"`
	Site    string        `cbor:"3,keyasint,omitempty"` // "": any
	Expires int64         `cbor:"4,keyasint"`           // Unix seconds
	Uses    int           `cbor:"5,keyasint"`           // left
	Granted bool          `cbor:"6,keyasint,omitempty"` // an operator has signed for it: see [authority.Grant]
	Approve bool          `cbor:"7,keyasint,omitempty"` // who joins waits for an operator
	Failed  int           `cbor:"8,keyasint,omitempty"` // attempts with a wrong signature
	Comment string        `cbor:"9,keyasint,omitempty"`
	Used    []string      `cbor:"10,keyasint,omitempty"` // node IDs
}

// Burnt tells whether an invite was tried with so many wrong signatures that it is of no
// use any more.
func (i Invite) Burnt() bool { return i.Failed >= maxFailures }

// NewInvite makes an invite. With Link, which adds the grant for its key, it
// may be for any role; without, for a role that does not vote and keeps no
// keys.
type NewInvite struct {
	Token  [8]byte `cbor:"1,keyasint"`
	Invite Invite  `cbor:"2,keyasint"`
	Link   []byte  `cbor:"3,keyasint,omitempty"`
}

// Revoke ends an invite. One that an operator granted also needs Link, which
// drops the grant, to be of no use to a node that was not told.
type Revoke struct {
	Token [8]byte `cbor:"1,keyasint"`
	Link  []byte  `cbor:"2,keyasint,omitempty"`
}

// Join consumes an invite and adds a node, at once.
type Join struct {
	Statement []byte   `cbor:"1,keyasint"` // see [authority.Statement]
	Seed      [64]byte `cbor:"2,keyasint"` // signature of it by the seed of the token
	Node      [64]byte `cbor:"3,keyasint"` // and by the node
	Record    []byte   `cbor:"4,keyasint"` // of which the statement has the sum
	RecordSig [64]byte `cbor:"5,keyasint"`
}

// A Record is a new node record of the node that sends it.
type Record struct {
	Record []byte   `cbor:"1,keyasint"`
	Sig    [64]byte `cbor:"2,keyasint"`
	Epoch  uint64   `cbor:"3,keyasint"`
}

// SetState sets the state of a member: active or draining; one that waits for
// approval is removed with it.
type SetState struct {
	Node  authority.Key `cbor:"1,keyasint"`
	State string        `cbor:"2,keyasint"`
}

// RecordDomain stands before a node record where it is signed.
const RecordDomain = "holdfast/node-record/1\x00"

const (
	maxRecord   = 4 << 10
	maxInvites  = 256
	maxFailures = 5 // wrong signatures, after which an invite is of no use
	maxUses     = 20
)

// TokenKey is the key of an invite's row.
func TokenKey(token [8]byte) string { return hex.EncodeToString(token[:]) }

func (l *Link) subject() string {
	var link authority.Link
	if canon.Decode(l.Link, &link) != nil {
		return ""
	}
	return "authority/" + auditKey(link.Seq)
}
func (i *NewInvite) subject() string { return "invites/" + TokenKey(i.Token) }
func (r *Revoke) subject() string    { return "invites/" + TokenKey(r.Token) }
func (s *SetState) subject() string  { return "members/" + s.Node.NodeID() + " " + s.State }
func (j *Join) subject() string {
	s, err := authority.ParseStatement(j.Statement)
	if err != nil {
		return ""
	}
	return "members/" + s.Joiner.NodeID() + ", invites/" + TokenKey(s.Token)
}

// link adds a link to the authority chain.
func (t *tx) link(l *Link) Result { return t.extend(l.Link) }

// extend adds a link, and makes the members what the chain says.
func (t *tx) extend(b []byte) Result {
	if r := t.timely(b); r.Code != Done {
		return r
	}
	var next *authority.Chain
	var err error
	if t.meta.chain == nil {
		next, err = authority.Read([][]byte{b})
	} else {
		next, err = t.meta.chain.Next(b)
	}
	if err != nil {
		return forbid("%v", err)
	}
	t.noteProposed(next)
	t.meta.chain = next
	for _, n := range next.Nodes() {
		id := nodeID(n.Key)
		row, is := Members.Get(View{t.Txn}, id)
		m := row.Body
		m.Name, m.Site, m.Role, m.Votes = n.Name, n.Site, n.Role, n.Votes
		switch {
		case n.Removed:
			m.State = Removed
		case !is || m.State == Pending:
			m.State = Active
		}
		if body := canon.Encode(m); !is || !bytes.Equal(body, canon.Encode(row.Body)) {
			t.put(Members.number, id, body, t.by())
		}
	}
	return Result{}
}

func (t *tx) invite(i *NewInvite) Result {
	key, in := TokenKey(i.Token), i.Invite
	votes, known := authority.MayVote(in.Role)
	v := View{t.Txn}
	switch {
	case v.row(Invites.number, key) != nil:
		return Result{Code: Conflict, Key: "invites/" + key, Text: "it is there already"}
	case v.Count(Invites.number) >= maxInvites && !t.sweepInvites():
		return refuse("there are %d invites already", maxInvites)
	case !known || in.Uses < 1 || in.Uses > maxUses || in.Key == authority.Key{} || in.Failed != 0 || len(in.Used) != 0 || len(in.Comment) > maxKey || len(in.Site) > maxActor:
		return refuse("an invite for the role %q, %d times", in.Role, in.Uses)
	case t.meta.Level >= authority.LevelDelay && strings.ContainsFunc(in.Site, unicode.IsControl): // no node could be at such a site
		return refuse("an invite for the site %q", in.Site)
	case in.Expires*1000 <= t.meta.At || in.Expires*1000 > t.meta.At+MaxInvite.Milliseconds():
		return t.tooLong(in.Expires)
	case i.Link == nil && (votes || in.Role == "cloud" || in.Granted):
		return forbid("an invite for the role %q has to be signed by an operator", in.Role)
	}
	if i.Link != nil {
		if r := t.extend(i.Link); r.Code != Done {
			return r
		}
		g, is := t.meta.chain.Grant(in.Key)
		if !is || g.Token != i.Token || g.Role != in.Role || g.Site != in.Site || g.Uses != in.Uses || g.Expires != in.Expires || in.Approve {
			return refuse("the operator has signed for another invite")
		}
		in.Granted = true
	}
	t.put(Invites.number, key, canon.Encode(in), t.by())
	return Result{}
}

// sweepInvites makes room: it forgets invites that ended a week ago.
func (t *tx) sweepInvites() (room bool) {
	var gone []string
	for key, i := range Invites.All(View{t.Txn}) {
		if i.Body.Expires*1000 < t.meta.At-7*24*3600*1000 {
			gone = append(gone, key)
		}
	}
	for _, key := range gone {
		t.drop(Invites.number, key)
	}
	return len(gone) > 0
}

func (t *tx) revoke(r *Revoke) Result {
	key := TokenKey(r.Token)
	i, is := Invites.Get(View{t.Txn}, key)
	if !is {
		return refuse("there is no invite %s", key)
	}
	if r.Link != nil {
		if res := t.extend(r.Link); res.Code != Done {
			return res
		}
	}
	i.Body.Uses = 0
	t.put(Invites.number, key, canon.Encode(i.Body), t.by())
	return Result{}
}

// The reasons why a token is of no use. The texts reach the person who joins.
var (
	errNoInvite = errors.New("the cluster does not know this token; it was made elsewhere, or its invite was removed")
	errRevoked  = errors.New("the token was revoked, or used as often as it may be")
	errExpired  = errors.New("the token has expired")
	errBurnt    = errors.New("the token was tried with wrong signatures and is of no use any more")
	errSeed     = errors.New("the request is not signed with the seed of the token")
	errNode     = errors.New("the request is not signed by the node that joins")
	errRecord   = errors.New("the node record is not the one in the request, or not signed by the node")
	errMember   = errors.New("the request was made to another member")
	errRole     = errors.New("the token is for another role or site")
)

// usable says why an invite cannot be used at all.
func (t *tx) usable(i Invite, is bool) error {
	switch {
	case !is:
		return errNoInvite
	case i.Burnt():
		return errBurnt
	case i.Uses < 1:
		return errRevoked
	case t.meta.At >= i.Expires*1000:
		return errExpired
	}
	return nil
}

func (j *Join) check(s authority.Statement, i Invite, member authority.Key) error {
	switch {
	case !ed25519.Verify(i.Key[:], j.Statement, j.Seed[:]):
		return errSeed
	case !ed25519.Verify(s.Joiner[:], j.Statement, j.Node[:]):
		return errNode
	case len(j.Record) > maxRecord, canon.Sum(j.Record) != s.Record,
		!ed25519.Verify(s.Joiner[:], append([]byte(RecordDomain), j.Record...), j.RecordSig[:]):
		return errRecord
	case s.Member != member:
		return errMember
	case s.Role != i.Role || i.Site != "" && s.Site != i.Site:
		return errRole
	}
	return nil
}

func (t *tx) join(j *Join) Result {
	s, err := authority.ParseStatement(j.Statement)
	if err != nil {
		return forbid("%v", err)
	}
	id, token := nodeID(s.Joiner), TokenKey(s.Token)
	v := View{t.Txn}
	if s.Cluster != t.meta.chain.Cluster() {
		return forbid("the token is of another cluster")
	}
	i, is := Invites.Get(v, token)
	if m, known := Members.Get(v, id); known {
		if m.Body.Invited == token && bytes.Equal(m.Body.Record, j.Record) && m.Body.State != Removed {
			return Result{} // the answer was lost, and it asks again
		}
		return refuse("node %s is known already, in the state %s; a machine that was removed joins with a new key", id, m.Body.State)
	}
	if err := t.usable(i.Body, is); err != nil {
		return forbid("%v", err)
	}
	if err := j.check(s, i.Body, t.command.Node); err != nil {
		return t.failed(token, i.Body, err)
	}
	if v.Count(Members.number) >= descriptions[Members.number].most {
		return refuse("there are too many nodes")
	}
	m := Member{Name: s.Name, Site: s.Site, Role: s.Role, State: Active, Record: j.Record, RecordSig: j.RecordSig, Invited: token}
	if i.Body.Granted {
		if r := t.extend(t.meta.chain.Sign(t.meta.chain.Draft(authority.Admit, authority.Admission{Statement: j.Statement, Seed: j.Seed, Node: j.Node}))); r.Code != Done {
			return r
		}
		m.Votes, _ = authority.MayVote(s.Role)
	} else {
		for _, other := range Members.All(v) {
			if other.Body.Name == s.Name && other.Body.State != Removed {
				return refuse("there is a node %q already", s.Name)
			}
		}
		if s.Name == "" || s.Site == "" {
			return refuse("a node needs a name and a site")
		}
		if i.Body.Approve {
			m.State = Pending
		}
	}
	t.put(Members.number, id, canon.Encode(m), t.by())
	i.Body.Uses--
	i.Body.Used = append(i.Body.Used, id)
	t.put(Invites.number, token, canon.Encode(i.Body), i.By)
	return Result{}
}

// failed counts a wrong signature: the one refusal that changes something.
func (t *tx) failed(token string, i Invite, err error) Result {
	i.Failed++
	t.put(Invites.number, token, canon.Encode(i), "")
	return Result{Code: Forbidden, Text: err.Error(), keep: true}
}

// record replaces the record of the node that sends it.
func (t *tx) record(r *Record) Result {
	id := nodeID(t.command.Node)
	m, _ := Members.Get(View{t.Txn}, id)
	switch {
	case len(r.Record) > maxRecord || !ed25519.Verify(t.command.Node[:], append([]byte(RecordDomain), r.Record...), r.Sig[:]):
		return forbid("%v", errRecord)
	case r.Epoch <= m.Body.Epoch:
		return Result{Code: Conflict, Key: "members/" + id, Text: "a record of this epoch is there already"}
	}
	m.Body.Record, m.Body.RecordSig, m.Body.Epoch = r.Record, r.Sig, r.Epoch
	t.put(Members.number, id, canon.Encode(m.Body), t.by())
	return Result{}
}

func (t *tx) setState(s *SetState) Result {
	id := nodeID(s.Node)
	m, is := Members.Get(View{t.Txn}, id)
	switch {
	case t.role != "full" && s.Node != t.command.Node:
		return forbid("a node in the role %q changes only its own state", t.role)
	case is && m.Body.State == Pending && s.State == Removed && t.role == "full" && t.meta.Level >= levelOwn:
		// denied: nobody has signed for it, so nobody has to sign that it goes
	case !is || !m.Body.active() || s.State != Active && s.State != Draining:
		return refuse("node %s in the state %q does not become %q", id, m.Body.State, s.State)
	}
	m.Body.State = s.State
	t.put(Members.number, id, canon.Encode(m.Body), t.by())
	return Result{}
}
