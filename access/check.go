package access

import (
	"context"
	"crypto/subtle"
	"net/http"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/access/ticket"
)

// Credentials are what a request carries to say who sent it, as text of its
// headers.
type Credentials struct {
	Method        string // of HTTP
	Cookie        string // all Cookie headers, joined by "; "
	CSRF          string // the header CSRFPreventionToken
	Authorization string // the header Authorization
}

// The names of the cookie. Browsers guard the first better, and newer servers
// prefer it.
var cookieNames = [...]string{"__Host-PBSAuthCookie", "PBSAuthCookie"}

// tokenScheme is what an Authorization header with an API token begins with.
const tokenScheme = "PBSAPIToken"

// maxHeader bounds what is looked at of one header, in bytes.
const maxHeader = 8 << 10

// Check returns who sent a request: the user of its cookie or, if it has
// none, its API token. Other requests are refused with [ErrUnauthenticated]
// after [RefusalDelay]. A request with a cookie and another method than GET
// has to carry the CSRF token too (PBS protocol notes §1.3).
func (s *Service) Check(ctx context.Context, c Credentials) (AuthID, error) {
	start := time.Now()
	id, err := s.check(c, start)
	if err != nil {
		Hold(ctx, start, RefusalDelay)
		return "", err
	}
	return id, nil
}

func (s *Service) check(c Credentials, now time.Time) (AuthID, error) {
	if len(c.Cookie) > maxHeader || len(c.Authorization) > maxHeader {
		return "", unauthenticated("header too long")
	}
	if text, found := ticketCookie(c.Cookie); found {
		return s.checkCookie(text, c, now)
	}
	if id, secret, found := tokenHeader(c.Authorization); found {
		return s.checkToken(id, secret, now)
	}
	return "", unauthenticated("no authentication credentials provided.")
}

func (s *Service) checkCookie(text string, c Credentials, now time.Time) (AuthID, error) {
	// Some clients encode the whole cookie, some what they think needs it,
	// which may be nothing. A ticket that has "%" in it as it is must not be
	// decoded once too often.
	claim, err := ticket.Parse(text)
	if err != nil {
		claim, err = ticket.Parse(percentDecoded(text))
	}
	if err != nil {
		return "", unauthenticated("%v", err)
	}
	id, err := ParseAuthID(claim.Data)
	if claim.Challenge || err != nil || id.IsToken() {
		return "", unauthenticated("not the ticket of a user")
	}
	if err := s.checkClaim(claim, id, now); err != nil {
		return "", unauthenticated("%v", err)
	}
	switch {
	case c.Method == http.MethodGet:
		return id, nil
	case c.CSRF == "":
		return "", unauthenticated("missing CSRF prevention token")
	}
	if err := s.key.CheckCSRF(c.CSRF, string(id), now); err != nil {
		return "", unauthenticated("%v", err)
	}
	return id, nil
}

func (s *Service) checkToken(text, secret string, now time.Time) (AuthID, error) {
	id, err := ParseAuthID(text)
	if err != nil || !id.IsToken() {
		return "", unauthenticated("invalid token name")
	}
	v := s.current()
	if !v.active(id, now) {
		return "", unauthenticated("user account or token disabled or expired.")
	}
	sum := tokenSum(id, secret)
	if subtle.ConstantTimeCompare([]byte(sum), []byte(v.state.TokenSums[id])) == 0 {
		return "", unauthenticated("invalid credentials")
	}
	return id, nil
}

// ticketCookie returns the value of the cookie with the ticket.
func ticketCookie(header string) (string, bool) {
	for _, want := range cookieNames {
		for c := range strings.SplitSeq(header, ";") {
			name, value, found := strings.Cut(strings.TrimSpace(c), "=")
			if found && name == want {
				return strings.Trim(value, `"`), true
			}
		}
	}
	return "", false
}

// tokenHeader takes an Authorization header apart:
//
//	PBSAPIToken USER@REALM!NAME:SECRET
//	PBSAPIToken=USER@REALM!NAME:SECRET
//
// found tells whether it is one at all.
func tokenHeader(header string) (id, secret string, found bool) {
	rest, found := strings.CutPrefix(header, tokenScheme)
	if !found || rest == "" || rest[0] != ' ' && rest[0] != '=' {
		return "", "", false
	}
	id, secret, _ = strings.Cut(strings.TrimLeft(rest[1:], " "), ":")
	return percentDecoded(id), percentDecoded(secret), true
}

// percentDecoded undoes percent-encoding and leaves alone what is none.
func percentDecoded(s string) string {
	if plain, err := ticket.Unescape(s); err == nil {
		return plain
	}
	return s
}
