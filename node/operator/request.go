package operator

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
	"github.com/holdfast-mesh/holdfast/consensus/guard"
)

// ReadRequest reads a request to loosen the guard of a node, as the API sends it.
func ReadRequest(text string) (r guard.Request, err error) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err == nil {
		err = canon.Decode(b, &r)
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

// SignRequest returns a request for the API with the signatures of keys added to
// those that it has, and says what it asks for. It refuses one that asks for
// something else than want does.
func SignRequest(text string, want guard.Request, keys ...ed25519.PrivateKey) (signed, what string, err error) {
	r, err := ReadRequest(text)
	if err != nil {
		return "", "", err
	}
	if Describe(r) != Describe(want) || r.Reason != want.Reason {
		return "", "", fmt.Errorf("sign: the daemon's draft would %s, which was not asked for; is it yours?", Describe(r))
	}
	for _, k := range keys {
		s := authority.Signature{Key: authority.PublicKey(k), Sig: [64]byte(ed25519.Sign(k, r.Signed()))}
		if !slices.ContainsFunc(r.Sigs, func(o authority.Signature) bool { return o.Key == s.Key }) {
			r.Sigs = append(r.Sigs, s)
		}
	}
	return base64.StdEncoding.EncodeToString(canon.Encode(r)), Describe(r) + " on node " + r.Node.NodeID(), nil
}

// Describe says what a request asks for.
func Describe(r guard.Request) string {
	switch {
	case r.Floor != nil:
		f := *r.Floor
		what := fmt.Sprintf("lower the floor of %s to an age of %s and %d copies", f.Scope, time.Duration(f.MinAge)*time.Second, f.MinCopies)
		if f.LockUntil > 0 {
			what += ", locked until " + time.Unix(f.LockUntil, 0).UTC().Format(time.DateTime)
		}
		return what
	case r.Unblock != "":
		return "let " + r.Unblock + " in again"
	case r.Sweep:
		return "empty the trash for a day without a quorum"
	}
	return "do nothing"
}
