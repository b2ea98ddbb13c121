package operator

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// The paths of the API for what operators sign.
const (
	InvitesPath   = "/holdfast/invites"
	InvitePath    = InvitesPath + "/{invite}"
	MemberPath    = "/holdfast/members/{member}"
	OperatorsPath = "/holdfast/operators"
	RecoverPath   = "/holdfast/recover"
	ReleasePath   = "/holdfast/guard/release"
)

// A Call is one of the API.
type Call struct {
	Method string     `json:"method,omitempty"`
	Path   string     `json:"path,omitempty"`
	Params url.Values `json:"params,omitempty"`
}

// An implied call is what a link stands for. Of what is no part of the link, the
// call may have only the parameters in free, none of which gives anybody anything.
type implied struct {
	Call
	free []string
}

// Implied returns the call that the link of the draft stands for. A file names the
// call as well; where it says another thing than the link it was tampered with, and
// is refused. What the link says is taken from the link.
func (d Draft) Implied(file Call) (Call, error) {
	if d.Request != "" {
		r, err := ReadRequest(d.Request)
		if err != nil {
			return Call{}, err
		}
		return Call{http.MethodPost, ReleasePath, url.Values{"request": {text(r)}}}, nil
	}
	_, l, _, what, err := d.read()
	if err != nil {
		return Call{}, err
	}
	want, err := stands(l)
	if err != nil {
		return Call{}, err
	}
	refused := func(format string, args ...any) (Call, error) {
		return Call{}, fmt.Errorf("the file names another call than what is signed, which would %s: %s", what, fmt.Sprintf(format, args...))
	}
	// A node that joined by a plain invite is named in the chain by the call that is to remove it.
	named := l.Kind == authority.AddNode && file.Method == http.MethodDelete && file.Path == MemberPath
	if (file.Method != want.Method || file.Path != want.Path) && !named {
		return refused("%.10q %.100q", file.Method, file.Path)
	}
	for name, values := range file.Params {
		if slices.Contains(want.free, name) && len(values) == 1 {
			want.Params[name] = values
			continue
		}
		said, signed := want.Params[name]
		switch {
		case slices.Contains(elsewhere, name), named && name == "eject":
		case !signed && slices.Equal(values, []string{""}):
		case !signed:
			return refused("the parameter %.40q", name)
		case !slices.Equal(said, values):
			return refused("%.40q is %.100q there, and %q is signed", name, values, said)
		}
	}
	want.Params.Set("link", d.Link)
	return want.Call, nil
}

// elsewhere are parameters that the link says in another way.
var elsewhere = []string{"link", "ttl", "member"}

// stands returns what a link stands for.
func stands(l authority.Link) (implied, error) {
	call := func(method, path string, params url.Values, free ...string) implied {
		return implied{Call{method, path, params}, free}
	}
	switch l.Kind {
	case authority.AddGrant:
		var g authority.Grant
		err := canon.Decode(l.Body, &g)
		params := url.Values{
			"invite": {fmt.Sprintf("%x", g.Token)}, "role": {g.Role}, "uses": {strconv.Itoa(g.Uses)},
			"expires": {strconv.FormatInt(g.Expires, 10)},
		}
		if g.Site != "" {
			params.Set("site", g.Site)
		}
		return call(http.MethodPost, InvitesPath, params, "seed", "comment"), err // the seed has to fit the key that is signed
	case authority.DropGrant:
		return call(http.MethodDelete, InvitePath, url.Values{}, "invite"), nil // the daemon looks whether it is that one
	case authority.AddNode:
		var n authority.Node
		err := canon.Decode(l.Body, &n)
		params := url.Values{"member": {n.Key.NodeID()}, "role": {n.Role}, "vote": {strconv.FormatBool(n.Votes)}}
		return call(http.MethodPut, MemberPath, params, "approve"), err
	case authority.RemoveNode:
		var r authority.Removal
		err := canon.Decode(l.Body, &r)
		return call(http.MethodDelete, MemberPath, url.Values{"member": {r.Key.NodeID()}}, "eject"), err
	case authority.Operators, authority.NewOperators:
		var o authority.OperatorsBody
		err := canon.Decode(l.Body, &o)
		params := url.Values{"threshold": {strconv.Itoa(o.Threshold)}}
		for _, k := range o.Operators {
			params.Add("operator", k.NodeID())
		}
		return call(http.MethodPost, OperatorsPath, params), err
	case authority.Veto:
		return call(http.MethodDelete, OperatorsPath, url.Values{}), nil // the daemon looks whether it is what waits
	case authority.Recover:
		var r authority.Recovery
		err := canon.Decode(l.Body, &r)
		return call(http.MethodPost, RecoverPath, url.Values{"reason": {r.Reason}}), err
	}
	return implied{}, fmt.Errorf("a link of the kind %d stands for no call", l.Kind)
}

// Signed reads what Sign returned, and refuses a link that says something else
// than the call that it came with.
func Signed(text string, kind uint8, body any) ([]byte, error) {
	b, err := ReadLink(text)
	if err != nil {
		return nil, err
	}
	l, err := authority.ParseLink(b)
	if err != nil {
		return nil, err
	}
	if l.Kind != kind || string(l.Body) != string(canon.Encode(body)) {
		_, what, _ := describe(l) // the text is for people
		return nil, fmt.Errorf("what is signed is another thing than this call: it would %s", what)
	}
	return b, nil
}
