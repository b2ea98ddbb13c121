package members

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/mesh/invite"
	"github.com/holdfast-mesh/holdfast/node/operator"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// An Invite is one as it is listed.
type Invite struct {
	ID      string   `json:"id"`
	Role    string   `json:"role"`
	Site    string   `json:"site,omitempty"`
	Expires int64    `json:"expires"` // Unix seconds
	Uses    int      `json:"uses"`    // left
	Signed  bool     `json:"signed"`
	Used    []string `json:"used"` // node IDs
	Failed  int      `json:"failed,omitempty"`
	State   string   `json:"state"` // "open", "used or revoked", "burnt" with wrong signatures, "expired"
	Comment string   `json:"comment,omitempty"`
	By      string   `json:"by,omitempty"`
}

func (a api) invites(context.Context, *rest.Call) (any, error) {
	list := []Invite{}
	now := a.Now().Unix()
	for id, row := range ledger.Invites.All(a.Cluster.View()) {
		i := row.Body
		state := "open"
		switch {
		case i.Uses < 1:
			state = "used or revoked"
		case i.Burnt():
			state = "burnt"
		case i.Expires <= now:
			state = "expired"
		}
		list = append(list, Invite{id, i.Role, i.Site, i.Expires, i.Uses, i.Granted, append([]string{}, i.Used...), i.Failed, state, i.Comment, row.By})
	}
	return list, nil
}

// An Invitation is what an invite is made of, before and after an operator has
// signed it.
type Invitation struct {
	ID      string `json:"invite"` // hexadecimal, as Seed
	Seed    string `json:"seed"`
	Role    string `json:"role"`
	Expires int64  `json:"expires"`
	Uses    int    `json:"uses"`
	Site    string `json:"site,omitempty"`
	operator.Draft
}

// made is an invite that is good.
type made struct {
	ID      string `json:"id"`
	Token   string `json:"token"`
	Role    string `json:"role"`
	Expires int64  `json:"expires"`
	Uses    int    `json:"uses"`
	Approve bool   `json:"approve,omitempty"`
	Advice  string `json:"advice,omitempty"`
}

const (
	defaultTTL = time.Hour
	maxTTL     = 7 * 24 * time.Hour
)

// invite makes an invite. Roles that vote or keep keys want a signature.
func (a api) invite(ctx context.Context, c *rest.Call) (any, error) {
	t, uses, comment, err := a.wanted(c)
	if err != nil {
		return nil, err
	}
	if len(a.Ask()) == 0 {
		return nil, &hinted{errors.New("nobody could reach this node to join"), "set mesh-listen in node.toml, and restart the node"}
	}
	key := authority.PublicKey(t.Key())
	chain := a.Cluster.Roster().Chain()
	if c.Has("draft") && c.Bool("draft") {
		if c.Has("approve") && c.Bool("approve") {
			return nil, &hinted{errors.New("an invite that an operator signs is an approval already"), "leave --approve out, or invite a replica, and give it its role when it is approved: `holdfast member approve NAME --role full`"}
		}
		grant := authority.Grant{Key: key, Token: t.ID, Role: t.Role, Site: t.Site, Uses: uses, Expires: t.Expires}
		return Invitation{
			hex.EncodeToString(t.ID[:]), hex.EncodeToString(t.Seed[:]), t.Role, t.Expires, uses, t.Site,
			operator.NewDraft(chain, authority.AddGrant, grant),
		}, nil
	}
	body := ledger.NewInvite{Token: t.ID, Invite: ledger.Invite{
		Key: key, Role: t.Role, Site: t.Site, Expires: t.Expires, Uses: uses, Comment: comment,
		Approve: c.Has("approve") && c.Bool("approve"),
	}}
	if c.Has("link") {
		if body.Link, err = operator.ReadLink(c.Text("link")); err != nil {
			return nil, err
		}
	} else if votes, _ := authority.MayVote(t.Role); votes {
		return nil, &hinted{fmt.Errorf("an invite for the role %s has to be signed by an operator", t.Role), "name the operator's key with --operator-key, or invite a replica, which never votes"}
	}
	if _, err := a.do(ctx, c, ledger.KindInvite, body); err != nil {
		return nil, err
	}
	return a.token(t, uses, body.Invite.Approve)
}

