package operator

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// Voices says who may sign a draft, and what nodes are called where it was made, so
// that who signs elsewhere hears of a wrong key at once, and sees whom it is about.
// Nothing of it is signed and nothing is allowed by it: the daemon that takes the
// signatures has its own list.
type Voices struct {
	Operators []string          `json:"operators,omitempty"` // those of now; none: a daemon of before made it
	Threshold int               `json:"threshold,omitempty"` // how many of them have to sign
	Recovery  string            `json:"recovery,omitempty"`  // the key on paper, where it stands for somebody
	Names     map[string]string `json:"names,omitempty"`     // of nodes, by their IDs
}

// voices are those that a chain gives what is drafted of a kind; 0: it is no link.
func voices(chain *authority.Chain, kind uint8) Voices {
	keys, threshold := chain.Operators()
	v := Voices{Operators: ids(keys), Threshold: threshold}
	if kind == authority.Veto {
		v.Threshold = 1
	}
	if key, is := chain.RecoveryKey(); is && slices.Contains([]uint8{authority.NewOperators, authority.Veto, authority.Recover}, kind) {
		v.Recovery = key.NodeID()
	}
	return v
}

func ids(keys []authority.Key) (all []string) {
	for _, k := range keys {
		all = append(all, k.NodeID())
	}
	return all
}

// Called adds the name of a node, for who signs elsewhere.
func (d Draft) Called(id, name string) Draft {
	if name == id {
		return d
	}
	d.Names = maps.Clone(d.Names)
	if d.Names == nil {
		d.Names = map[string]string{}
	}
	d.Names[id] = name
	return d
}

// maxName bounds a name that is printed, in bytes.
const maxName = 64

// Named puts the names of nodes beside their IDs in the text of what is signed. It says
// that they are not signed: whoever had the file could change them.
func (v Voices) Named(what string) string {
	var pairs []string
	for id, name := range v.Names {
		if _, err := authority.ParseNodeID(id); err == nil && name != "" && len(name) <= maxName {
			pairs = append(pairs, id, fmt.Sprintf("%s (called %q where this was made)", id, name))
		}
	}
	return strings.NewReplacer(pairs...).Replace(what)
}

// signed is who has signed a draft, and who is to.
type signed struct {
	by   []string // whose signatures it has
	kind uint8    // of the link; 0: it is none
	to   []string // who is to be an operator
}

func (d Draft) signed() (s signed, err error) {
	if d.Request != "" {
		r, err := ReadRequest(d.Request)
		return signed{by: signers(r.Sigs)}, err
	}
	_, l, _, _, err := d.read()
	if err != nil {
		return s, err
	}
	s = signed{by: signers(l.Sigs), kind: l.Kind}
	if l.Kind == authority.Operators || l.Kind == authority.NewOperators {
		var o authority.OperatorsBody
		err = canon.Decode(l.Body, &o)
		s.to = ids(o.Operators)
	}
	return s, err
}

func signers(sigs []authority.Signature) (all []string) {
	for _, s := range sigs {
		all = append(all, s.Key.NodeID())
	}
	return all
}

// A foreign key signs, which is that of no operator.
type foreign struct {
	key string
	v   Voices
}

func (e *foreign) Error() string {
	return fmt.Sprintf("the key %s is none of the operators, who are: %s", e.key, strings.Join(e.v.Operators, ", "))
}

// Hint says what to do about it.
func (e *foreign) Hint() string {
	return "nothing is signed; name the file of an operator's key. `holdfast operator list` on a member says who they are: if that one has become one since this was made, have it made again"
}

// entitled refuses keys whose signatures would not count.
func (d Draft) entitled(s signed, keys []ed25519.PrivateKey) error {
	if len(d.Operators) == 0 {
		return nil
	}
	for _, k := range keys {
		if id := Name(k); id != d.Recovery && !slices.Contains(d.Operators, id) && !slices.Contains(s.to, id) {
			return &foreign{id, d.Voices}
		}
	}
	return nil
}

