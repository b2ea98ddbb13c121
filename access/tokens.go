package access

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

const (
	tokenSecret = 32 // bytes of chance in a secret
	// maxTokens is how many a user may have: users make their own.
	maxTokens = 1000
)

// A TokenChange says what to change of a token: what is not nil.
type TokenChange struct {
	Comment *string
	Enable  *bool
	Expire  *int64 // Unix seconds; 0: never
	Digest  string // as [State.UsersDigest]; "" does not check
}

// Token returns the token id, or [ErrNotFound].
func (s *Service) Token(id AuthID) (Token, error) {
	t, found := s.current().tokens[id]
	if !found {
		return Token{}, noSuchToken(id)
	}
	return t, nil
}

// Tokens returns the tokens of a user.
func (s *Service) Tokens(user AuthID) []Token {
	all := s.State().Tokens // by ID, so a user's are together
	at, _ := slices.BinarySearchFunc(all, user+"!", func(t Token, prefix AuthID) int { return cmp.Compare(t.ID, prefix) })
	var list []Token
	for _, t := range all[at:] {
		if !strings.HasPrefix(string(t.ID), string(user)+"!") {
			break
		}
		if t.ID.User() == user { // and not one whose name has a "!"
			list = append(list, t)
		}
	}
	return list
}

// AddToken makes a token and returns its secret, which is not shown again. A
// new token may do nothing until ACL entries say so.
func (s *Service) AddToken(ctx context.Context, t Token, digest string) (secret string, err error) {
	if err := t.check(); err != nil {
		return "", err
	}
	secret = newSecret()
	return secret, s.update(ctx, digest, (*State).UsersDigest, func(state *State) error {
		user := t.ID.User()
		if state.user(user) == nil {
			return noSuchUser(user)
		}
		if state.token(t.ID) != nil {
			return alreadyThere("token '%s' for user '%s' already exists.", t.ID.TokenName(), user)
		}
		had := 0
		for _, other := range state.Tokens {
			if other.ID.User() == user {
				had++
			}
		}
		if had >= maxTokens {
			return invalid("token-name", "user '%s' has %d tokens, which is the limit", user, had)
		}
		state.Tokens = append(state.Tokens, t)
		state.TokenSums[t.ID] = tokenSum(t.ID, secret)
		return nil
	})
}

// ChangeToken changes a token.
func (s *Service) ChangeToken(ctx context.Context, id AuthID, c TokenChange) error {
	return s.update(ctx, c.Digest, (*State).UsersDigest, func(state *State) error {
		t := state.token(id)
		if t == nil {
			return noSuchToken(id)
		}
		set(&t.Comment, c.Comment)
		set(&t.Expire, c.Expire)
		if c.Enable != nil {
			t.Disabled = !*c.Enable
		}
		return t.check()
	})
}

// RegenerateToken gives a token a new secret. The old one is of no use at
// once.
func (s *Service) RegenerateToken(ctx context.Context, id AuthID, digest string) (secret string, err error) {
	secret = newSecret()
	return secret, s.update(ctx, digest, (*State).UsersDigest, func(state *State) error {
		if state.token(id) == nil {
			return noSuchToken(id)
		}
		state.TokenSums[id] = tokenSum(id, secret)
		return nil
	})
}

// RemoveToken removes a token and its ACL entries.
func (s *Service) RemoveToken(ctx context.Context, id AuthID, digest string) error {
	return s.update(ctx, digest, (*State).UsersDigest, func(state *State) error {
		if state.token(id) == nil {
			return noSuchToken(id)
		}
		state.Tokens = slices.DeleteFunc(state.Tokens, func(t Token) bool { return t.ID == id })
		state.ACL = slices.DeleteFunc(state.ACL, func(e ACLEntry) bool { return e.ID == id })
		delete(state.TokenSums, id)
		return nil
	})
}

// newSecret returns 64 hexadecimal digits, which pass through every header,
// URL and shell as they are.
func newSecret() string {
	var b [tokenSecret]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// tokenSum is what is kept of a secret: HMAC-SHA-256 under the token's name.
// A slow hash is for what people think up; nobody tries 2^256 secrets at any
// speed, and every single request of a backup client has to be checked.
func tokenSum(id AuthID, secret string) string {
	mac := hmac.New(sha256.New, []byte("secret of token "+string(id)))
	mac.Write([]byte(secret))
	return hex.EncodeToString(mac.Sum(nil))
}

func noSuchToken(id AuthID) error { return notFound("no such token '%s'", printable(string(id))) }

// token returns the token to be changed, nil if there is none.
func (s *State) token(id AuthID) *Token {
	i := slices.IndexFunc(s.Tokens, func(t Token) bool { return t.ID == id })
	if i < 0 {
		return nil
	}
	return &s.Tokens[i]
}
