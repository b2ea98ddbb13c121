package access

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"github.com/holdfast-mesh/holdfast/access/limit"
)

// The cost of a password, RFC 9106 argon2id, version 0x13. It is the first of
// the settings that OWASP's password storage sheet names as equal to each
// other in strength; a stronger one would cost a node under many logins memory
// that backups need, and every failed login costs its sender 3 seconds anyway.
const (
	hashMemory = 19 * 1024 // KiB
	hashPasses = 2
	hashLanes  = 1
	hashSalt   = 16 // bytes
	hashSum    = 32 // bytes
)

const (
	// hashesAtOnce bounds the memory for passwords to 2 × 19 MiB.
	hashesAtOnce = 2
	// hashesWaiting is some 2 s of work: more only makes everybody fail.
	hashesWaiting = 64
)

// hashing runs work, which hashes a password, when it is its turn. It fails
// with [ErrBusy], or because ctx is done.
func (s *Service) hashing(ctx context.Context, work func()) error {
	err := s.hashes.Do(ctx, work)
	if errors.Is(err, limit.ErrFull) {
		return &Error{Kind: ErrBusy, Text: "too many logins at once", Cure: "try again in a few seconds; API tokens do not wait"}
	}
	return err
}

// Limits on what a stored hash may ask for, so that a damaged file cannot
// take the memory of the node.
const (
	maxHashMemory = 256 * 1024 // KiB
	maxHashPasses = 32
	maxHashLanes  = 16
)

// Lengths of a password that is set. A PBS takes 5 characters, its newer
// versions 8; the upper limit is there because something must be.
const (
	minPassword = 8   // characters
	maxPassword = 512 // bytes
)

// A Password is what is kept of one.
type Password struct {
	Hash string `json:"hash"` // argon2id in the PHC string format

	// Since is when it was set, in Unix seconds. Tickets from before are of
	// no use: whoever changes a stolen password also ends what was stolen
	// with it, and an account made anew does not inherit tickets.
	Since int64 `json:"since"`
}

func newPassword(password string, now time.Time) Password {
	h := hash{memory: hashMemory, passes: hashPasses, lanes: hashLanes, salt: make([]byte, hashSalt)}
	_, _ = rand.Read(h.salt) // never fails
	h.sum = h.of(password, hashSum)
	return Password{Hash: h.String(), Since: now.Unix()}
}

// matches tells whether password is the one, in tens of milliseconds.
func (p Password) matches(password string) bool {
	h, err := parseHash(p.Hash)
	if err != nil {
		return false // [State.Check] has refused such a state
	}
	return subtle.ConstantTimeCompare(h.sum, h.of(password, uint32(len(h.sum)))) == 1
}

// checkPassword says whether password may be set.
func checkPassword(password string) error {
	switch {
	case !utf8.ValidString(password):
		return invalid("password", "value is not UTF-8")
	case utf8.RuneCountInString(password) < minPassword:
		return invalid("password", "value must be at least %d characters long", minPassword)
	case len(password) > maxPassword:
		return invalid("password", "value may only be %d bytes long", maxPassword)
	}
	return nil
}

// A hash is a password hash, taken apart.
type hash struct {
	memory, passes uint32 // KiB, number
	lanes          uint8
	salt, sum      []byte
}

func (h hash) of(password string, size uint32) []byte {
	return argon2.IDKey([]byte(password), h.salt, h.passes, h.memory, h.lanes, size)
}

// decoyHash costs what every hash costs. Its sum is nobody's.
var decoyHash = hash{hashMemory, hashPasses, hashLanes, make([]byte, hashSalt), make([]byte, hashSum)}.String()

const hashFormat = "$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s"

func (h hash) String() string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf(hashFormat, h.memory, h.passes, h.lanes, b64(h.salt), b64(h.sum))
}

var errHash = errors.New("not an argon2id hash in the PHC string format")

// parseHash reads what String writes, and nothing else.
func parseHash(s string) (hash, error) {
	var h hash
	parts := strings.Split(s, "$")
	if len(s) > 512 || len(parts) != 6 {
		return h, errHash
	}
	_, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &h.memory, &h.passes, &h.lanes)
	if err != nil {
		return hash{}, errHash
	}
	if h.salt, err = base64.RawStdEncoding.DecodeString(parts[4]); err != nil {
		return hash{}, errHash
	}
	if h.sum, err = base64.RawStdEncoding.DecodeString(parts[5]); err != nil || h.String() != s {
		return hash{}, errHash
	}
	switch {
	case h.memory == 0 || h.memory > maxHashMemory || h.passes == 0 || h.passes > maxHashPasses || h.lanes == 0 || h.lanes > maxHashLanes:
		return hash{}, fmt.Errorf("argon2id hash asks for %d KiB, %d passes and %d lanes, want 1 to %d, %d and %d",
			h.memory, h.passes, h.lanes, maxHashMemory, maxHashPasses, maxHashLanes)
	case len(h.salt) < 8 || len(h.sum) < 16:
		return hash{}, errors.New("argon2id hash has a salt of less than 8 or a sum of less than 16 bytes")
	}
	return h, nil
}
