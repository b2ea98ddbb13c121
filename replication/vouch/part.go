// Package vouch is how a site proves that an encrypted chunk is the one that a
// client stored, though it has no key to look inside.
//
// The name of an encrypted chunk is made with the client's key, so whoever has
// no key cannot compute it again, and a CRC is easily forged. So the node that
// a client sent a snapshot to, its origin, says of each of its indexes what the
// stored bytes of every chunk sum up to (BLAKE3), and signs that. A [Part] is
// such a statement; it is a file of the snapshot at every other site, and goes
// wherever the snapshot goes.
//
// Who is the origin of a snapshot is for others to know: [Config.Believe].
package vouch

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// A Sum is the BLAKE3 of an encrypted blob; zero of a chunk that is not
// encrypted, whose name is check enough.
type Sum = [32]byte

// SumOf returns the sum of a blob.
func SumOf(b chunks.Blob) Sum { return format.ContentSum(b) }

// A Part says what some of the chunks of an index are. In bytes, numbers little
// endian:
//
//	magic "HFSUMS01" 8 | key of the signer 32 | csum of the index 32 | first u32 | number u32 | sums | signature 64
//
// The signature is over "holdfast/sums/1", a zero byte, and the SHA-256 of all
// that is before it.
type Part struct {
	Key   [ed25519.PublicKeySize]byte
	Index chunks.Digest // Csum of the index
	First uint32        // which of its different chunks, in the order in which it names them, the first sum is of
	Sums  []Sum
	Sig   [ed25519.SignatureSize]byte
}

const (
	magic    = "HFSUMS01"
	headSize = len(magic) + ed25519.PublicKeySize + chunks.DigestSize + 8

	// maxSums is how many sums a part has, so that it fits a blob.
	maxSums = 500_000
)

// ErrInvalid is what every part is that nobody has signed.
var ErrInvalid = errors.New("not a signed list of sums")

func (p *Part) body() []byte {
	b := make([]byte, 0, headSize+len(p.Sums)*len(Sum{})+len(p.Sig))
	b = append(b, magic...)
	b = append(b, p.Key[:]...)
	b = append(b, p.Index[:]...)
	b = binary.LittleEndian.AppendUint32(b, p.First)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(p.Sums)))
	for _, s := range p.Sums {
		b = append(b, s[:]...)
	}
	return b
}

// Bytes returns the part as it is stored and sent.
func (p *Part) Bytes() []byte { return append(p.body(), p.Sig[:]...) }

func message(body []byte) []byte {
	sum := sha256.Sum256(body)
	return append([]byte("holdfast/sums/1\x00"), sum[:]...)
}

// sign signs the part with the Ed25519 key of a node.
func (p *Part) sign(key crypto.Signer) error {
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return fmt.Errorf("sign sums: key is a %T, want an Ed25519 key", key.Public())
	}
	copy(p.Key[:], pub)
	sig, err := key.Sign(nil, message(p.body()), crypto.Hash(0))
	if err != nil {
		return fmt.Errorf("sign sums: %w", err)
	}
	copy(p.Sig[:], sig)
	return nil
}

// Parse reads a part, and checks that it was signed with the key that it names.
func Parse(b []byte) (*Part, error) {
	if len(b) < headSize+ed25519.SignatureSize || !bytes.HasPrefix(b, []byte(magic)) {
		return nil, ErrInvalid
	}
	p := &Part{}
	body, sig := b[:len(b)-len(p.Sig)], b[len(b)-len(p.Sig):]
	at := body[len(magic):]
	at = at[copy(p.Key[:], at):]
	at = at[copy(p.Index[:], at):]
	p.First = binary.LittleEndian.Uint32(at)
	n := binary.LittleEndian.Uint32(at[4:])
	at = at[8:]
	if n > maxSums || int(n)*len(Sum{}) != len(at) {
		return nil, ErrInvalid
	}
	copy(p.Sig[:], sig)
	if !ed25519.Verify(p.Key[:], message(body), sig) {
		return nil, ErrInvalid
	}
	p.Sums = make([]Sum, n)
	for i := range p.Sums {
		at = at[copy(p.Sums[i][:], at):]
	}
	return p, nil
}

// A File is a part as a file of a snapshot.
type File struct {
	Name string
	Blob chunks.Blob
}

// Name is what the n-th part about an archive is called.
func Name(archive string, n int) string {
	if n == 0 {
		return archive + suffix
	}
	return fmt.Sprintf("%s.%d%s", archive, n, suffix)
}

const suffix = ".sums.blob"

// Is reports whether a file of a snapshot is a part, by its name.
func Is(name string) bool { return strings.HasSuffix(name, suffix) }

// Open reads the part in a file.
func Open(b chunks.Blob) (*Part, error) {
	text, err := b.Decode(nil, nil)
	if err != nil {
		return nil, err
	}
	return Parse(text)
}

// Distinct returns the chunks of an index, each once, in the order in which it
// names them.
func Distinct(x chunks.Index) []chunks.Digest {
	seen := make(map[chunks.Digest]bool, x.Len())
	var list []chunks.Digest
	for _, d := range x.All() {
		if !seen[d] {
			seen[d] = true
			list = append(list, d)
		}
	}
	return list
}
