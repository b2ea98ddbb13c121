// Package factor is the second thing that a user shows beside the password: a
// one-time code of an authenticator (RFC 6238), or one of a few recovery keys
// kept on paper for the day when the authenticator is lost.
package factor

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// CodeDigits is how long a one-time code is.
const CodeDigits = 6

// Time-based one-time passwords (RFC 6238) with what every authenticator
// supports: HMAC-SHA-1, 6 digits, steps of 30 seconds.
const (
	codeModulo = 1000000 // 10^CodeDigits
	codeStep   = 30      // seconds
	codeDrift  = 1       // steps that the two clocks may be apart, as RFC 6238 §5.2 suggests

	newSecret            = 20     // bytes; RFC 4226 §4 R6 wants 16 and recommends 20
	minSecret, maxSecret = 10, 64 // bytes; some authenticators make no more than 10

	// maxFailures wrong codes in a row lock codes out, until a recovery key
	// or an administrator unlocks them. Whoever gets that far has the
	// password; of the million codes three are right at any time, so eight
	// guesses have a chance of 1 in 40,000.
	maxFailures = 8

	recoveryKeys = 10
	recoverySize = 10 // bytes; 80 bits of chance need neither a slow hash nor a lock
)

// A Factor is what a user has to show beside the password.
type Factor struct {
	// Secret is shared with the user's device, so it cannot be hashed.
	Secret []byte `json:"totp-secret"`

	// LastStep is the newest time step whose code was taken. Codes of it and
	// of older ones are refused, so that a code is good for one login.
	LastStep int64 `json:"last-step"`

	// Failures counts wrong codes since the last right one.
	Failures int `json:"failures"`

	// Recovery has the sums of keys that replace one code each; "" is used.
	Recovery []string `json:"recovery"`
}

// Locked tells whether codes are refused because too many were wrong.
func (f Factor) Locked() bool { return f.Failures >= maxFailures }

// RecoveryLeft returns the numbers of the recovery keys not yet used, from 0.
func (f Factor) RecoveryLeft() []int {
	left := []int{}
	for i, sum := range f.Recovery {
		if sum != "" {
			left = append(left, i)
		}
	}
	return left
}

// Clone returns a copy that shares nothing with f.
func (f Factor) Clone() Factor {
	f.Secret, f.Recovery = slices.Clone(f.Secret), slices.Clone(f.Recovery)
	return f
}

// challenge is the JSON in a challenge ticket: what the user may answer with.
type challenge struct {
	TOTP     bool  `json:"totp"`
	Recovery []int `json:"recovery"`
}

// Challenge returns the JSON that says what the user may answer with.
func (f Factor) Challenge() string {
	text, err := json.Marshal(challenge{TOTP: !f.Locked(), Recovery: f.RecoveryLeft()})
	if err != nil {
		panic("factor: a challenge is not JSON: " + err.Error())
	}
	return string(text)
}

// Check says what is wrong with a factor that did not come from this package.
func (f Factor) Check() error {
	switch {
	case len(f.Secret) < minSecret || len(f.Secret) > maxSecret:
		return fmt.Errorf("the secret has %d bytes, want %d to %d", len(f.Secret), minSecret, maxSecret)
	case f.Failures < 0:
		return fmt.Errorf("it has %d failures", f.Failures)
	case len(f.Recovery) > recoveryKeys:
		return fmt.Errorf("it has %d recovery keys, want at most %d", len(f.Recovery), recoveryKeys)
	}
	for _, sum := range f.Recovery {
		if b, err := hex.DecodeString(sum); err != nil || len(b) != 0 && len(b) != sha256.Size {
			return errors.New("the sum of a recovery key is malformed")
		}
	}
	return nil
}

// TryCode takes a code and tells whether it is right, counting if it is not.
func (f *Factor) TryCode(code string, now time.Time) error {
	if f.Locked() {
		return fmt.Errorf("one-time codes are locked after %d wrong ones", f.Failures)
	}
	step := now.Unix() / codeStep
	for s := step - codeDrift; s <= step+codeDrift; s++ {
		if subtle.ConstantTimeCompare([]byte(totp(f.Secret, s)), []byte(code)) == 0 {
			continue
		}
		if s <= f.LastStep {
			return errors.New("the one-time code was used before") // a copy of it, not a guess
		}
		f.LastStep, f.Failures = s, 0
		return nil
	}
	f.Failures++
	return errors.New("wrong one-time code")
}

// TryRecovery takes a recovery key; a right one is used up and unlocks codes.
func (f *Factor) TryRecovery(id, key string) error {
	sum := recoverySum(id, key)
	for i, s := range f.Recovery {
		if s != "" && subtle.ConstantTimeCompare([]byte(s), []byte(sum)) == 1 {
			f.Recovery[i], f.Failures = "", 0
			return nil
		}
	}
	return errors.New("wrong recovery key, or one that was used before")
}

// totp returns the code of a time step (RFC 4226 §5.3).
func totp(secret []byte, step int64) string {
	mac := hmac.New(sha1.New, secret)
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(step)))
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 15
	code := binary.BigEndian.Uint32(sum[at:]) & 0x7fffffff
	return fmt.Sprintf("%0*d", CodeDigits, code%codeModulo)
}

var secretText = base32.StdEncoding.WithPadding(base32.NoPadding)

// NewSecret returns a secret for an authenticator in the base32 that people
// type. Nobody should depend on one before a code of it was seen.
func NewSecret() string {
	var b [newSecret]byte
	_, _ = rand.Read(b[:]) // never fails
	return secretText.EncodeToString(b[:])
}

// ParseSecret reads base32 as people type it: in groups, in lower case.
func ParseSecret(s string) ([]byte, error) {
	plain := strings.ToUpper(strings.NewReplacer(" ", "", "-", "", "=", "").Replace(s))
	b, err := secretText.DecodeString(plain)
	if err != nil || len(b) < minSecret || len(b) > maxSecret || strings.ContainsAny(plain, "\r\n") {
		return nil, errors.New("the secret is not 10 to 64 bytes in base32")
	}
	return b, nil
}

// URI returns what a QR code for authenticators holds. issuer says which
// server it is.
func URI(issuer, id, secret string) string {
	u := url.URL{Scheme: "otpauth", Host: "totp", Path: "/" + issuer + ":" + id}
	// Some authenticators show a "+" as it is, so a blank is %20.
	plus := strings.NewReplacer("+", "%20")
	u.RawQuery = "secret=" + url.QueryEscape(secret) + "&issuer=" + plus.Replace(url.QueryEscape(issuer)) +
		fmt.Sprintf("&algorithm=SHA1&digits=%d&period=%d", CodeDigits, codeStep)
	return u.String()
}

// NewRecovery returns keys for a person to keep, and their sums.
func NewRecovery(id string) (keys, sums []string) {
	for range recoveryKeys {
		var b [recoverySize]byte
		_, _ = rand.Read(b[:]) // never fails
		text := strings.ToLower(secretText.EncodeToString(b[:]))
		key := text[0:4] + "-" + text[4:8] + "-" + text[8:12] + "-" + text[12:16]
		keys, sums = append(keys, key), append(sums, recoverySum(id, key))
	}
	return keys, sums
}

// recoverySum is HMAC-SHA-256 of the key without its decoration, under the
// user's name, so that sums of two users cannot be exchanged.
func recoverySum(id, key string) string {
	mac := hmac.New(sha256.New, []byte("recovery key of "+id))
	mac.Write([]byte(strings.NewReplacer("-", "", " ", "").Replace(strings.ToLower(key))))
	return hex.EncodeToString(mac.Sum(nil))
}