// NamePattern is what nodes and sites are called, since tasks name them. Nobody could
// join with an invite for another site.
var NamePattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

// wanted reads what invite is to be made. Without an ID it is a new one.
func (a api) wanted(c *rest.Call) (t invite.Token, uses int, comment string, err error) {
	t.Role, uses = "full", 1
	if c.Has("role") {
		t.Role = c.Text("role")
	}
	if c.Has("uses") {
		uses = int(c.Int("uses", 1, 20))
	}
	if c.Has("site") {
		t.Site = c.Text("site")
	}
	if c.Has("comment") {
		comment = c.Text("comment")
	}
	ttl := int64(defaultTTL / time.Second)
	if c.Has("ttl") {
		ttl = c.Int("ttl", 60, int64(maxTTL/time.Second))
	}
	t.Expires = a.Now().Unix() + ttl
	if c.Has("expires") {
		t.Expires = c.Int("expires", 0, 1<<40)
	}
	rand.Read(t.ID[:]) // never fails
	rand.Read(t.Seed[:])
	if c.Has("invite") {
		err = errors.Join(decodeHex(t.ID[:], c.Text("invite")), decodeHex(t.Seed[:], c.Text("seed")))
	}
	if t.Site != "" && !NamePattern.MatchString(t.Site) {
		c.Fail("site", "%q is no name of a site: want letters, digits and hyphens, at most 63", t.Site)
	}
	if uses > 1 && t.Role != "replica" {
		c.Fail("uses", "a token for several machines is for replicas only, which never vote: make one for each")
	}
	if _, known := authority.MayVote(t.Role); !known {
		c.Fail("role", "there is no role %q: it is full, replica, cloud, witness or follower", t.Role)
	}
	return t, uses, comment, errors.Join(err, c.Err())
}

func decodeHex(to []byte, text string) error {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(to) {
		return fmt.Errorf("%d characters, want %d hexadecimal digits, as `holdfast invite list` shows them", len(text), 2*len(to))
	}
	copy(to, b)
	return nil
}

// token returns the text of an invite that the ledger has.
func (a api) token(t invite.Token, uses int, approve bool) (any, error) {
	chain := a.Cluster.Roster().Chain()
	t.Cluster, t.Genesis = chain.Cluster(), chain.GenesisHash()
	_, t.Head = chain.Head()
	t.Members = a.Ask()
	text, err := t.Text()
	if err != nil {
		return nil, err
	}
	return made{hex.EncodeToString(t.ID[:]), text, t.Role, t.Expires, uses, approve, Advice(a.Cluster)}, nil
}

// revoke ends an invite. One that was signed needs a signature for that, too.
func (a api) revoke(ctx context.Context, c *rest.Call) (any, error) {
	var token [8]byte
	if err := decodeHex(token[:], c.Text("invite")); err != nil {
		return nil, &hinted{fmt.Errorf("there is no invite %.40q: %w", c.Text("invite"), err), "`holdfast invite list` names them"}
	}
	row, is := ledger.Invites.Get(a.Cluster.View(), ledger.TokenKey(token))
	if !is {
		return nil, &hinted{fmt.Errorf("there is no invite %x", token), "`holdfast invite list` names them"}
	}
	_, granted := a.Cluster.Roster().Chain().Grant(row.Body.Key)
	if granted && c.Has("draft") && c.Bool("draft") {
		return operator.NewDraft(a.Cluster.Roster().Chain(), authority.DropGrant, authority.Drop{Key: row.Body.Key}), nil
	}
	body := ledger.Revoke{Token: token}
	if c.Has("link") {
		link, err := operator.Signed(c.Text("link"), authority.DropGrant, authority.Drop{Key: row.Body.Key})
		if err != nil {
			return nil, err
		}
		body.Link = link
	}
	_, err := a.do(ctx, c, ledger.KindRevoke, body)
	return nil, err
}
