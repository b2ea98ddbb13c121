// Package seal encrypts what lies in a bucket.
//
// A store has one random [Key]. From it, HKDF derives a key of its own for
// every object, so that no two objects share a nonce, and none can be passed
// off as another. The key itself is kept wrapped by age to several recipients:
// the node, and a recovery key that lies in a drawer.
package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
)

// ErrOpen says that something does not open: it was changed, it is not what it
// is said to be, or the key is another one.
var ErrOpen error = &openError{}

type openError struct{}

func (*openError) Error() string { return "it does not open with the store's key" }

// Hint is printed on its own line below the error.
func (*openError) Hint() string {
	return "if every object of the bucket fails so, the key is another store's; if one does, it is damaged"
}

// KeySize is the length of a store's key in bytes.
const KeySize = 32

// A KeyID tells keys apart. It says nothing of the key.
type KeyID [8]byte

func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// A Key is the secret of one store.
type Key struct {
	secret [KeySize]byte
	id     KeyID
}

// NewKey returns a random key.
func NewKey() *Key {
	var secret [KeySize]byte
	rand.Read(secret[:])
	return keyOf(secret)
}

func keyOf(secret [KeySize]byte) *Key {
	k := &Key{secret: secret}
	copy(k.id[:], k.derive("id", nil, len(k.id)))
	return k
}

// ID returns the key's name.
func (k *Key) ID() KeyID { return k.id }

// derive returns n bytes for one purpose.
func (k *Key) derive(label string, context []byte, n int) []byte {
	out, err := hkdf.Key(sha256.New, k.secret[:], nil, "holdfast cloud "+label+"\x00"+string(context), n)
	if err != nil {
		panic(err) // only if n is absurd
	}
	return out
}

// AEAD returns AES-256-GCM under a key that nothing else uses: label says for
// what, context for which object.
func (k *Key) AEAD(label string, context []byte) cipher.AEAD {
	block, err := aes.NewCipher(k.derive(label, context, 32))
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// Signer returns the key that signs the store's roots.
func (k *Key) Signer() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(k.derive("sign", nil, ed25519.SeedSize))
}

// objectMagic begins every small object that is sealed.
var objectMagic = [8]byte{'H', 'F', 'S', 'E', 'A', 'L', '0', '1'}

const objectHead = len(objectMagic) + len(KeyID{}) + 12

// Seal encrypts a small object. name is where it will lie: under another name
// it does not open.
func (k *Key) Seal(name string, plain []byte) []byte {
	b := make([]byte, objectHead, objectHead+len(plain)+16)
	copy(b, objectMagic[:])
	copy(b[8:], k.id[:])
	nonce := b[16:objectHead]
	rand.Read(nonce)
	return k.AEAD("object", []byte(name)).Seal(b, nonce, plain, b[:16])
}

// Open decrypts what Seal made.
func (k *Key) Open(name string, sealed []byte) ([]byte, error) {
	if len(sealed) < objectHead || [8]byte(sealed) != objectMagic {
		return nil, fmt.Errorf("%s: it is not sealed", name)
	}
	if id := KeyID(sealed[8:16]); id != k.id {
		return nil, fmt.Errorf("%s: sealed with key %s, ours is %s: %w", name, id, k.id, ErrOpen)
	}
	plain, err := k.AEAD("object", []byte(name)).Open(nil, sealed[16:objectHead], sealed[objectHead:], sealed[:16])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, ErrOpen)
	}
	return plain, nil
}

// Wrap encrypts k to every one of recipients, each of whom can open it alone.
func (k *Key) Wrap(recipients ...age.Recipient) ([]byte, error) {
	if len(recipients) == 0 {
		return nil, errors.New("wrap the store's key: nobody to wrap it to")
	}
	var b bytes.Buffer
	w, err := age.Encrypt(&b, recipients...)
	if err != nil {
		return nil, fmt.Errorf("wrap the store's key: %w", err)
	}
	if _, err := w.Write(k.secret[:]); err != nil {
		return nil, fmt.Errorf("wrap the store's key: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("wrap the store's key: %w", err)
	}
	return b.Bytes(), nil
}

// Unwrap opens a wrapped key with any of identities.
func Unwrap(wrapped []byte, identities ...age.Identity) (*Key, error) {
	if len(identities) == 0 {
		return nil, &noKey{errors.New("there is no key to open it with")}
	}
	r, err := age.Decrypt(bytes.NewReader(wrapped), identities...)
	if err != nil {
		return nil, &noKey{err}
	}
	secret, err := io.ReadAll(io.LimitReader(r, KeySize+1))
	if err != nil || len(secret) != KeySize {
		return nil, &noKey{errors.Join(fmt.Errorf("it has %d bytes, want %d", len(secret), KeySize), err)}
	}
	return keyOf([KeySize]byte(secret)), nil
}

// Recipients is how many keys open a wrapped key, each alone, as its head says.
func Recipients(wrapped []byte) (n int) {
	for line := range bytes.Lines(wrapped) {
		if bytes.HasPrefix(line, []byte("---")) {
			return n
		}
		if bytes.HasPrefix(line, []byte("-> ")) {
			n++
		}
	}
	return 0 // it has no end: it is none
}

type noKey struct{ err error }

func (e *noKey) Error() string { return fmt.Sprintf("unwrap the store's key: %v", e.err) }
func (e *noKey) Unwrap() error { return e.err }

// Hint is printed on its own line below the error.
func (e *noKey) Hint() string {
	return "give the recovery key that was printed when encryption was switched on (AGE-SECRET-KEY-1...)"
}

// ParseRecipients reads public keys, "age1...", one each.
func ParseRecipients(keys ...string) ([]age.Recipient, error) {
	var all []age.Recipient
	for _, k := range keys {
		r, err := age.ParseX25519Recipient(strings.TrimSpace(k))
		if err != nil {
			return nil, fmt.Errorf("recipient %q: %w", k, err)
		}
		all = append(all, r)
	}
	return all, nil
}

// ParseIdentity reads a secret key, "AGE-SECRET-KEY-1...".
func ParseIdentity(key string) (*age.X25519Identity, error) {
	id, err := age.ParseX25519Identity(strings.TrimSpace(key))
	if err != nil {
		return nil, errors.New("that is not a recovery key: want AGE-SECRET-KEY-1 and 58 characters more")
	}
	return id, nil
}

// NewIdentity returns a new secret key; its Recipient and String are what to
// wrap to and what to print.
func NewIdentity() (*age.X25519Identity, error) { return age.GenerateX25519Identity() }
