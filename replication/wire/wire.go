// Package wire is how one node reads from another: the peer protocol.
//
// It is HTTP/1.1 over the tunnel, which tells who is asking, so there is no
// TLS and no login inside. Nothing in it changes what the other node holds:
// the [Server] works on a [Store], which has no way to do so.
//
//	GET  /v1/stores                     what the asking node may read
//	GET  /v1/catalog?store=&ns=&depth=  groups and snapshots; If-None-Match
//	POST /v1/files?store=               manifests, indexes and blobs of snapshots
//	POST /v1/have?store=                which of these chunks are here
//	GET  /v1/chunks?store=              a stream of chunks (Upgrade)
//	GET  /v1/ping                       nothing, quickly
//
// docs/replication.md has the formats to the byte.
package wire

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// Protocol is what the stream of chunks upgrades to.
const Protocol = "holdfast-chunks/1"

// Limits of messages, which a peer's bytes have to keep to.
const (
	maxAsk     = 4096                            // digests in one question of a stream, or snapshots in one of files
	maxQueued  = 1 << 16                         // digests that a stream may be asked for ahead
	maxHave    = 1 << 16                         // digests in one question of have
	maxCatalog = 256 << 20                       // bytes of a catalogue, before compression
	maxFile    = chunks.MaxIndex + 1<<20         // bytes of a file of a snapshot
	maxFiles   = 1024                            // files of a snapshot
	maxRequest = maxAsk * (naming.MaxName + 600) // bytes of the body of a request for files
)

// quiet is how long a peer that owes us bytes may send none.
const quiet = 30 * time.Second

// A Store is what a server reads from. There is nothing in it that writes.
type Store interface {
	Namespaces(ctx context.Context, under naming.Namespace, depth int) ([]naming.Namespace, error)
	List(ctx context.Context, opt catalog.ListOptions) ([]catalog.Info, error)
	Owner(ns naming.Namespace, g naming.Group) (string, error)
	Files(ns naming.Namespace, s naming.Snapshot) ([]string, error)
	Manifest(ns naming.Namespace, s naming.Snapshot) (*manifest.Manifest, error)
	ReadBlob(ns naming.Namespace, s naming.Snapshot, file string) (chunks.Blob, error)
	ReadIndex(ns naming.Namespace, s naming.Snapshot, file string) (chunks.Index, error)
}

// Chunks is where the chunks of a Store are read.
type Chunks interface {
	chunks.BatchSource
	LocateMany(ds []chunks.Digest, fn func(i int, ref pack.Ref, held bool))
	Generation() uint64
}

// A Snapshot names a snapshot of a store.
type Snapshot struct {
	Namespace naming.Namespace
	naming.Snapshot
}

// String returns it as people write it.
func (s Snapshot) String() string {
	if s.Namespace == "" {
		return s.Snapshot.String()
	}
	return string(s.Namespace) + ":" + s.Snapshot.String()
}

// A File is a file of a snapshot, as it lies there.
type File struct {
	Name string
	Data []byte
}

// Sum returns a sum of what a manifest says, notes included, without the
// state of verification: every site verifies for itself. It is zero if the
// manifest has no canonical form.
func Sum(m *manifest.Manifest) (sum [16]byte) {
	text, err := m.Canonical()
	if err != nil {
		return sum
	}
	h := sha256.New()
	h.Write(text)
	h.Write([]byte{0})
	io.WriteString(h, m.Notes())
	copy(sum[:], h.Sum(nil))
	return sum
}

// An Error is what a peer says of a request.
type Error struct {
	Peer   string
	Status int
	Text   string
}

// Error says who refused, and why.
func (e *Error) Error() string { return fmt.Sprintf("%s refused: %s (%d)", e.Peer, e.Text, e.Status) }

// Hint is printed on its own line below the error.
func (e *Error) Hint() string {
	if e.Status == 403 {
		return "on that node allow this one to read: holdfast acl update /datastore/STORE DatastoreReader --auth-id NODE"
	}
	return ""
}

var errFormat = errors.New("message is not in the format of the peer protocol")

// States of an answer in a stream of chunks.
const (
	stateHeld uint8 = iota
	stateMissing
	stateFailed
	stateRest // the end of the blob, whose beginning the peer has
)

