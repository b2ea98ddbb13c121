package layout

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// A pack in a bucket is either a pack file of docs/pack-format.md, byte for
// byte, or a sealed one:
//
//	header   64 bytes: "HFSP", version, key ID, pack ID, store ID
//	frames   each on a multiple of 8: an entry (header and blob) under AES-GCM
//	footer   the rows, under AES-GCM
//	trailer  32 bytes: where the footer is, its sum, "HFSPEND1"
//
// The key is that of the pack, the nonce is the offset of the frame: a frame
// that was moved, cut, or taken from another pack does not open.
const (
	sealedHead    = 64
	sealedTrailer = 32
	sealedRow     = 40
	tagSize       = 16
)

var (
	sealedMagic = [4]byte{'H', 'F', 'S', 'P'}
	sealedEnd   = [8]byte{'H', 'F', 'S', 'P', 'E', 'N', 'D', '1'}
	le          = binary.LittleEndian
)

// A Row is a chunk of a pack. Its ordinal is its place in the list.
type Row struct {
	Digest chunks.Digest
	Off    int64  // of the frame; a multiple of 8
	Stored uint32 // bytes of the blob
	Kind   chunks.Kind
}

// A Pack is what is known of a pack in a bucket. Rows are in order of offset.
type Pack struct {
	ID      format.ID
	Size    int64 // bytes of the object
	Created time.Time
	Sealed  bool
	Rows    []Row

	Sum uint32 // CRC-32C of the object, if the pack has just been written; else 0
}

// FrameSize is the length of the frame of a blob.
func FrameSize(sealed bool, stored uint32) int64 {
	n := format.EntrySize + int64(stored)
	if sealed {
		n += tagSize
	}
	return n
}

