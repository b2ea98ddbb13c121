package format

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/cespare/xxhash/v2"
	"github.com/zeebo/blake3"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// Reasons for which a part of a pack is not taken.
var (
	errUnsealed = errors.New("pack is not sealed")
	errSum      = errors.New("stored bytes do not match their sum")
)

// A Window reads a file from front to back in large, aligned pieces.
type Window struct {
	r    io.ReaderAt
	size int64
	buf  []byte // holds [off, off+len(buf)) of the file
	off  int64
}

// NewWindow reads the first size bytes of r, and up to the end of a block more.
// Free gives its memory back.
func NewWindow(r io.ReaderAt, size int64) *Window {
	return &Window{r: r, size: size, buf: disk.GetLarge()}
}

// Free ends the use of w and of what it returned.
func (w *Window) Free() {
	disk.PutLarge(w.buf)
	w.buf = nil
}

// At returns n bytes from off, or as many as the file has. The result is valid
// until the next call.
func (w *Window) At(off int64, n int) ([]byte, error) {
	n = int(min(int64(n), max(w.size-off, 0)))
	if off < w.off || off+int64(n) > w.off+int64(len(w.buf)) {
		if err := w.fill(off, n); err != nil {
			return nil, err
		}
	}
	got := w.buf[min(off-w.off, int64(len(w.buf))):]
	return got[:min(n, len(got))], nil
}

// fill reads on from the block of off, and keeps what it has of that already.
// Where that fails it reads no more than is asked for, so that one bad sector
// spoils only what lies on it.
func (w *Window) fill(off int64, n int) error {
	start := off &^ (Align - 1)
	exact := int(AlignUp(off+int64(n)-start, Align))
	need := max(exact, int(min(disk.LargeBytes, AlignUp(w.size-start, Align)))) // what lies behind is somebody else's
	var kept []byte
	if end := w.off + int64(len(w.buf)); start >= w.off && start < end && end%Align == 0 {
		kept = w.buf[start-w.off:]
	}
	into := w.buf
	if need > cap(into) {
		into = disk.AlignedBuffer(need)
		defer disk.PutLarge(w.buf)
	}
	at := copy(into[:need], kept)
	got, err := w.r.ReadAt(into[at:need], start+int64(at))
	if err != nil && !errors.Is(err, io.EOF) && at+got < exact {
		at = 0
		got, err = w.r.ReadAt(into[:exact], start)
	}
	w.buf, w.off = into[:at+got], start
	if errors.Is(err, io.EOF) || at+got >= exact {
		return nil
	}
	return err
}

// A flaw is a damaged part of a pack.
type flaw struct {
	Row Row // the entry, where its header could be read
	err error
}

// Scan finds the entries of a pack without its footer, front to back. An entry
// counts only if its header was written for that very place and its blob
// matches the header's sum; whatever lies between is skipped. It returns the
// rows in order of place, the offset behind the last whole entry, and the
// entries whose header is right and whose blob is not.
func Scan(ctx context.Context, r io.ReaderAt, size int64, h *Header) (rows []Row, end int64, flaws []flaw, err error) {
	w, off := NewWindow(r, size), int64(HeaderSize)
	defer w.Free()
	end = off
	for off+EntrySize <= size {
		if err := ctx.Err(); err != nil {
			return nil, 0, nil, err
		}
		e, ok, err := scanHeader(w, h, off)
		if err != nil {
			return nil, 0, nil, err
		}
		if !ok {
			if off, err = scanAhead(w, h, off+SmallAlign); err != nil {
				return nil, 0, nil, err
			}
			continue
		}
		rw := Row{Digest: e.Digest, Sum: e.Sum, Off: off, Stored: e.Stored, Plain: e.Plain, Ordinal: e.Ordinal}
		blob, err := w.At(off+EntrySize, int(e.Stored))
		if err != nil {
			return nil, 0, nil, err
		}
		if len(blob) < int(e.Stored) || xxhash.Sum64(blob) != e.Sum {
			flaws = append(flaws, flaw{rw, errSum})
			off += EntrySize // the blob may be cut short: look inside as well
			continue
		}
		rw.Content = ContentSum(blob)
		rows = append(rows, rw)
		end = rw.End()
		off = AlignUp(end, SmallAlign)
	}
	return rows, end, flaws, nil
}

