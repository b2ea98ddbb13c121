package access

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-mesh/holdfast/access/factor"
)

// A Store keeps the state of accounts. [FileStore] keeps it in a file; a mesh
// keeps it in its ledger.
type Store interface {
	// State returns the newest state known here, at once and without a lock.
	// Nobody may change it. As long as nothing has changed it is the same
	// pointer.
	State() *State

	// Update runs change on a copy of the newest state, and returns when the
	// result is durable and State shows it. If change fails, nothing is
	// changed and its error is returned as it is. change may run more than
	// once and must not wait. A result that [State.Check] refuses is not
	// stored.
	Update(ctx context.Context, change func(*State) error) error
}

// A State is everything that is known of accounts. What an administrator sets
// stands in Users, Tokens and ACL, which digests cover; secrets stand apart,
// so that a login does not look like a change of the configuration.
type State struct {
	Users  []User     `json:"users"`  // by ID
	Tokens []Token    `json:"tokens"` // by ID
	ACL    []ACLEntry `json:"acl"`    // by path, ID, role

	Passwords     map[AuthID]Password      `json:"passwords"`
	TokenSums     map[AuthID]string        `json:"token-sums"` // see tokenSum
	SecondFactors map[AuthID]factor.Factor `json:"second-factors"`
}

// A User is an account of a person or of a machine.
type User struct {
	ID        AuthID `json:"userid"`
	Comment   string `json:"comment,omitempty"`
	FirstName string `json:"firstname,omitempty"`
	LastName  string `json:"lastname,omitempty"`
	Email     string `json:"email,omitempty"`
	Disabled  bool   `json:"disabled,omitempty"`
	Expire    int64  `json:"expire,omitempty"` // Unix seconds of the first moment it is of no use; 0: never
}

// Active tells whether the account may be used at now.
func (u User) Active(now time.Time) bool { return usable(u.Disabled, u.Expire, now) }

// A Token is a second name of a user with a secret of its own, for programs.
// It may do what both its own ACL entries and its user's allow.
type Token struct {
	ID       AuthID `json:"tokenid"`
	Comment  string `json:"comment,omitempty"`
	Disabled bool   `json:"disabled,omitempty"`
	Expire   int64  `json:"expire,omitempty"` // as for a user
}

// Active tells whether the token may be used at now, if its user may.
func (t Token) Active(now time.Time) bool { return usable(t.Disabled, t.Expire, now) }

func usable(disabled bool, expire int64, now time.Time) bool {
	return !disabled && (expire == 0 || now.Unix() < expire)
}

// An ACLEntry gives a role to a user or token on a path, and below it if it
// propagates.
type ACLEntry struct {
	Path      string `json:"path"`
	ID        AuthID `json:"auth-id"`
	Role      string `json:"role"`
	Propagate bool   `json:"propagate"`
}

func compareEntries(a, b ACLEntry) int {
	return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Role, b.Role))
}

// newState returns the state of a new node.
func newState() *State {
	s := &State{Users: []User{{ID: Root, Comment: "the operator of this machine"}}}
	s.tidy()
	return s
}

// Clone returns a copy that shares nothing with s.
func (s *State) Clone() *State {
	c := &State{
		Users: slices.Clone(s.Users), Tokens: slices.Clone(s.Tokens), ACL: slices.Clone(s.ACL),
		Passwords: maps.Clone(s.Passwords), TokenSums: maps.Clone(s.TokenSums), SecondFactors: maps.Clone(s.SecondFactors),
	}
	for id, f := range c.SecondFactors {
		c.SecondFactors[id] = f.Clone()
	}
	c.tidy()
	return c
}

