package chunks

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// DigestSize is the length of a [Digest] in bytes.
const DigestSize = sha256.Size

// A Digest is the name of a chunk: the SHA-256 of its plain content, or of
// the content followed by the id key where the chunk is encrypted (PBS
// protocol notes §5.5), so that equal data under two keys does not look equal.
type Digest [DigestSize]byte

// Sum returns the digest of an unencrypted chunk.
func Sum(plain []byte) Digest { return sha256.Sum256(plain) }

// ParseDigest reads the 64 hexadecimal digits that String writes.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) != 2*DigestSize {
		return d, fmt.Errorf("digest %q has %d characters, want %d", s, len(s), 2*DigestSize)
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return Digest{}, fmt.Errorf("digest %q: %w", s, err)
	}
	return d, nil
}

// String returns the digest as 64 lower-case hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Short returns the first 8 hexadecimal digits, enough for a person to
// recognise a chunk in a message.
func (d Digest) Short() string { return hex.EncodeToString(d[:4]) }

// Compare orders digests by their bytes, as the index files of packs do.
func (d Digest) Compare(o Digest) int { return bytes.Compare(d[:], o[:]) }

// MarshalText and UnmarshalText let a digest stand in JSON and flags as hex.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (d *Digest) UnmarshalText(text []byte) error {
	parsed, err := ParseDigest(string(text))
	if err == nil {
		*d = parsed
	}
	return err
}
