package ticket

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// A Key signs tickets and CSRF tokens. Nodes that answer at one address share
// it, so that each takes the tickets of the others.
type Key struct {
	sign ed25519.PrivateKey
	csrf []byte // drawn from the other, so that one file is all there is to keep
}

// keyType is the PEM type of a PKCS #8 key (RFC 5958, RFC 8410).
const keyType = "PRIVATE KEY"

// NewKey makes a key out of nothing.
func NewKey() *Key {
	seed := make([]byte, ed25519.SeedSize)
	_, _ = rand.Read(seed) // never fails
	return keyOf(ed25519.NewKeyFromSeed(seed))
}

func keyOf(sign ed25519.PrivateKey) *Key {
	csrf, err := hkdf.Key(sha256.New, sign.Seed(), nil, "holdfast csrf token", sha256.Size)
	if err != nil {
		panic("ticket: HKDF of 32 bytes: " + err.Error())
	}
	return &Key{sign: sign, csrf: csrf}
}

// PEM returns the key as the text that [ParseKey] reads: PKCS #8, Ed25519.
func (k *Key) PEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.sign)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyType, Bytes: der}), nil
}

// ParseKey reads a key in PEM.
func ParseKey(text []byte) (*Key, error) {
	const cure = "remove the file to have a new key made: everybody has to log in again, tokens go on working"
	block, _ := pem.Decode(text)
	if block == nil || block.Type != keyType {
		return nil, &keyError{errors.New("it is not a private key in PEM"), cure}
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, &keyError{err, cure}
	}
	sign, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, &keyError{fmt.Errorf("it is a %T, want an Ed25519 key", parsed), cure}
	}
	return keyOf(sign), nil
}

// A keyError is why a text is no key, with the cure.
type keyError struct {
	error
	cure string
}

func (e *keyError) Unwrap() error { return e.error }
func (e *keyError) Hint() string  { return e.cure }