// tidy sorts the lists and makes the maps, so that equal states are equal as
// JSON and can be written to.
func (s *State) tidy() {
	slices.SortFunc(s.Users, func(a, b User) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(s.Tokens, func(a, b Token) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(s.ACL, compareEntries)
	s.Users, s.Tokens, s.ACL = orEmpty(s.Users), orEmpty(s.Tokens), orEmpty(s.ACL)
	if s.Passwords == nil {
		s.Passwords = map[AuthID]Password{}
	}
	if s.TokenSums == nil {
		s.TokenSums = map[AuthID]string{}
	}
	if s.SecondFactors == nil {
		s.SecondFactors = map[AuthID]factor.Factor{}
	}
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// UsersDigest returns 64 hexadecimal digits that change with the users and
// tokens, for optimistic locking: a change that carries the digest of what its
// author saw is refused with [ErrModified] if that is not what is stored.
func (s *State) UsersDigest() string { return digest([2]any{orEmpty(s.Users), orEmpty(s.Tokens)}) }

// ACLDigest is the same for the ACL.
func (s *State) ACLDigest() string { return digest(orEmpty(s.ACL)) }

// RealmsDigest is the same for the realms. They are fixed, and the digest is
// that of the empty file that a real server has in that case.
func RealmsDigest() string { return hex.EncodeToString(sha256.New().Sum(nil)) }

func digest(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic("access: a list of accounts is not JSON: " + err.Error())
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Check says what is wrong with a state that did not come from this package.
func (s *State) Check() error {
	users, tokens := map[AuthID]bool{}, map[AuthID]bool{}
	for _, u := range s.Users {
		if err := u.check(); err != nil {
			return fmt.Errorf("user %s: %w", quote(string(u.ID)), err)
		}
		if users[u.ID] {
			return fmt.Errorf("user %s is there twice", quote(string(u.ID)))
		}
		users[u.ID] = true
	}
	if !users[Root] {
		return fmt.Errorf("user %q is missing", string(Root))
	}
	for _, t := range s.Tokens {
		if err := t.check(); err != nil {
			return fmt.Errorf("token %s: %w", quote(string(t.ID)), err)
		}
		if !users[t.ID.User()] {
			return fmt.Errorf("token %s has no user", quote(string(t.ID)))
		}
		if tokens[t.ID] {
			return fmt.Errorf("token %s is there twice", quote(string(t.ID)))
		}
		tokens[t.ID] = true
	}
	if err := checkACL(s.ACL, func(id AuthID) bool { return users[id] || tokens[id] }); err != nil {
		return err
	}
	return s.checkSecrets(users, tokens)
}

func checkACL(acl []ACLEntry, known func(AuthID) bool) error {
	seen := map[ACLEntry]bool{}
	for _, e := range acl {
		path, err := ParsePath(e.Path)
		if err == nil && path != e.Path {
			err = fmt.Errorf("the path is written %s", path)
		}
		if err == nil {
			_, err = ParseRole(e.Role)
		}
		key := ACLEntry{Path: e.Path, ID: e.ID, Role: e.Role}
		switch {
		case err != nil:
		case !known(e.ID):
			err = fmt.Errorf("there is no user or token %s", quote(string(e.ID)))
		case seen[key]:
			err = errors.New("it is there twice")
		}
		if err != nil {
			return fmt.Errorf("acl entry of %s on %s: %w", quote(string(e.ID)), quote(e.Path), err)
		}
		seen[key] = true
	}
	return nil
}

// checkSecrets checks that every secret is in a form of ours and somebody's.
func (s *State) checkSecrets(users, tokens map[AuthID]bool) error {
	for id, p := range s.Passwords {
		if !users[id] || id.Realm() != realmPBS {
			return fmt.Errorf("password of %s, who is no user of realm %s", quote(string(id)), realmPBS)
		}
		if _, err := parseHash(p.Hash); err != nil {
			return fmt.Errorf("password of %s: %w", quote(string(id)), err)
		}
	}
	for id, sum := range s.TokenSums {
		if b, err := hex.DecodeString(sum); !tokens[id] || err != nil || len(b) != sha256.Size {
			return fmt.Errorf("sum of the secret of token %s: it is malformed, or there is no such token", quote(string(id)))
		}
	}
	for id, f := range s.SecondFactors {
		if !users[id] {
			return fmt.Errorf("second factor of %s, who is no user", quote(string(id)))
		}
		if err := f.Check(); err != nil {
			return fmt.Errorf("second factor of %s: %w", quote(string(id)), err)
		}
	}
	return nil
}

func (u User) check() error {
	id, err := ParseAuthID(string(u.ID))
	switch {
	case err != nil:
		return err
	case id.IsToken():
		return invalid("userid", "%s is a token, not a user", quote(string(id)))
	case id.Realm() == realmPAM && id != Root:
		return &Error{
			Kind: ErrInvalid, Param: "userid", Text: "realm 'pam' has no user but root@pam",
			Cure: "make the user in the realm pbs: NAME@pbs",
		}
	case id.Realm() != realmPAM && id.Realm() != realmPBS && id.Realm() != RealmNode:
		return invalid("userid", "there is no realm %s", singleQuote(id.Realm()))
	case id == Root && (u.Disabled || u.Expire != 0):
		return invalid("userid", "root@pam can be neither disabled nor expire")
	}
	const most = 64 // characters of a name or address
	err = cmp.Or(checkText("firstname", u.FirstName, most), checkText("lastname", u.LastName, most), checkText("email", u.Email, most))
	return cmp.Or(err, checkAccount(u.Comment, u.Expire))
}

func (t Token) check() error {
	id, err := ParseAuthID(string(t.ID))
	if err == nil && !id.IsToken() {
		err = invalid("tokenid", "%s is a user, not a token", quote(string(id)))
	}
	return cmp.Or(err, checkAccount(t.Comment, t.Expire))
}

func checkAccount(comment string, expire int64) error {
	const most = 128 // characters (PBS protocol notes §0.5)
	if expire < 0 {
		return invalid("expire", "value must be at least 0, the Unix time 0 meaning never")
	}
	return checkText("comment", comment, most)
}

func checkText(param, s string, most int) error {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return invalid(param, "value has control characters or is not UTF-8")
	}
	if utf8.RuneCountInString(s) > most {
		return invalid(param, "value may only be %d characters long", most)
	}
	return nil
}
