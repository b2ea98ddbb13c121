package manifest

import (
	"crypto/hmac"
	"errors"
	"fmt"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
)

// The ways in which [Manifest.Check] and [Manifest.Sign] fail. Match them with
// errors.Is; the first two are a chunks.ErrNoKey and a chunks.ErrWrongKey too.
var (
	ErrMissingKey = fmt.Errorf("missing key: %w", chunks.ErrNoKey)
	ErrWrongKey   = fmt.Errorf("wrong key: %w", chunks.ErrWrongKey)
	ErrSignature  = errors.New("signature does not fit")
	ErrUnsigned   = errors.New("signature is missing")
)

// A KeyError says why a manifest and a key do not go together.
type KeyError struct {
	Snapshot naming.Snapshot
	Err      error // one of the errors above

	text, cure string
}

func (e *KeyError) Error() string {
	return fmt.Sprintf("check manifest of %s: %s", e.Snapshot, e.text)
}

func (e *KeyError) Unwrap() error { return e.Err }

// Hint is printed on its own line below the error.
func (e *KeyError) Hint() string { return e.cure }

// Sign signs the manifest and notes the fingerprint of the key in it. It fails
// with [ErrInvalid] if there is something in it that cannot be signed.
func (m *Manifest) Sign(key *chunks.Key) error {
	if key == nil {
		return fmt.Errorf("sign manifest of %s: %w", m.Snapshot(), chunks.ErrNoKey)
	}
	text, err := m.Canonical()
	if err != nil {
		return err
	}
	if hasNull(m.signed()) {
		return fmt.Errorf("sign manifest of %s: %w: it has a null", m.Snapshot(), ErrInvalid)
	}
	sum := key.Sign(text)
	m.Signature, m.foreign = &sum, ""
	m.setUnprotected(fingerprintName, key.Fingerprint().String())
	return nil
}

// Signed reports whether the manifest has a signature, whoever made it, or
// something else in its place.
func (m *Manifest) Signed() bool { return m.Signature != nil || m.foreign != "" }

// Check checks the manifest with the key that the backup was made with, nil if
// there is none. The error is a [*KeyError] of
//   - [ErrMissingKey] if key is nil and the manifest was made with one;
//   - [ErrWrongKey] if the manifest names another key;
//   - [ErrSignature] if it was changed since it was signed;
//   - [ErrUnsigned] if it is not signed but names a key, or lists files that one
//     was used for. PBS lets this pass, but then whoever holds the backup could
//     take the signature off and swap the files.
//
// A manifest that no key was used for passes with any key and without. So does
// one whose signature and crypt modes were both taken away: a caller who knows
// that the backup was made with a key asks Signed as well. To restore
// rsa-encrypted.key.blob, which is how a lost key is got back, do without Check.
func (m *Manifest) Check(key *chunks.Key) error {
	named, isNamed := m.KeyFingerprint()
	switch {
	case key == nil && isNamed:
		return m.keyError(ErrMissingKey, "missing key - manifest was created with key "+named.Short(),
			"name the key file with --keyfile")
	case key == nil && m.Signed():
		return m.keyError(ErrMissingKey, "missing key - manifest is signed",
			"name the key file with --keyfile")
	case key == nil:
		return nil
	case isNamed && named != key.Fingerprint():
		return m.keyError(ErrWrongKey, fmt.Sprintf("wrong key - manifest was created with key %s, not with %s", named.Short(), key.Fingerprint().Short()),
			"name the file of that key with --keyfile")
	case m.Signed():
		return m.checkSignature(key)
	case isNamed:
		return m.keyError(ErrUnsigned, "it names a key but is not signed", unsignedCure)
	}
	for _, f := range m.Files {
		if f.CryptMode == Encrypt || f.CryptMode == SignOnly {
			return m.keyError(ErrUnsigned, fmt.Sprintf("it lists %s with crypt mode %s but is not signed", f.Name, f.CryptMode), unsignedCure)
		}
	}
	return nil
}

// unsignedCure helps against ErrUnsigned.
const unsignedCure = "the signature was taken off, or the client does not sign: compare with another copy of the snapshot"

func (m *Manifest) checkSignature(key *chunks.Key) error {
	text, err := m.Canonical()
	if err != nil {
		return err
	}
	want := key.Sign(text)
	if m.Signature == nil || hasNull(m.signed()) || !hmac.Equal(want[:], m.Signature[:]) {
		return m.keyError(ErrSignature, "signature does not fit: the manifest was changed, or signed with another key",
			"do not trust this copy of the snapshot; restore from another copy of it, or another snapshot")
	}
	return nil
}

func (m *Manifest) keyError(kind error, text, cure string) error {
	return &KeyError{m.Snapshot(), kind, text, cure}
}