func scanHeader(w *Window, h *Header, off int64) (Entry, bool, error) {
	b, err := w.At(off, EntrySize)
	if err != nil {
		return Entry{}, false, err
	}
	e, bad := decodeEntry(b, h, off)
	return e, bad == nil && e.Ordinal < MaxEntries, nil
}

// scanAhead returns the next offset from off on at which an entry may start.
func scanAhead(w *Window, h *Header, off int64) (int64, error) {
	for off+EntrySize <= w.size {
		b, err := w.At(off, disk.LargeBytes/4)
		if err != nil {
			return 0, err
		}
		i := bytes.Index(b, entryMagic[:])
		switch {
		case i < 0 && int64(len(b)) >= w.size-off, len(b) < EntrySize: // the latter if the file has shrunk
			return w.size, nil
		case i < 0:
			off = (off + int64(len(b)) - 3) &^ (SmallAlign - 1)
		case (off+int64(i))%SmallAlign != 0:
			off = AlignUp(off+int64(i), SmallAlign)
		default:
			return off + int64(i), nil
		}
	}
	return w.size, nil
}

// ContentSum is the BLAKE3 of an encrypted blob, by which a peer can check
// what it cannot decrypt, and zero for the others, whose name is check enough.
func ContentSum(b chunks.Blob) (sum [32]byte) {
	if k, err := b.Kind(); err == nil && k.IsEncrypted() {
		sum = blake3.Sum256(b)
	}
	return sum
}

// ReadHeader returns the header of the pack file f. If the block is damaged it
// makes one from the name, which is true for every pack but a derived one.
func ReadHeader(f disk.File, id ID, epoch uint64) (*Header, error) {
	b := disk.AlignedBuffer(HeaderSize)[:HeaderSize]
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	h, bad := decodeHeader(b[:n])
	if bad == nil && h.ID != id {
		bad = fmt.Errorf("pack header names pack %s", h.ID)
	}
	if bad != nil {
		return &Header{ID: id, Epoch: epoch}, &DamagedHeader{bad}
	}
	return h, nil
}

// A DamagedHeader says that the header in use was made up from the name.
type DamagedHeader struct{ err error }

func (e *DamagedHeader) Error() string { return e.err.Error() }
func (e *DamagedHeader) Unwrap() error { return e.err }

// ReadFooter returns the rows of a sealed pack in digest order, or fails because the
// pack is not sealed or its footer is damaged.
func ReadFooter(f io.ReaderAt, id ID, size int64) ([]Row, trailer, error) {
	if size < HeaderSize+trailerSize || size%Align != 0 {
		return nil, trailer{}, errUnsealed
	}
	b := disk.AlignedBuffer(Align)[:Align]
	if _, err := f.ReadAt(b, size-Align); err != nil && !errors.Is(err, io.EOF) {
		return nil, trailer{}, err
	}
	t, err := decodeTrailer(b[Align-trailerSize:], id, size)
	if err != nil {
		return nil, t, err
	}
	at := t.footerOff &^ (Align - 1)
	b = disk.AlignedBuffer(int(AlignUp(t.footerOff+t.footerLen-at, Align)))
	n, err := f.ReadAt(b[:cap(b)], at)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, t, err
	}
	lo := t.footerOff - at
	if int64(n) < lo+t.footerLen {
		return nil, t, fmt.Errorf("pack footer is cut short")
	}
	rows, err := decodeFooter(b[lo:lo+t.footerLen], t)
	return rows, t, err
}

// Tail returns the footer and the trailer of a pack whose entries end at end, and
// where they go. It sorts rows.
func Tail(id ID, rows []Row, end int64) (tail []byte, at int64) {
	return encodeTail(id, rows, end), AlignUp(end, Align)
}

// WriteTail writes footer and trailer behind the entries, which end at end,
// makes them durable and returns the length of the file.
func WriteTail(f disk.File, id ID, rows []Row, end int64) (int64, error) {
	tail, at := Tail(id, rows, end)
	if _, err := f.WriteAt(tail, at); err != nil {
		return 0, err
	}
	return at + int64(len(tail)), f.Sync()
}

// Check compares an entry as it lies in a pack with its row. Without h, as
// when the pack's header is damaged, it trusts the row for the place.
func (r *Row) Check(b []byte, h *Header) error {
	e, err := decodeEntry(b, h, r.Off)
	switch {
	case err != nil:
		return err
	case len(b) < EntrySize+int(r.Stored):
		return errors.New("the pack is cut short")
	case e.Digest != r.Digest || e.Stored != r.Stored || e.Sum != r.Sum:
		return errors.New("header and footer disagree")
	case xxhash.Sum64(b[EntrySize:]) != e.Sum:
		return errSum
	}
	return nil
}

