package keys

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"golang.org/x/crypto/pbkdf2"
	"golang.org/x/crypto/scrypt"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// A KDF says how a passphrase becomes the key that locks a key file.
type KDF uint8

// The choices of the real client, with its parameters.
const (
	Scrypt KDF = iota // n=65536, r=8, p=1: 64 MiB of memory, about 0.2 s; the default
	PBKDF2            // HMAC-SHA256, 65535 rounds: little memory, quickly guessed
	None              // no passphrase: who reads the file has the key
)

// Limits of what a file may ask for: four times what the real client writes,
// and 64 times; about a second of work, which nothing can interrupt. Without
// them a hostile file could ask for any amount of memory and time.
const (
	maxScryptCost = 1 << 21 // n*r*p; times 128 is the memory in bytes, 256 MiB
	maxRounds     = 4 << 20 // of PBKDF2
	saltSize      = 32      // bytes, of salts we make
)

var kdfNames = [...]string{Scrypt: "scrypt", PBKDF2: "pbkdf2", None: "none"}

// ParseKDF reads the names that String gives: scrypt, pbkdf2, none.
func ParseKDF(name string) (KDF, error) {
	for k, n := range kdfNames {
		if n == name {
			return KDF(k), nil
		}
	}
	return 0, fmt.Errorf("key derivation %q: want scrypt, pbkdf2 or none", name)
}

// String names the choice as the real client does.
func (k KDF) String() string {
	if int(k) < len(kdfNames) {
		return kdfNames[k]
	}
	return fmt.Sprintf("kdf %d", uint8(k))
}

// A lock holds what derives a key from a passphrase; exactly one of its
// fields is set. Its JSON is the member "kdf" of a key file.
type lock struct {
	Scrypt *scryptLock `json:"Scrypt,omitempty"`
	PBKDF2 *pbkdf2Lock `json:"PBKDF2,omitempty"`
}

type scryptLock struct {
	N    uint64 `json:"n"`
	R    uint64 `json:"r"`
	P    uint64 `json:"p"`
	Salt []byte `json:"salt"`
}

type pbkdf2Lock struct {
	Iter uint64 `json:"iter"`
	Salt []byte `json:"salt"`
}

// newLock makes a lock with a salt of its own.
func newLock(kdf KDF) *lock {
	salt := make([]byte, saltSize)
	rand.Read(salt) // never fails, see its documentation
	if kdf == PBKDF2 {
		return &lock{PBKDF2: &pbkdf2Lock{65535, salt}}
	}
	return &lock{Scrypt: &scryptLock{65536, 8, 1, salt}}
}

// parseLock reads {"Scrypt":{…}} or {"PBKDF2":{…}}.
func parseLock(raw json.RawMessage) (*lock, error) {
	outer, err := parseObject(raw)
	if err != nil {
		return nil, err
	}
	if len(outer.members) != 1 {
		return nil, fmt.Errorf("names %d methods, want 1", len(outer.members))
	}
	for name, inner := range outer.members {
		o, err := parseObject(inner)
		if err != nil {
			return nil, fmt.Errorf("%.40q: %w", name, err)
		}
		l := new(lock)
		switch name {
		case "Scrypt":
			l.Scrypt = &scryptLock{o.number("n"), o.number("r"), o.number("p"), o.base64("salt")}
		case "PBKDF2":
			l.PBKDF2 = &pbkdf2Lock{o.number("iter"), o.base64("salt")}
		default:
			return nil, fmt.Errorf("method %.40q is not known", name)
		}
		if o.err != nil {
			return nil, fmt.Errorf("%s: %w", name, o.err)
		}
		return l, l.check()
	}
	panic("a map with one member has none")
}

// check says whether the work that l asks for makes sense and is affordable.
func (l *lock) check() error {
	if p := l.PBKDF2; p != nil {
		if p.Iter < 1 || p.Iter > maxRounds {
			return fmt.Errorf("%d rounds of PBKDF2, want 1 to %d", p.Iter, maxRounds)
		}
		return nil
	}
	s := l.Scrypt
	switch {
	case s.N < 2 || s.N&(s.N-1) != 0:
		return fmt.Errorf("n of Scrypt is %d, want a power of two", s.N)
	case s.R < 1 || s.P < 1:
		return fmt.Errorf("r of Scrypt is %d and p is %d, want 1 or more", s.R, s.P)
	case s.N > maxScryptCost || s.R > maxScryptCost/s.N || s.P > maxScryptCost/s.N/s.R:
		return fmt.Errorf("n=%d, r=%d, p=%d of Scrypt is too much work, n*r*p may be %d", s.N, s.R, s.P, maxScryptCost)
	}
	return nil
}

// kdf names the method; a nil lock is no lock.
func (l *lock) kdf() KDF {
	switch {
	case l == nil:
		return None
	case l.PBKDF2 != nil:
		return PBKDF2
	}
	return Scrypt
}

// derive turns a passphrase into the key of the lock, which check approved.
func (l *lock) derive(passphrase []byte) *chunks.Key {
	var raw []byte
	if p := l.PBKDF2; p != nil {
		raw = pbkdf2.Key(passphrase, p.Salt, int(p.Iter), chunks.KeySize, sha256.New)
	} else {
		var err error
		raw, err = scrypt.Key(passphrase, l.Scrypt.Salt, int(l.Scrypt.N), int(l.Scrypt.R), int(l.Scrypt.P), chunks.KeySize)
		if err != nil {
			panic("scrypt refuses what was checked: " + err.Error())
		}
	}
	defer clear(raw)
	return chunks.NewKey([chunks.KeySize]byte(raw))
}
