package access

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// An AuthID is who a request comes from: a user "NAME@REALM", or one of the
// user's API tokens "NAME@REALM!TOKEN" (PBS protocol notes §0.5). Values from
// outside go through [ParseAuthID].
type AuthID string

// Root is the one user of the realm pam: the operator of this machine, who
// may do everything and logs in only on the machine itself.
const Root AuthID = "root@pam"

// Limits of the parts of an AuthID: NAME@REALM together in characters, the
// realm and the token name in bytes.
const (
	minUser, maxUser   = 3, 64
	minRealm, maxRealm = 2, 32
	minToken, maxToken = 3, 64
)

// ParseAuthID checks s. NAME has no white space, control characters, ":" or
// "/" and makes 3 to 64 characters with its realm; REALM is a safe id of 2 to
// 32 bytes and TOKEN one of 3 to 64. The error is [ErrInvalid].
func ParseAuthID(s string) (AuthID, error) {
	name, realm, token, isToken := splitAuthID(s)
	switch {
	case !utf8.ValidString(s):
		return "", invalidID(s, "is not UTF-8")
	case realm == "" && !strings.Contains(s, "@"):
		return "", invalidID(s, "has no realm")
	case name == "":
		return "", invalidID(s, "has no name before its realm")
	case strings.ContainsFunc(name, isForbiddenInName):
		return "", invalidID(s, `has white space, a control character, ":" or "/" in its name`)
	case !isSafeID(realm, minRealm, maxRealm):
		return "", invalidID(s, "has a realm that is not 2 to 32 letters, digits, dots, dashes and underscores")
	case isToken && !isSafeID(token, minToken, maxToken):
		return "", invalidID(s, "has a token name that is not 3 to 64 letters, digits, dots, dashes and underscores")
	}
	if n := utf8.RuneCountInString(name) + 1 + len(realm); n < minUser || n > maxUser {
		return "", invalidID(s, "has a user that is not 3 to 64 characters long")
	}
	return AuthID(s), nil
}

func invalidID(s, what string) error {
	return &Error{
		Kind: ErrInvalid, Text: "user or token " + quote(s) + " " + what,
		Cure: "write it as NAME@REALM, or as NAME@REALM!TOKEN",
	}
}

// splitAuthID cuts s at the last "@", since a name may have one and the rest
// cannot, and at the first "!" behind it.
func splitAuthID(s string) (name, realm, token string, isToken bool) {
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return s, "", "", false
	}
	realm, token, isToken = strings.Cut(s[at+1:], "!")
	return s[:at], realm, token, isToken
}

// User returns the user whose token id is, or id itself.
func (id AuthID) User() AuthID {
	_, _, token, isToken := splitAuthID(string(id))
	if !isToken {
		return id
	}
	return id[:len(id)-len(token)-1]
}

// Realm returns what stands between "@" and any "!".
func (id AuthID) Realm() string {
	_, realm, _, _ := splitAuthID(string(id))
	return realm
}

// TokenName returns the part behind "!", or "" for a user.
func (id AuthID) TokenName() string {
	_, _, token, _ := splitAuthID(string(id))
	return token
}

// IsToken tells an API token from a user.
func (id AuthID) IsToken() bool {
	_, _, _, isToken := splitAuthID(string(id))
	return isToken
}

// Owns tells whether id counts as the owner of what belongs to owner: a user
// owns what his tokens own, a token owns nothing of its user or its siblings.
func (id AuthID) Owns(owner AuthID) bool {
	return id == owner || id == owner.User()
}

func isForbiddenInName(r rune) bool {
	return r == ':' || r == '/' || unicode.IsSpace(r) || unicode.IsControl(r)
}

// isSafeID matches [A-Za-z0-9_][A-Za-z0-9._-]* of low to high bytes.
func isSafeID(s string, low, high int) bool {
	if len(s) < low || len(s) > high {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_':
		case (c == '.' || c == '-') && i > 0:
		default:
			return false
		}
	}
	return true
}