// CheckRead compares the header and the blob that were read where d should
// lie. The digest in the header names the chunk, so it takes no pack header to
// be sure of the place. It fails with [chunks.ErrCorrupt].
func CheckRead(head []byte, d chunks.Digest, blob chunks.Blob) error {
	if err := CheckHead(head, d); err != nil {
		return err
	}
	switch {
	case int(le.Uint32(head[24:])) != len(blob):
		return fmt.Errorf("%w: another chunk lies in its place", chunks.ErrCorrupt)
	case le.Uint64(head[32:]) != xxhash.Sum64(blob):
		return fmt.Errorf("%w: %w", chunks.ErrCorrupt, errSum)
	}
	return nil
}

// CheckHead is CheckRead for the header alone.
func CheckHead(head []byte, d chunks.Digest) error {
	switch {
	case [4]byte(head) != entryMagic || le.Uint64(head[88:]) != xxhash.Sum64(head[:88]):
		return fmt.Errorf("%w: its header is not whole", chunks.ErrCorrupt)
	case chunks.Digest(head[56:88]) != d:
		return fmt.Errorf("%w: another chunk lies in its place", chunks.ErrCorrupt)
	}
	return nil
}

// ReadKind says how the chunk d is encoded that lies at off, in units of
// [SmallAlign], with n bytes. It reads no more than what the entry begins with,
// and fails with [chunks.ErrCorrupt] if that is damaged. Nobody can see from an
// encrypted blob whether the name it came under is its own, so who takes in
// another must know (PBS protocol notes §5.8).
func ReadKind(off, n uint32, d chunks.Digest, read func(b []byte, off int64) error) (chunks.Kind, error) {
	b := make([]byte, EntrySize+min(chunks.EncryptedHeaderSize, n))
	if err := read(b, int64(off)*SmallAlign); err != nil {
		return 0, err
	}
	if err := CheckHead(b[:EntrySize], d); err != nil {
		return 0, err
	}
	kind, err := chunks.Blob(b[EntrySize:]).Kind()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", chunks.ErrCorrupt, err)
	}
	return kind, nil
}

// ReadRow reads one entry, or what there is of it, and no block more.
func ReadRow(f disk.File, r Row) ([]byte, error) {
	start := r.Off &^ (Align - 1)
	b := disk.AlignedBuffer(int(AlignUp(r.End(), Align) - start))
	n, err := f.ReadAt(b, start)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	lo, hi := int(r.Off-start), int(r.End()-start)
	return b[min(lo, n):min(hi, n)], nil
}

// Holed returns those of rows whose blocks the file system does not have, and
// which are not whole without them: they were reclaimed. Somebody who copies a
// file may leave blocks of zeros out; entries in such holes are whole. Where
// the file system cannot tell its holes there are none.
func Holed(f disk.File, h *Header, rows []Row, dataEnd int64) ([]Row, error) {
	ext, ok := f.(disk.Extenter)
	if !ok {
		return nil, nil
	}
	var holed []Row
	for off := int64(0); off < dataEnd; {
		start, end, err := ext.NextHole(off)
		if err != nil || start >= dataEnd {
			break // no such ability: scrub finds the rest
		}
		for _, r := range rows {
			if r.Off >= end || r.End() <= start {
				continue
			}
			b, err := ReadRow(f, r)
			if err != nil {
				return nil, err
			}
			if r.Check(b, h) != nil {
				holed = append(holed, r)
			}
		}
		off = end
	}
	return holed, nil
}

// Settle cuts a pack off at the offset cut, rounded up to a block, and makes it
// durable, with its name: the process that wrote it may have been killed before
// it came to that.
func Settle(fsys disk.FS, f disk.File, cut int64) error {
	if err := f.Truncate(AlignUp(cut, Align)); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return fsys.SyncDir(path.Dir(f.Name()))
}

// WriteHeader writes the header of a pack, durably.
func WriteHeader(f disk.File, h *Header) error {
	if _, err := f.WriteAt(h.Encode(), 0); err != nil {
		return fmt.Errorf("write pack header: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync pack header: %w", err)
	}
	return nil
}
