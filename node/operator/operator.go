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
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// A Draft is a link that wants a signature, as the API sends it.
type Draft struct {
	Cluster string `json:"cluster"` // hexadecimal
	Link    string `json:"link"`    // base64
}

// NewDraft returns the draft of a link that stands behind a chain.
func NewDraft(chain *authority.Chain, kind uint8, body any) Draft {
	cluster := chain.Cluster()
	return Draft{hex.EncodeToString(cluster[:]), base64.StdEncoding.EncodeToString(chain.Draft(kind, body).Bytes())}
}

// The actions that somebody may mean to sign for.
const (
	Invite  = "invite"
	Revoke  = "revoke"
	Change  = "change"
	Remove  = "remove"
	Recover = "recover"
)

// Sign returns the signed link for the API, and says what it is. It refuses a
// link that does something else than the action that was meant.
func (d Draft) Sign(action string, key ed25519.PrivateKey) (link, what string, err error) {
	id, err := hex.DecodeString(d.Cluster)
	if err != nil || len(id) != 16 {
		return "", "", fmt.Errorf("sign: the daemon names the cluster %.40q", d.Cluster)
	}
	b, err := base64.StdEncoding.DecodeString(d.Link)
	if err != nil {
		return "", "", fmt.Errorf("sign: the daemon's draft is no base64: %w", err)
	}
	l, err := authority.ParseLink(b)
	if err != nil {
		return "", "", fmt.Errorf("sign: the daemon's draft: %w", err)
	}
	does, what, err := describe(l)
	if err != nil {
		return "", "", fmt.Errorf("sign: the daemon's draft: %w", err)
	}
	// A node that joined by a plain invite is named in the chain before it can
	// be removed from it.
	if does == "" || does != action && (action != Remove || does != Change) || len(l.Sigs) > 0 {
		return "", "", fmt.Errorf("sign: the daemon's draft would %s, which was not asked for; is it yours?", what)
	}
	return base64.StdEncoding.EncodeToString(l.SignFor([16]byte(id), key)), what, nil
}

// describe says which action a link is, and what it would do.
func describe(l authority.Link) (action, what string, err error) {
	switch l.Kind {
	case authority.AddGrant:
		var g authority.Grant
		err = canon.Decode(l.Body, &g)
		return Invite, fmt.Sprintf("let %d nodes join as %s until %s", g.Uses, g.Role, time.Unix(g.Expires, 0).UTC().Format(time.DateTime)), err
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
	case authority.Recover:
		var r authority.Recovery
		err = canon.Decode(l.Body, &r)
		return Recover, fmt.Sprintf("begin incarnation %d with the history of node %s", r.Incarnation, r.Base.NodeID()), err
	}
	return "", fmt.Sprintf("do something of the kind %d", l.Kind), nil
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
