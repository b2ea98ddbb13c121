package operator

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
	"github.com/holdfast-mesh/holdfast/consensus/guard"
)

// maxRequest bounds the text of a request: that has a name, a reason and signatures.
const maxRequest = 1 << 14

// NewRequest returns the draft of a request, which the operators of a chain sign.
func NewRequest(chain *authority.Chain, r guard.Request) Draft {
	d := Draft{Request: text(r), Voices: voices(chain, 0)}
	d.Names = map[string]string{}
	for _, n := range chain.Nodes() {
		if id := n.Key.NodeID(); n.Key == r.Node || r.Unblock == "node "+id {
			d.Names[id] = n.Name
		}
	}
	return d
}

// text is a request as the API sends it.
func text(r guard.Request) string { return base64.StdEncoding.EncodeToString(canon.Encode(r)) }

// ReadRequest reads a request to loosen the guard of a node, as the API sends it, and
// refuses one that says less in words than it does.
func ReadRequest(text string) (r guard.Request, err error) {
	if len(text) > maxRequest {
		return r, fmt.Errorf("read the request to loosen the guard: it has %d characters, want at most %d", len(text), maxRequest)
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err == nil {
		err = canon.Decode(b, &r)
	}
	if err == nil {
		err = r.Check()
	}
	if err != nil {
		return r, fmt.Errorf("read the request to loosen the guard: %w", err)
	}
	return r, nil
}

// Wanted is the request that the parameters of a call stand for.
func Wanted(param func(string) string) guard.Request {
	number := func(name string) int64 {
		n, _ := strconv.ParseInt(param(name), 10, 64) // whoever signs has written it, or it is not there
		return n
	}
	r := guard.Request{Reason: param("reason"), Unblock: param("block"), Sweep: param("trash") != ""}
	if scope := param("scope"); scope != "" {
		r.Floor = &guard.Floor{Scope: scope, MinAge: number("min-age"), MinCopies: int(number("min-copies")), LockUntil: number("lock-until")}
	}
	return r
}

// SignRequest returns the draft of a request with the signatures of keys, and says what
// it asks for. It refuses one that asks for something else than want does.
func (d Draft) SignRequest(want guard.Request, keys ...ed25519.PrivateKey) (Draft, string, error) {
	r, err := ReadRequest(d.Request)
	if err != nil {
		return d, "", err
	}
	if Describe(r) != Describe(want) || r.Reason != want.Reason || len(r.Sigs) > 0 {
		return d, "", fmt.Errorf("sign: the daemon's draft would %s, which was not asked for; is it yours?", Describe(r))
	}
	return d.Cosign(keys...)
}

// signRequest adds signatures to a request.
func signRequest(request string, keys []ed25519.PrivateKey) (signed, what string, err error) {
	r, err := ReadRequest(request)
	if err != nil {
		return "", "", err
	}
	for _, k := range keys {
		s := authority.Signature{Key: authority.PublicKey(k), Sig: [64]byte(ed25519.Sign(k, r.Signed()))}
		if !slices.ContainsFunc(r.Sigs, func(o authority.Signature) bool { return o.Key == s.Key }) {
			r.Sigs = append(r.Sigs, s)
		}
	}
	return text(r), What(r), nil
}

// What says what a request asks for, of whom and why: all that is signed.
func What(r guard.Request) string {
	return fmt.Sprintf("%s on node %s, since %q", Describe(r), r.Node.NodeID(), r.Reason)
}

// Describe says what a request asks for.
func Describe(r guard.Request) string {
	switch {
	case r.Floor != nil:
		f := *r.Floor
		what := fmt.Sprintf("lower the floor of %s to an age of %s and copies: %d", plain(f.Scope), time.Duration(f.MinAge)*time.Second, f.MinCopies)
		if f.LockUntil > 0 {
			what += ", locked until " + time.Unix(f.LockUntil, 0).UTC().Format(time.DateTime)
		}
		return what
	case r.Unblock != "":
		return "let " + plain(r.Unblock) + " in again"
	case r.Sweep:
		return "empty the trash for a day without a quorum"
	}
	return "do nothing"
}

// plain quotes text that a terminal would not show as it is.
func plain(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}
