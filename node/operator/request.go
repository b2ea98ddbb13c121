package operator

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"slices"
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

// SignRequest returns a request for the API with the signatures of keys added to
// those that it has, and says what it asks for.
func SignRequest(text string, keys ...ed25519.PrivateKey) (signed, what string, err error) {
	r, err := ReadRequest(text)
	if err != nil {
		return "", "", err
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
