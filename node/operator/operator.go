// Package operator signs, on the side of the person who has an operator's key,
// what says who belongs to a cluster. The key never goes to the daemon: that
// drafts a link of the authority chain, and who signs it looks first whether it
// says what was asked for, and no more.
package operator

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// A Draft is what wants signatures, as the API sends it: a link, or a request to loosen
// the guard of a node.
type Draft struct {
	Cluster string `json:"cluster,omitempty"` // of the link, hexadecimal
	Link    string `json:"link,omitempty"`    // base64
	Need    int    `json:"need,omitempty"`    // signatures
	Request string `json:"request,omitempty"` // base64
	Voices
}

// NewDraft returns the draft of a link that stands behind a chain.
func NewDraft(chain *authority.Chain, kind uint8, body any) Draft {
	cluster := chain.Cluster()
	v := voices(chain, kind)
	need := v.Threshold
	if o, is := body.(authority.OperatorsBody); is {
		to := ids(o.Operators)
		need = wanted(len(to), len(lacking(to, v.Operators)), v.Threshold)
	}
	return Draft{
		Cluster: hex.EncodeToString(cluster[:]), Link: base64.StdEncoding.EncodeToString(chain.Draft(kind, body).Bytes()), Need: need, Voices: v,
	}
}

// DraftOf returns the draft of a link that is there, signed or not.
func DraftOf(chain *authority.Chain, link []byte) (Draft, error) {
	l, err := authority.ParseLink(link)
	if err != nil {
		return Draft{}, err
	}
	cluster := chain.Cluster()
	return Draft{
		Cluster: hex.EncodeToString(cluster[:]), Link: base64.StdEncoding.EncodeToString(link), Voices: voices(chain, l.Kind),
	}, nil
}

// The actions that somebody may mean to sign for.
const (
	Invite  = "invite"
	Revoke  = "revoke"
	Change  = "change"
	Remove  = "remove"
	Recover = "recover"
	Signers = "signers" // who the operators are
	Veto    = "veto"    // that others become it
)

// Again is what to do about a link that was drafted before another one was taken.
const Again = "run the same command again; what several operators sign, in a file, has to be made and signed anew"

// More is what to do about what too few have signed.
const More = "with a FILE of --sign-to, each who has not signed: holdfast operator sign FILE --operator-key KEY; then once more: holdfast operator submit FILE"

// Overtaken tells whether a link was refused since another one was taken after it was
// drafted: it would be good if it were drafted and signed once more.
func Overtaken(err error) bool { return err != nil && strings.Contains(err.Error(), authority.Behind) }

// Sign returns the signed link for the API, and says what it is. It refuses a
// link that does something else than the action that was meant.
func (d Draft) Sign(action string, keys ...ed25519.PrivateKey) (link, what string, err error) {
	_, l, does, what, err := d.read()
	if err != nil {
		return "", "", err
	}
	// A node that joined by a plain invite is named in the chain before it can
	// be removed from it.
	if does == "" || does != action && (action != Remove || does != Change) || len(l.Sigs) > 0 {
		return "", "", fmt.Errorf("sign: the daemon's draft would %s, which was not asked for; is it yours?", what)
	}
	d, _, err = d.Cosign(keys...)
	return d.Link, what, err
}

// Cosign adds signatures to what other operators have signed before, and says what it
// is, which whoever has the keys is to read. Keys of no operator do not sign.
func (d Draft) Cosign(keys ...ed25519.PrivateKey) (Draft, string, error) {
	s, err := d.signed()
	if err == nil {
		err = d.genuine()
	}
	if err == nil {
		err = d.entitled(s, keys)
	}
	if err != nil {
		return d, "", err
	}
	if d.Request != "" {
		what := ""
		d.Request, what, err = signRequest(d.Request, keys)
		return d, what, err
	}
	id, l, _, what, err := d.read()
	if err != nil {
		return d, "", err
	}
	for _, k := range keys {
		if !slices.ContainsFunc(l.Sigs, func(s authority.Signature) bool { return s.Key == authority.PublicKey(k) }) {
			if l, err = authority.ParseLink(l.SignFor(id, k)); err != nil {
				return d, "", fmt.Errorf("sign: %w", err)
			}
		}
	}
	d.Link = base64.StdEncoding.EncodeToString(l.Bytes())
	return d, what, nil
}

