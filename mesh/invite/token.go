// Package invite is the text with which a machine joins a cluster, and what it
// signs with it.
//
// A token is meant to be pasted, once. It names members to ask and pins who
// they are, so that nobody can stand in between; it carries a seed whose key
// signs the request to join and never travels, so that nothing stolen from a
// member can forge one; and it says what the cluster was when it was made, so
// that the machine does not believe a member that shows it another one.
//
// Whoever has the text may join with it: it is as secret as a password until
// it is used or has expired.
package invite

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base32"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// A Token is what the text says. Numbers of fields are never used again.
type Token struct {
	Cluster [16]byte `cbor:"1,keyasint"`
	ID      [8]byte  `cbor:"2,keyasint"`
	Seed    [32]byte `cbor:"3,keyasint"` // of an Ed25519 key
	Expires int64    `cbor:"4,keyasint"` // Unix seconds
	Role    string   `cbor:"5,keyasint"`
	Site    string   `cbor:"6,keyasint,omitempty"` // "": whoever joins says it
	Approve bool     `cbor:"7,keyasint,omitempty"` // who joins waits for an operator
	Genesis [32]byte `cbor:"8,keyasint"`           // hash of the genesis of the authority chain
	Head    [32]byte `cbor:"9,keyasint"`           // and of its last link
	Members []Member `cbor:"10,keyasint"`          // whom to ask, 1 to 4
}

// A Member is one who can be asked.
type Member struct {
	Node  string   `cbor:"1,keyasint"`           // its ID
	Addrs []string `cbor:"2,keyasint,omitempty"` // multiaddresses, at most 4
}

// The text is, with everything that is not a letter or digit left out:
//
//	hf1 . base32 of the token in deterministic CBOR, without padding . base32 of its CRC-32
const (
	prefix     = "hf1"
	sumLength  = 7    // characters
	maxText    = 4096 // characters, with spaces
	maxMembers = 4
	maxAddrs   = 4
	maxField   = 256 // bytes of a text in a token
)

// The ways in which a text is no token. Match them with errors.Is; every one
// comes as an [*Error] with a hint.
var (
	ErrNotToken = errors.New("this is no token of holdfast")
	ErrNewer    = errors.New("this token was made by a newer holdfast")
	ErrCut      = errors.New("this token is not complete")
	ErrDamaged  = errors.New("this token was changed on the way")
	ErrInvalid  = errors.New("this token says what no token may say")
	ErrExpired  = errors.New("this token has expired")
)

// An Error says why a text cannot be used. It never quotes it.
type Error struct {
	Kind   error
	Detail string
	Cure   string
}

func (e *Error) Error() string {
	if e.Detail == "" {
		return e.Kind.Error()
	}
	return e.Kind.Error() + ": " + e.Detail
}
func (e *Error) Unwrap() error { return e.Kind }

// Hint says what to do about it.
func (e *Error) Hint() string { return e.Cure }

const pasteAgain = "copy the whole line that `holdfast invite create` printed, from hf1. to its end, and paste it again"

var (
	alphabet = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
	encoding = must(cbor.CoreDetEncOptions().EncMode())
	decoding = must(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, MaxNestedLevels: 4, MaxArrayElements: 16, MaxMapPairs: 16,
	}.DecMode())
)

func must[T any](mode T, err error) T {
	if err != nil {
		panic("invite: " + err.Error())
	}
	return mode
}

// Text returns the token as text. It is secret.
func (t Token) Text() (string, error) {
	if err := t.check(); err != nil {
		return "", err
	}
	b, err := encoding.Marshal(t)
	if err != nil {
		return "", fmt.Errorf("write token: %w", err)
	}
	return prefix + "." + alphabet.EncodeToString(b) + "." + sum(b), nil
}

// String names the token without giving it away.
func (t Token) String() string { return fmt.Sprintf("invite %x", t.ID) }

func sum(b []byte) string {
	s := crc32.ChecksumIEEE(b)
	return alphabet.EncodeToString([]byte{byte(s >> 24), byte(s >> 16), byte(s >> 8), byte(s)})
}

