package chunks

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"golang.org/x/crypto/pbkdf2"
)

// Sizes in bytes of what a [Key] works with (PBS protocol notes §5.2, §5.5).
const (
	KeySize = 32 // the key itself, AES-256
	IVSize  = 16 // the nonce of GCM; not the usual 12
	TagSize = 16 // the authentication tag of GCM
)

// fingerprintInput is hashed to give a key its fingerprint (§5.5).
var fingerprintInput = sha256.Sum256([]byte("Proxmox Backup Encryption Key Fingerprint"))

// A Key encrypts and names the chunks of one owner: AES-256-GCM with a nonce
// of 16 bytes, and an id key derived from the same 32 bytes that takes part
// in digests and signatures (PBS protocol notes §5.5). It is safe for
// concurrent use. No verb of package fmt shows more than its fingerprint. Make
// one with [NewKey].
type Key struct {
	// secret is a closure because fmt prints the address of a function and
	// no more. Out of an unexported field of another struct it would follow a
	// pointer, for a verb such as %s, and no method could stop it.
	secret      func() *secret
	fingerprint Fingerprint
}

type secret struct {
	raw  [KeySize]byte
	id   [sha256.Size]byte
	aead cipher.AEAD
}

// NewKey derives everything that is needed from the 32 bytes of a key.
func NewKey(raw [KeySize]byte) *Key {
	s := &secret{raw: raw}
	copy(s.id[:], pbkdf2.Key(raw[:], []byte("_id_key"), 10, sha256.Size, sha256.New))
	block, err := aes.NewCipher(raw[:])
	if err != nil {
		panic("AES refuses a key of 32 bytes: " + err.Error())
	}
	if s.aead, err = cipher.NewGCMWithNonceSize(block, IVSize); err != nil {
		panic("GCM refuses a nonce of 16 bytes: " + err.Error())
	}
	k := &Key{secret: func() *secret { return s }}
	k.fingerprint = Fingerprint(k.Digest(fingerprintInput[:]))
	return k
}

// Raw returns the key itself, for a key file to keep.
func (k *Key) Raw() [KeySize]byte { return k.secret().raw }

// Fingerprint returns the name of the key, which tells nothing about it.
func (k *Key) Fingerprint() Fingerprint { return k.fingerprint }

// Digest returns the digest of an encrypted chunk: SHA-256(plain ‖ id key).
// It does not allocate.
func (k *Key) Digest(plain []byte) Digest {
	var d Digest
	h := sha256.New() // stays on the stack, as a test makes sure
	h.Write(plain)
	h.Write(k.secret().id[:])
	h.Sum(d[:0])
	return d
}

// Sign returns HMAC-SHA256(id key, data), the signature of a manifest (§5.6)
// when data is its canonical JSON.
func (k *Key) Sign(data []byte) [sha256.Size]byte {
	mac := hmac.New(sha256.New, k.secret().id[:])
	mac.Write(data)
	return [sha256.Size]byte(mac.Sum(nil))
}

// Seal encrypts plain under iv, which has [IVSize] bytes and is used once
// only, and appends the result, as long as plain, to dst. It allocates only
// if dst has less room than len(plain)+[TagSize]. To encrypt in place pass
// plain[:0] as dst; any other overlap panics.
func (k *Key) Seal(dst, iv, plain []byte) (out []byte, tag [TagSize]byte) {
	sealed := k.secret().aead.Seal(dst, iv, plain, nil)
	end := len(sealed) - TagSize
	return sealed[:end], [TagSize]byte(sealed[end:])
}

// Open decrypts what [Key.Seal] made and appends it to dst. It allocates
// only if dst has less room than len(ciphertext)+[TagSize]. It may be
// ciphertext[:0], but must not overlap iv or tag. Open fails, and returns nil,
// if the key is another one or anything was changed; GCM cannot tell which.
func (k *Key) Open(dst, iv, tag, ciphertext []byte) ([]byte, error) {
	if len(iv) != IVSize || len(tag) != TagSize {
		return nil, fmt.Errorf("decrypt: nonce of %d and tag of %d bytes, want %d and %d", len(iv), len(tag), IVSize, TagSize)
	}
	// The cipher wants the tag behind the data, a blob has it in front. One
	// copy joins them; it costs a tenth of the decryption.
	start := len(dst)
	dst = append(append(dst, ciphertext...), tag...)
	out, err := k.secret().aead.Open(dst[:start], iv, dst[start:], nil)
	if err != nil {
		return nil, fmt.Errorf("decrypt with %s: another key was used, or the data was changed", k)
	}
	return out, nil
}

// String names the key by its fingerprint and shows nothing of the key.
func (k Key) String() string { return "key " + k.fingerprint.Short() }

// GoString is String, so that %#v shows nothing of the key either.
func (k Key) GoString() string { return k.String() }

// Format is String for every verb, so that %x and %d show nothing either.
func (k Key) Format(w fmt.State, _ rune) { io.WriteString(w, k.String()) }

// A Fingerprint names a key without telling anything about it:
// SHA-256(SHA-256("Proxmox Backup Encryption Key Fingerprint") ‖ id key).
type Fingerprint [sha256.Size]byte

// ParseFingerprint reads what [Fingerprint.String] writes, in either case.
func ParseFingerprint(s string) (Fingerprint, error) {
	var f Fingerprint
	if len(s) != 3*len(f)-1 {
		return f, fmt.Errorf("fingerprint %.120q has %d characters, want %d", s, len(s), 3*len(f)-1)
	}
	for i := range f {
		if i > 0 && s[3*i-1] != ':' {
			return Fingerprint{}, fmt.Errorf("fingerprint %q: no colon before byte %d", s, i+1)
		}
		if _, err := hex.Decode(f[i:i+1], []byte(s[3*i:3*i+2])); err != nil {
			return Fingerprint{}, fmt.Errorf("fingerprint %q: %w", s, err)
		}
	}
	return f, nil
}

// String returns 32 pairs of lower-case hexadecimal digits joined by colons.
func (f Fingerprint) String() string { return colons(f[:]) }

// Short returns the first 8 pairs, as user interfaces show them.
func (f Fingerprint) Short() string { return colons(f[:8]) }

func colons(b []byte) string {
	text := make([]byte, 0, 3*len(b))
	for i := range b {
		text = append(hex.AppendEncode(text, b[i:i+1]), ':')
	}
	return string(text[:max(len(text)-1, 0)])
}

// MarshalText lets a fingerprint stand in JSON as String writes it.
func (f Fingerprint) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (f *Fingerprint) UnmarshalText(text []byte) error {
	parsed, err := ParseFingerprint(string(text))
	if err == nil {
		*f = parsed
	}
	return err
}