// A Tally says whose signatures a draft has, of those that count.
type Tally struct {
	Have, Need int
	Must       []string // who is to be an operator has to sign as well, and has not
	Missing    []string // the operators of now who have not
	Waits      bool     // as it is, it would count seven days after it is submitted
}

// Tally counts the signatures of a draft. What it says is as true as who may sign is.
func (d Draft) Tally() (Tally, error) {
	s, err := d.signed()
	if err != nil {
		return Tally{}, err
	}
	if len(d.Operators) == 0 { // nobody has said who they are
		return Tally{Have: len(s.by), Need: d.Need}, nil
	}
	t := Tally{Must: lacking(s.to, s.by), Missing: lacking(d.Operators, s.by), Need: d.Threshold}
	t.Have = len(d.Operators) - len(t.Missing)
	paper := d.Recovery != "" && slices.Contains(s.by, d.Recovery)
	switch {
	case paper && s.kind != authority.NewOperators:
		return Tally{Have: 1, Need: 1}, nil
	case len(s.to) > 0:
		added := lacking(s.to, d.Operators)
		more := len(t.Must) + max(0, d.Threshold-t.Have-len(lacking(t.Must, added)))
		t.Waits = s.kind == authority.NewOperators && !paper && len(t.Missing) > 0
		t.Have += len(added) - len(lacking(added, s.by))
		t.Need = min(t.Have, wanted(len(s.to), len(added), d.Threshold))
		if more > 0 {
			t.Need = t.Have + more
		}
	}
	return t, nil
}

// wanted is how many have to sign a change of operators at least: all who are to be,
// of whom some are added, and as many of those of now as must.
func wanted(to, added, threshold int) int { return to + max(0, threshold-(to-added)) }

// lacking returns which of all are not in have.
func lacking(all, have []string) (not []string) {
	for _, id := range all {
		if !slices.Contains(have, id) {
			not = append(not, id)
		}
	}
	return not
}

// Enough tells whether as many have signed as must.
func (t Tally) Enough() bool { return t.Have >= t.Need }

func (t Tally) String() string {
	text := fmt.Sprintf("%d operators have signed, and %d have to", t.Have, t.Need)
	if t.Have == 1 {
		text = fmt.Sprintf("1 operator has signed, and %d have to", t.Need)
	}
	if lacks := t.Lacks(); lacks != "" {
		text += "; " + lacks
	}
	return text
}

// Lacks says whose signatures there have to be as well; "" if it is enough, or if nobody
// has said who may sign.
func (t Tally) Lacks() string {
	switch more := t.Need - t.Have - len(t.Must); {
	case t.Enough() || len(t.Must)+len(t.Missing) == 0:
		return ""
	case len(t.Must) == 0:
		return fmt.Sprintf("%d more of these: %s", more, strings.Join(t.Missing, ", "))
	case more <= 0:
		return "each of these has to: " + strings.Join(t.Must, ", ")
	default:
		return fmt.Sprintf("each of these has to: %s; and %d of these: %s", strings.Join(t.Must, ", "), more, strings.Join(lacking(t.Missing, t.Must), ", "))
	}
}

// errUnsigned is a file that nobody has signed.
var errUnsigned = errors.New("nobody has signed it")

// Ready refuses a draft that nobody has signed, or that has a signature which is none.
func (d Draft) Ready() error {
	s, err := d.signed()
	if err != nil {
		return err
	}
	if len(s.by) == 0 {
		return errUnsigned
	}
	return d.genuine()
}

// genuine refuses a draft with a signature that is none. Who put it there could have
// meant that its owner need not sign any more.
func (d Draft) genuine() error {
	if d.Request == "" {
		id, l, _, _, err := d.read()
		if err != nil {
			return err
		}
		return l.CheckSignatures(id)
	}
	r, err := ReadRequest(d.Request)
	if err != nil {
		return err
	}
	seen := map[authority.Key]bool{}
	for _, s := range r.Sigs {
		if seen[s.Key] || !ed25519.Verify(s.Key[:], r.Signed(), s.Sig[:]) {
			return fmt.Errorf("the signature of %s is wrong or there twice", s.Key.NodeID())
		}
		seen[s.Key] = true
	}
	return nil
}