// Parse reads a text as it was pasted: spaces, line breaks and the case of
// letters do not matter. Whether the token is still good, [Token.Check] says.
func Parse(text string) (t Token, err error) {
	if len(text) > maxText {
		return t, &Error{ErrNotToken, fmt.Sprintf("it has more than %d characters", maxText), pasteAgain}
	}
	parts := strings.Split(strings.Join(strings.Fields(strings.ToLower(text)), ""), ".")
	switch head := parts[0]; {
	case head == prefix:
	case len(parts) > 1 && len(head) > 2 && strings.HasPrefix(head, "hf") && strings.Trim(head[2:], "0123456789") == "":
		return t, &Error{ErrNewer, "its version is " + head[:min(len(head), 8)], "upgrade holdfast on this machine, then run the same command"}
	default:
		return t, &Error{ErrNotToken, "", "a token begins with hf1. and is printed by `holdfast invite create` on a member"}
	}
	if len(parts) < 3 || parts[1] == "" || len(parts[2]) < sumLength {
		return t, &Error{ErrCut, "its end is missing", pasteAgain}
	}
	b, err := alphabet.DecodeString(parts[1])
	if err != nil || len(parts) > 3 || len(parts[2]) > sumLength || sum(b) != parts[2] {
		return t, &Error{ErrDamaged, "its checksum does not match", pasteAgain}
	}
	if err := decoding.Unmarshal(b, &t); err != nil {
		return Token{}, &Error{ErrInvalid, err.Error(), "make a new one with `holdfast invite create`"}
	}
	if again, err := encoding.Marshal(t); err != nil || !bytes.Equal(again, b) {
		return Token{}, &Error{ErrInvalid, "it is not in the form that holdfast writes", "make a new one with `holdfast invite create`"}
	}
	return t, t.check()
}

// check says whether the fields are what they may be.
func (t Token) check() error {
	invalid := func(format string, args ...any) error {
		return &Error{ErrInvalid, fmt.Sprintf(format, args...), "make a new one with `holdfast invite create`"}
	}
	switch {
	case t.Cluster == [16]byte{} || t.Genesis == [32]byte{} || t.Head == [32]byte{}:
		return invalid("it does not name its cluster")
	case t.Seed == [32]byte{}:
		return invalid("it has no seed")
	case t.Role == "" || len(t.Role) > maxField || len(t.Site) > maxField:
		return invalid("its role or site is empty or too long")
	case t.Expires <= 0:
		return invalid("it never expires")
	case len(t.Members) < 1 || len(t.Members) > maxMembers:
		return invalid("it names %d members, want 1 to %d", len(t.Members), maxMembers)
	}
	for _, m := range t.Members {
		if m.Node == "" || len(m.Node) > maxField || len(m.Addrs) > maxAddrs {
			return invalid("it names a member without an ID, or with %d addresses", len(m.Addrs))
		}
		for _, a := range m.Addrs {
			if a == "" || len(a) > maxField {
				return invalid("an address has %d bytes", len(a))
			}
		}
	}
	return nil
}

// Skew is how far the clock of a machine that joins may be wrong.
const Skew = 10 * time.Minute

// Check says whether the token is good at now, by the clock of this machine,
// which may be wrong by [Skew]. The cluster judges by its own.
func (t Token) Check(now time.Time) error {
	expires := time.Unix(t.Expires, 0)
	switch left := expires.Sub(now); {
	case left <= -Skew:
		return &Error{ErrExpired, fmt.Sprintf("it was good until %s, and this machine's clock says %s", expires.UTC().Format(time.DateTime), now.UTC().Format(time.DateTime)),
			"if the clock is right, make a new token with `holdfast invite create`"}
	case left > 7*24*time.Hour+Skew:
		return &Error{ErrInvalid, fmt.Sprintf("it is good until %s, more than a week from what this machine's clock says", expires.UTC().Format(time.DateTime)), "set the clock of this machine"}
	}
	return nil
}

// Key is the key of the seed. Its public half is what the cluster knows.
func (t Token) Key() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(t.Seed[:]) }