// A PackWriter writes a pack to a file.
type PackWriter struct {
	f     disk.File
	pack  Pack
	store format.ID
	aead  cipher.AEAD // nil: not sealed
	key   *seal.Key
	sum   Summer
	end   int64
	rows  []format.Row // if it is not sealed
	buf   []byte
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A Summer sums what is written to a file from its beginning on, what is passed
// over as zeros.
type Summer struct {
	end int64
	sum uint32
}

var zeros [format.Align]byte

// Write adds what was written at off, behind all that was before.
func (s *Summer) Write(b []byte, off int64) {
	for s.end < off {
		n := min(off-s.end, int64(len(zeros)))
		s.sum, s.end = crc32.Update(s.sum, castagnoli, zeros[:n]), s.end+n
	}
	s.sum, s.end = crc32.Update(s.sum, castagnoli, b), s.end+int64(len(b))
}

// Sum is the CRC-32C of all.
func (s *Summer) Sum() uint32 { return s.sum }

// NewPackWriter begins a pack of a store in an empty file. With a key it is
// sealed. An ID is used once: a second pack under it would repeat nonces.
func NewPackWriter(f disk.File, store format.ID, epoch uint64, key *seal.Key) (*PackWriter, error) {
	w := &PackWriter{f: f, store: store, key: key, pack: Pack{ID: format.NewID(), Created: time.Now().Truncate(time.Second), Sealed: key != nil}}
	var head []byte
	if key == nil {
		h := format.Header{ID: w.pack.ID, Store: store, Created: w.pack.Created, Epoch: epoch}
		head = h.Encode()
	} else {
		w.aead = key.AEAD("pack", w.pack.ID[:])
		head = make([]byte, sealedHead)
		copy(head, sealedMagic[:])
		le.PutUint16(head[4:], Version)
		id := key.ID()
		copy(head[8:], id[:])
		copy(head[16:], w.pack.ID[:])
		copy(head[32:], store[:])
		le.PutUint64(head[48:], uint64(w.pack.Created.Unix()))
	}
	w.end = int64(len(head))
	return w, w.write(head, 0)
}

func (w *PackWriter) write(b []byte, off int64) error {
	_, err := w.f.WriteAt(b, off)
	w.sum.Write(b, off)
	return err
}

// ID returns the pack's ID.
func (w *PackWriter) ID() format.ID { return w.pack.ID }

// Len returns how many chunks the pack has.
func (w *PackWriter) Len() int { return len(w.pack.Rows) }

// SizeWith returns the object's length if a blob of n bytes is added.
func (w *PackWriter) SizeWith(n int) int64 {
	end := w.start(n) + FrameSize(w.pack.Sealed, uint32(n))
	return packSize(w.pack.Sealed, end, int64(len(w.pack.Rows)+1))
}

// packSize is the length of a pack whose frames end at end.
func packSize(sealed bool, end, rows int64) int64 {
	if sealed {
		return end + 8 + rows*sealedRow + tagSize + sealedTrailer
	}
	return format.AlignUp(end, format.Align) + format.AlignUp(rows*96+96, format.Align)
}

func (w *PackWriter) start(n int) int64 { return frameStart(w.pack.Sealed, w.end, n) }

// frameStart is where a blob of n bytes lies behind end.
func frameStart(sealed bool, end int64, n int) int64 {
	if sealed {
		return format.AlignUp(end, format.SmallAlign)
	}
	return format.EntryStart(end, n)
}

// Add appends a chunk.
func (w *PackWriter) Add(d chunks.Digest, b chunks.Blob) error {
	off := w.start(len(b))
	plain, _ := b.PlainLen()
	kind, err := b.Kind()
	if err != nil {
		return err
	}
	e := format.Entry{
		Digest: d, Pack: w.pack.ID.Low(), Own: off, Stored: uint32(len(b)), Plain: uint32(plain),
		Sum: xxhash.Sum64(b), Ordinal: uint32(len(w.pack.Rows)),
	}
	w.buf = append(w.buf[:0], make([]byte, format.EntrySize)...)
	e.Encode(w.buf)
	w.buf = append(w.buf, b...)
	frame := w.buf
	if w.aead != nil {
		frame = w.aead.Seal(w.buf[:0], frameNonce(off), w.buf, nil)
		w.buf = frame
	}
	if err := w.write(frame, off); err != nil {
		return chunks.NoSpace(err)
	}
	if w.aead == nil {
		w.rows = append(w.rows, format.Row{
			Digest: d, Content: format.ContentSum(b), Sum: e.Sum, Off: off, Stored: e.Stored, Plain: e.Plain, Ordinal: e.Ordinal,
		})
	}
	w.pack.Rows = append(w.pack.Rows, Row{d, off, e.Stored, kind})
	w.end = off + int64(len(frame))
	return nil
}

// Close writes the footer and returns what is in the pack. It does not make the
// file durable: its sum tells whether it is.
func (w *PackWriter) Close() (Pack, error) {
	var tail []byte
	var at int64
	if w.aead == nil {
		tail, at = format.Tail(w.pack.ID, w.rows, w.end)
	} else {
		at = format.AlignUp(w.end, format.SmallAlign)
		footer := w.aead.Seal(nil, footerNonce(), encodeRows(nil, w.pack.Rows), nil)
		end := make([]byte, sealedTrailer)
		le.PutUint64(end, uint64(at))
		le.PutUint32(end[8:], uint32(len(w.pack.Rows)))
		le.PutUint64(end[16:], xxhash.Sum64(footer))
		copy(end[24:], sealedEnd[:])
		tail = append(footer, end...)
	}
	err := w.write(tail, at)
	w.pack.Size, w.pack.Sum = at+int64(len(tail)), w.sum.Sum()
	return w.pack, chunks.NoSpace(err)
}

func frameNonce(off int64) []byte {
	nonce := make([]byte, 12)
	le.PutUint64(nonce, uint64(off))
	return nonce
}

// footerNonce is one that no frame has: there is no such offset.
func footerNonce() []byte {
	nonce := frameNonce(-1)
	nonce[11] = 1
	return nonce
}

// An Opener opens the frames of packs.
type Opener struct {
	key *seal.Key
}

// NewOpener returns an opener for the packs of a store; key is nil if they are
// not sealed.
func NewOpener(key *seal.Key) *Opener { return &Opener{key} }

// Frame checks a frame that was read from off of a pack, and returns the chunk.
// The blob uses the frame's memory.
func (o *Opener) Frame(id format.ID, sealed bool, off int64, frame []byte) (chunks.Digest, chunks.Blob, error) {
	if sealed {
		if o.key == nil {
			return chunks.Digest{}, nil, seal.ErrOpen
		}
		plain, err := o.key.AEAD("pack", id[:]).Open(frame[:0], frameNonce(off), frame, nil)
		if err != nil {
			return chunks.Digest{}, nil, fmt.Errorf("%w: %w", chunks.ErrCorrupt, seal.ErrOpen)
		}
		frame = plain
	}
	if len(frame) < format.EntrySize {
		return chunks.Digest{}, nil, fmt.Errorf("%w: a frame of %d bytes", chunks.ErrCorrupt, len(frame))
	}
	d, blob := chunks.Digest(frame[56:88]), chunks.Blob(frame[format.EntrySize:])
	if le.Uint64(frame[8:]) != id.Low() || int64(le.Uint64(frame[16:])) != off {
		return d, nil, fmt.Errorf("%w: it belongs to another place", chunks.ErrCorrupt)
	}
	return d, blob, format.CheckRead(frame[:format.EntrySize], d, blob)
}

// kindOf tells the kind of a blob from what the footer of a pack that is not sealed
// says: only encrypted ones have a sum of their content.
func kindOf(row format.Row) (k chunks.Kind) {
	if row.Content != [32]byte{} {
		k = chunks.Encrypted
	}
	if int(row.Stored) != k.HeaderSize()+int(row.Plain) {
		k |= chunks.Zstd
	}
	return k
}

// ReadPack reads what a pack says of itself, from its end; r is the object and
// size its length. It needs no index: with the packs alone a store can be
// rebuilt.
func (o *Opener) ReadPack(r io.ReaderAt, id format.ID, size int64) (Pack, error) {
	p := Pack{ID: id, Size: size}
	tail := make([]byte, sealedTrailer)
	if size < sealedHead+sealedTrailer {
		return p, fmt.Errorf("pack %s has %d bytes", id, size)
	}
	if _, err := r.ReadAt(tail, size-sealedTrailer); err != nil && !errors.Is(err, io.EOF) {
		return p, err
	}
	if [8]byte(tail[24:]) != sealedEnd {
		rows, _, err := format.ReadFooter(r, id, size)
		if err != nil {
			return p, err
		}
		for _, row := range rows {
			p.Rows = append(p.Rows, Row{row.Digest, row.Off, row.Stored, kindOf(row)})
		}
		sortRows(p.Rows)
		return p, nil
	}
	p.Sealed = true
	at, n := int64(le.Uint64(tail)), int64(le.Uint32(tail[8:]))*sealedRow+tagSize
	if at < sealedHead || at > size-sealedTrailer || n != size-sealedTrailer-at {
		return p, fmt.Errorf("pack %s has a footer of %d bytes at %d, and %d bytes", id, n, at, size)
	}
	footer := make([]byte, n)
	if _, err := r.ReadAt(footer, at); err != nil && !errors.Is(err, io.EOF) {
		return p, err
	}
	if xxhash.Sum64(footer) != le.Uint64(tail[16:]) || o.key == nil {
		return p, fmt.Errorf("pack %s has a damaged footer, or there is no key: %w", id, seal.ErrOpen)
	}
	plain, err := o.key.AEAD("pack", id[:]).Open(nil, footerNonce(), footer, nil)
	if err != nil {
		return p, fmt.Errorf("footer of pack %s: %w", id, seal.ErrOpen)
	}
	p.Rows, err = decodeRows(plain, p)
	return p, err
}