// read reads the draft: for which cluster, which link, and what that does.
func (d Draft) read() (id [16]byte, l authority.Link, action, what string, err error) {
	if d.Request != "" {
		return id, l, "", "", errTwo
	}
	cluster, err := hex.DecodeString(d.Cluster)
	if err != nil || len(cluster) != 16 {
		return id, l, "", "", fmt.Errorf("sign: the daemon names the cluster %.40q", d.Cluster)
	}
	b, err := base64.StdEncoding.DecodeString(d.Link)
	if err != nil {
		return id, l, "", "", fmt.Errorf("sign: the daemon's draft is no base64: %w", err)
	}
	if l, err = authority.ParseLink(b); err == nil {
		action, what, err = describe(l)
	}
	if err != nil {
		return id, l, "", "", fmt.Errorf("sign: the daemon's draft: %w", err)
	}
	return [16]byte(cluster), l, action, what, nil
}

// describe says which action a link is, and what it would do.
func describe(l authority.Link) (action, what string, err error) {
	switch l.Kind {
	case authority.Genesis:
		return "", "found a cluster", nil
	case authority.Enact:
		return "", "have the change of operators that waited count", nil
	case authority.AddGrant:
		var g authority.Grant
		err = canon.Decode(l.Body, &g)
		nodes := fmt.Sprintf("%d nodes", g.Uses)
		if g.Uses == 1 {
			nodes = "1 node"
		}
		return Invite, fmt.Sprintf("let %s join as %s until %s", nodes, g.Role, time.Unix(g.Expires, 0).UTC().Format(time.DateTime)), err
	case authority.DropGrant:
		return Revoke, "revoke an invite", nil
	case authority.AddNode:
		var n authority.Node
		err = canon.Decode(l.Body, &n)
		return Change, fmt.Sprintf("make node %q at site %q (%s) %s, vote: %t", n.Name, n.Site, n.Key.NodeID(), n.Role, n.Votes), err
	case authority.RemoveNode:
		var r authority.Removal
		err = canon.Decode(l.Body, &r)
		return Remove, "remove node " + r.Key.NodeID(), err
	case authority.Operators, authority.NewOperators:
		var o authority.OperatorsBody
		err = canon.Decode(l.Body, &o)
		return Signers, operatorsOf(o), err
	case authority.Veto:
		var w authority.Waiting
		err = canon.Decode(l.Body, &w)
		return Veto, fmt.Sprintf("veto the change of operators of link %d", w.Seq), err
	case authority.Recover:
		var r authority.Recovery
		err = canon.Decode(l.Body, &r)
		return Recover, fmt.Sprintf("begin incarnation %d with the history of node %s", r.Incarnation, r.Base.NodeID()), err
	}
	return "", fmt.Sprintf("do something of the kind %d", l.Kind), nil
}

// Does says what a link of a chain did, and by the keys of whom it was signed.
func Does(link []byte) (what string, signers []string, err error) {
	l, err := authority.ParseLink(link)
	if err != nil {
		return "", nil, err
	}
	for _, s := range l.Sigs {
		signers = append(signers, s.Key.NodeID())
	}
	_, what, err = describe(l)
	return what, signers, err
}

// Name is the public part of an operator's key as people see it.
func Name(key ed25519.PrivateKey) string { return authority.PublicKey(key).NodeID() }

// Operators says what a link does that makes these the operators, by their names.
func Operators(names []string, threshold int) string {
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	return fmt.Sprintf("have %d of these sign from now on: %s", threshold, strings.Join(names, ", "))
}

func operatorsOf(o authority.OperatorsBody) string {
	names := make([]string, len(o.Operators))
	for i, k := range o.Operators {
		names[i] = k.NodeID()
	}
	return Operators(names, o.Threshold)
}

// ReadRecovery reads the recovery that Sign has signed.
func ReadRecovery(text string) (r authority.Recovery, err error) {
	b, err := ReadLink(text)
	if err != nil {
		return r, err
	}
	l, err := authority.ParseLink(b)
	if err == nil {
		err = canon.Decode(l.Body, &r)
	}
	if err != nil {
		return r, fmt.Errorf("read the signed recovery: %w", err)
	}
	return r, nil
}

// ReadLink reads what Sign returned.
func ReadLink(text string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err == nil {
		_, err = authority.ParseLink(b)
	}
	if err != nil {
		return nil, fmt.Errorf("read the signed link: %w", err)
	}
	return b, nil
}
