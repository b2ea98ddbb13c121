// Package feed keeps what nodes say of themselves: which snapshots they added,
// verified, pruned or put into quarantine, and what they ran.
//
// A feed has one writer, the node whose it is, and only grows. Every record
// names the hash of the one before and is signed, so a feed can be had from
// anybody who holds it, and needs neither a leader nor a quorum. A node that
// shows two histories has signed both: whoever sees them has a proof, a
// [Fork].
//
// A node whose disk went back to an earlier state must not go on as if nothing
// had happened, since that would be a second history. It begins a new epoch
// ([Store.NewEpoch]), which says behind which record it knows itself to be.
//
// What records say is for others to know: to this package they are a kind and
// bytes.
package feed

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// An Origin is the Ed25519 key of the node whose feed it is.
type Origin [ed25519.PublicKeySize]byte

// A Record is one statement. In bytes, numbers big endian:
//
//	version u8 = 1 | epoch u64 | seq u64 | time i64, Unix ms | hash of the record before 32 |
//	kind u16 | length u32, data | signature 64
//
// The signature is over "holdfast/feed/1" 0, the origin, and all before it;
// the hash is the SHA-256 of the same. The first record of a feed has the seq
// 1 and no hash before it.
type Record struct {
	Epoch uint64
	Seq   uint64
	At    time.Time
	Prev  [32]byte
	Kind  uint16
	Data  []byte
	Sig   [64]byte
}

const (
	recordVersion = 1
	recordHead    = 1 + 8 + 8 + 8 + 32 + 2 + 4
	recordLeast   = recordHead + 64
	// MaxData bounds the data of a record.
	MaxData      = 64 << 10
	recordDomain = "holdfast/feed/1\x00"
)

// ErrInvalid is what every record is that is not one of its origin, or not
// where it stands.
var ErrInvalid = errors.New("not a valid record")

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// body is the record without its signature.
func (r Record) body() []byte {
	b := make([]byte, 0, recordLeast+len(r.Data))
	b = append(b, recordVersion)
	b = binary.BigEndian.AppendUint64(b, r.Epoch)
	b = binary.BigEndian.AppendUint64(b, r.Seq)
	b = binary.BigEndian.AppendUint64(b, uint64(r.At.UnixMilli()))
	b = append(b, r.Prev[:]...)
	b = binary.BigEndian.AppendUint16(b, r.Kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Data)))
	return append(b, r.Data...)
}

// Bytes returns the record as it is stored and sent.
func (r Record) Bytes() []byte { return append(r.body(), r.Sig[:]...) }

func signed(o Origin, body []byte) []byte {
	return append(append([]byte(recordDomain), o[:]...), body...)
}

// Hash names the record, and all before it.
func (r Record) Hash(o Origin) [32]byte { return sha256.Sum256(signed(o, r.body())) }

// sign makes r a record of the key.
func (r *Record) sign(key ed25519.PrivateKey) {
	r.Sig = [64]byte(ed25519.Sign(key, signed(OriginOf(key), r.body())))
}

// OriginOf is the origin whose feed a key writes.
func OriginOf(key ed25519.PrivateKey) Origin { return Origin(key.Public().(ed25519.PublicKey)) }

// Parse reads a record and checks that its origin has signed it.
func Parse(o Origin, b []byte) (r Record, err error) {
	if r, err = Read(b); err != nil {
		return r, err
	}
	if !ed25519.Verify(o[:], signed(o, b[:len(b)-64]), r.Sig[:]) {
		return Record{}, invalid("record %d.%d is not signed by its origin", r.Epoch, r.Seq)
	}
	return r, nil
}

// Read reads a record that was checked before, as those from a [Store] are.
func Read(b []byte) (r Record, err error) {
	if len(b) < recordLeast || b[0] != recordVersion {
		return r, invalid("%d bytes of version %d", len(b), first(b))
	}
	n := binary.BigEndian.Uint32(b[recordHead-4:])
	if n > MaxData || uint64(len(b)) != recordLeast+uint64(n) {
		return r, invalid("%d bytes of data in a record of %d bytes", n, len(b))
	}
	r = Record{
		Epoch: binary.BigEndian.Uint64(b[1:]), Seq: binary.BigEndian.Uint64(b[9:]),
		At:   time.UnixMilli(int64(binary.BigEndian.Uint64(b[17:]))),
		Prev: [32]byte(b[25:57]), Kind: binary.BigEndian.Uint16(b[57:]),
		Data: append([]byte(nil), b[recordHead:len(b)-64]...), Sig: [64]byte(b[len(b)-64:]),
	}
	if r.Epoch == 0 || r.Seq == 0 {
		return Record{}, invalid("it has no place")
	}
	return r, nil
}

func first(b []byte) byte {
	if len(b) == 0 {
		return 0
	}
	return b[0]
}

// A Head is where a feed ends. Heads of one feed are ordered by epoch and seq.
type Head struct {
	Epoch uint64
	Seq   uint64
	Hash  [32]byte
}

// Before tells whether h is an earlier place than g.
func (h Head) Before(g Head) bool { return h.Epoch < g.Epoch || h.Epoch == g.Epoch && h.Seq < g.Seq }

// A Fork is the proof that a node shows two histories: two records that it has
// signed and that cannot both be in one feed.
type Fork struct {
	Origin       Origin
	Ours, Theirs Record
}

func (f *Fork) Error() string {
	return fmt.Sprintf("node %x shows two histories: at %d.%d and at %d.%d", f.Origin[:6], f.Ours.Epoch, f.Ours.Seq, f.Theirs.Epoch, f.Theirs.Seq)
}

// Hint says what an operator can do about it.
func (f *Fork) Hint() string {
	return "the node's disk was set back and it was not noticed, or somebody else has its key: look at it, then `holdfast member eject` it and let it join again"
}
