// Package ticket makes and checks the tickets of a Proxmox Backup Server and
// the CSRF tokens that go with them (PBS protocol notes §1.2, §1.3).
//
// A ticket is signed text in a form that clients know. It says which user it
// is of and when it was made; whether that user may still log in is not for
// this package to know.
package ticket

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	// Lifetime is how long a ticket and its CSRF token are good.
	Lifetime = 2 * time.Hour

	// clockSkew is how far in the future a ticket may be from: nodes that
	// share a key do not share a clock.
	clockSkew = 5 * time.Minute

	// challengeLifetime is how long a user has to find the second factor.
	challengeLifetime = 5 * time.Minute

	// maxTicket is more than the longest user name makes with every byte
	// escaped, which is below 900 bytes.
	maxTicket = 1024

	ticketPrefix    = "PBS"
	challengePrefix = "!tfa!"
)

// A Claim is a ticket taken apart, with nothing of it believed yet:
//
//	PBS:DATA:TIME::SIGNATURE
//
// TIME is Unix seconds in 8 upper-case hexadecimal digits, SIGNATURE unpadded
// base64 of Ed25519 over what stands before "::" (PBS protocol notes §1.2).
// PVE finds the age of a ticket by this form, and takes one with "!" in it for
// a challenge, so DATA is escaped wherever it could look like something else.
type Claim struct {
	Data      string // the name of a user; what a challenge asks for, as JSON
	Challenge bool   // whether a second factor is missing yet
	At        int64  // Unix seconds
	signed    string
	signature []byte
}

var errTicket = errors.New("not a ticket")

// Sign returns the ticket that claims what c has in Data and Challenge, made
// at a time. For a challenge the name of its user is signed too, though not
// shown.
func (k *Key) Sign(c Claim, user string, at time.Time) string {
	c.At = at.Unix()
	c.signed = c.body()
	c.signature = ed25519.Sign(k.sign, c.message(user))
	return c.String()
}

// Check tells whether the claim is ours, of user, and of the right age at now.
// The error is text for the client.
func (k *Key) Check(c Claim, user string, now time.Time) error {
	if !c.Challenge && c.Data != user {
		return errors.New("ticket of another user")
	}
	if !ed25519.Verify(k.sign.Public().(ed25519.PublicKey), c.message(user), c.signature) {
		return errors.New("ticket with invalid signature")
	}
	lifetime := Lifetime
	if c.Challenge {
		lifetime = challengeLifetime
	}
	return checkAge("ticket", c.At, lifetime, now)
}

func checkAge(what string, at int64, lifetime time.Duration, now time.Time) error {
	switch age := now.Sub(time.Unix(at, 0)); {
	case age < -clockSkew:
		return fmt.Errorf("invalid %s - timestamp newer than expected", what)
	case age > lifetime:
		return fmt.Errorf("invalid %s - expired", what)
	}
	return nil
}

// message is what is signed.
func (c Claim) message(user string) []byte {
	if c.Challenge {
		return []byte(c.signed + ":" + user)
	}
	return []byte(c.signed)
}

func (c Claim) body() string {
	data := escape(c.Data)
	if c.Challenge {
		data = challengePrefix + data
	}
	return ticketPrefix + ":" + data + ":" + formatTime(c.At)
}

func (c Claim) String() string { return c.signed + "::" + signatureText.EncodeToString(c.signature) }

var signatureText = base64.RawStdEncoding.Strict()

// Parse reads what String writes, and nothing else: a ticket has one
// spelling.
func Parse(s string) (Claim, error) {
	var c Claim
	signed, signature, found := strings.Cut(s, "::")
	parts := strings.Split(signed, ":")
	if len(s) > maxTicket || !found || len(parts) != 3 || parts[0] != ticketPrefix {
		return c, errTicket
	}
	c.signed = signed
	data, isChallenge := strings.CutPrefix(parts[1], challengePrefix)
	c.Challenge = isChallenge
	var err error
	if c.Data, err = Unescape(data); err != nil {
		return Claim{}, errTicket
	}
	if c.At, err = parseTime(parts[2]); err != nil {
		return Claim{}, errTicket
	}
	if c.signature, err = signatureText.DecodeString(signature); err != nil {
		return Claim{}, fmt.Errorf("ticket with bad signature: %w", err)
	}
	if c.body() != c.signed || c.String() != s {
		return Claim{}, errTicket
	}
	return c, nil
}

func formatTime(at int64) string { return fmt.Sprintf("%08X", at) }

// parseTime reads what formatTime writes, up to the year 2106.
func parseTime(s string) (int64, error) {
	at, err := strconv.ParseUint(s, 16, 32)
	if err != nil || formatTime(int64(at)) != s {
		return 0, errTicket
	}
	return int64(at), nil
}

// CSRF returns TIME:BASE64(HMAC-SHA-256 of "TIME:USER:").
func (k *Key) CSRF(user string, at time.Time) string {
	t := formatTime(at.Unix())
	return t + ":" + signatureText.EncodeToString(k.csrfSum(t, user))
}

func (k *Key) csrfSum(at, user string) []byte {
	mac := hmac.New(sha256.New, k.csrf)
	mac.Write([]byte(at + ":" + user + ":"))
	return mac.Sum(nil)
}

// CheckCSRF tells whether token is ours, of user and of the right age at now.
// The error is text for the client.
func (k *Key) CheckCSRF(token, user string, now time.Time) error {
	fail := func(why string) error { return errors.New("invalid csrf token - " + why) }
	t, sig, found := strings.Cut(token, ":")
	if len(token) > maxTicket || !found {
		return fail("no time in it")
	}
	at, err := parseTime(t)
	if err != nil {
		return fail("no time in it")
	}
	sum, err := signatureText.DecodeString(sig)
	if err != nil {
		return fail("could not decode its signature")
	}
	if !hmac.Equal(sum, k.csrfSum(t, user)) {
		return fail("wrong signature")
	}
	return checkAge("csrf token", at, Lifetime, now)
}

// escape percent-encodes all but what is plain in a ticket, a cookie and a
// URL. "%" is not, so Unescape has one answer.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; isPlain(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func isPlain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~@+", c) >= 0
}

// Unescape replaces every %XX, and fails if there is a "%" without.
func Unescape(s string) (string, error) {
	if !strings.Contains(s, "%") {
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b = append(b, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", errTicket
		}
		c, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", errTicket
		}
		b = append(b, byte(c))
		i += 2
	}
	return string(b), nil
}