// answerSize is the head of an answer: digest, length, state.
const answerSize = chunks.DigestSize + 4 + 1

func appendAnswer(b []byte, d chunks.Digest, n int, state uint8) []byte {
	b = append(b, d[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(n))
	return append(b, state)
}

// The first byte of the text of what failed says why; then comes the text. A peer of
// before there were codes sends none, and text has no such bytes.
const (
	codeAway    = 1 // the home of the chunk cannot be reached: nothing is wrong with it
	codeDamaged = 2
)

// failure returns what a peer is told of a chunk that cannot be read.
func failure(err error) []byte {
	code := byte(codeDamaged)
	if errors.Is(err, chunks.ErrAway) {
		code = codeAway
	}
	return append([]byte{code}, err.Error()...)
}

// failed is the other end of failure.
func failed(text []byte) error {
	why := chunks.ErrCorrupt
	switch {
	case len(text) > 0 && text[0] == codeAway:
		why, text = chunks.ErrAway, text[1:]
	case len(text) > 0 && text[0] == codeDamaged:
		text = text[1:]
	case bytes.Contains(text, []byte(chunks.ErrAway.Error())):
		why = chunks.ErrAway
	}
	return fmt.Errorf("%w there: %q", why, text)
}

func parseAnswer(b []byte) (d chunks.Digest, n int, state uint8, err error) {
	copy(d[:], b)
	n, state = int(binary.LittleEndian.Uint32(b[chunks.DigestSize:])), b[answerSize-1]
	if n > chunks.MaxBlob || state > stateRest || state == stateMissing && n != 0 {
		return d, 0, 0, errFormat
	}
	return d, n, state, nil
}

// readDigests reads how many digests follow, and the digests.
func readDigests(r io.Reader, limit int) ([]chunks.Digest, error) {
	n, err := readCount(r)
	if err != nil {
		return nil, err
	}
	return readMany(r, n, limit)
}

func readCount(r io.Reader) (uint32, error) {
	var head [4]byte
	_, err := io.ReadFull(r, head[:])
	return binary.LittleEndian.Uint32(head[:]), err
}

func readMany(r io.Reader, n uint32, limit int) ([]chunks.Digest, error) {
	if n > uint32(limit) {
		return nil, errFormat
	}
	b := make([]byte, n*chunks.DigestSize)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, noEOF(err)
	}
	ds := make([]chunks.Digest, n)
	for i := range ds {
		copy(ds[i][:], b[i*chunks.DigestSize:])
	}
	return ds, nil
}

// A question is for a chunk, or for the end of it.
type question struct {
	digest chunks.Digest
	from   int // bytes of the blob that the peer has
	size   int // of the blob that these are of
}

// rest, in the place of a number of digests, says that a question for the end of
// one chunk follows: its digest, from and size.
const rest = 1<<32 - 1

func readQuestions(r io.Reader) ([]question, error) {
	n, err := readCount(r)
	if err != nil {
		return nil, err
	}
	if n == rest {
		var b [chunks.DigestSize + 8]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, noEOF(err)
		}
		q := question{from: int(binary.LittleEndian.Uint32(b[chunks.DigestSize:])), size: int(binary.LittleEndian.Uint32(b[chunks.DigestSize+4:]))}
		copy(q.digest[:], b[:])
		if q.from > q.size || q.size > chunks.MaxBlob {
			return nil, errFormat
		}
		return []question{q}, nil
	}
	ds, err := readMany(r, n, maxAsk)
	if err != nil {
		return nil, err
	}
	qs := make([]question, len(ds))
	for i, d := range ds {
		qs[i].digest = d
	}
	return qs, nil
}

func appendRest(b []byte, d chunks.Digest, from, size int) []byte {
	b = binary.LittleEndian.AppendUint32(b, rest)
	b = append(b, d[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(from))
	return binary.LittleEndian.AppendUint32(b, uint32(size))
}

func appendDigests(b []byte, ds []chunks.Digest) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(ds)))
	for _, d := range ds {
		b = append(b, d[:]...)
	}
	return b
}

// noEOF says that the end came too early.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
