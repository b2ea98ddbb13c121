package format

import (
	"bytes"
	"encoding/binary"
	"io"
	"reflect"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
)

var testID = ID{1, 2, 3, 4, 5, 6, 7, 8, 9}

// testHeader is the header of a pack, or of one that was derived from it.
func testHeader(derived bool) *Header {
	h := &Header{ID: testID, Store: ID{7}, Created: time.Unix(1e9, 0), Epoch: 3, Number: 5}
	if derived {
		h.ID, h.Origin, h.Derived = ID{99}, testID, true
		h.Segments = []Segment{{Src: HeaderSize, Dst: HeaderSize, N: 2 * Align}, {Src: 4 * Align, Dst: 3 * Align, N: 20 * Align}}
	}
	return h
}

// testPack returns a sealed pack and its rows.
func testPack(sizes ...int) ([]byte, []Row) {
	b := testHeader(false).Encode()
	var rows []Row
	for i, size := range sizes {
		c := chunktest.Blob(uint64(i), size)
		off := EntryStart(int64(len(b)), len(c.Blob))
		b = append(b, make([]byte, off-int64(len(b)))...)
		r := Row{Digest: c.Digest, Content: ContentSum(c.Blob), Sum: xxhash.Sum64(c.Blob), Off: off, Stored: uint32(len(c.Blob)), Plain: uint32(size), Ordinal: uint32(i)}
		e := Entry{Digest: r.Digest, Pack: testID.Low(), Own: off, Stored: r.Stored, Plain: r.Plain, Sum: r.Sum, Ordinal: r.Ordinal, Epoch: 3}
		var head [EntrySize]byte
		e.Encode(head[:])
		b = append(append(b, head[:]...), c.Blob...)
		rows = append(rows, r)
	}
	end := int64(len(b))
	tail := encodeTail(testID, append([]Row(nil), rows...), end)
	b = append(b, make([]byte, AlignUp(end, Align)-end)...)
	return append(b, tail...), rows
}

// FuzzHeader decodes headers, as they are and with their sum made right. What
// it accepts is within bounds and the same when it is written and read again.
func FuzzHeader(f *testing.F) {
	f.Add(testHeader(false).Encode())
	f.Add(testHeader(true).Encode())
	f.Add([]byte("HFPK"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := decodeHeader(b); err != nil && len(b) >= HeaderSize {
			b = bytes.Clone(b[:HeaderSize])
			le.PutUint64(b[HeaderSize-8:], xxhash.Sum64(b[:HeaderSize-8]))
		}
		h, err := decodeHeader(b)
		if err != nil {
			return
		}
		if h.Number >= MaxNumber || len(h.Segments) > MaxSegments {
			t.Fatalf("header is out of bounds: %+v", h)
		}
		again, err := decodeHeader(h.Encode())
		if err != nil || !reflect.DeepEqual(again, h) {
			t.Fatalf("%+v became %+v, %v", h, again, err)
		}
	})
}

// FuzzScan scans damaged packs, and packs in which a part of them lies at
// another place. Whatever is found was written for the place where it lies.
func FuzzScan(f *testing.F) {
	whole, rows := testPack(100, 0, 3000, 70<<10, 8, 5000)
	f.Add(whole[HeaderSize:HeaderSize+9000], uint32(0), uint32(0), uint32(0), false)
	f.Add([]byte{}, uint32(rows[0].Off), uint32(rows[2].Off), uint32(400), false)
	f.Add([]byte{}, uint32(rows[0].Off), uint32(rows[0].Off+8), uint32(4096), false)
	f.Add([]byte{}, uint32(rows[3].Off), uint32(rows[3].Off+Align), uint32(70<<10), true)
	f.Add([]byte("HFCEHFCEHFCE"), uint32(rows[3].Off), uint32(rows[3].Off-Align), uint32(8<<10), true)
	f.Fuzz(func(t *testing.T, front []byte, from, to, n uint32, derived bool) {
		b := bytes.Clone(whole)
		copy(b[HeaderSize:], front)
		size := uint32(len(b))
		from, to = from%size, to%size
		copy(b[to:], bytes.Clone(b[from:min(from+n%size, size)]))
		h := testHeader(derived)
		found, end, flaws, err := Scan(t.Context(), bytes.NewReader(b), int64(len(b)), h)
		if err != nil {
			t.Fatal(err)
		}
		last := int64(HeaderSize)
		for _, r := range found {
			if r.Off < last || r.End() > int64(len(b)) || r.Ordinal >= MaxEntries {
				t.Fatalf("entry %+v is out of bounds or order; the one before ends at %d", r, last)
			}
			last = r.End()
			wantWritten(t, b, r, h)
			if xxhash.Sum64(b[r.Off+EntrySize:r.End()]) != r.Sum {
				t.Fatalf("entry %+v is damaged", r)
			}
		}
		for _, fl := range flaws {
			wantWritten(t, b, fl.Row, h)
		}
		if len(found) > 0 && end != last {
			t.Fatalf("the last entry ends at %d, not %d", last, end)
		}
	})
}

// wantWritten checks against the bytes that r was written for its place. It
// shares no code with what it checks.
func wantWritten(t *testing.T, b []byte, r Row, h *Header) {
	t.Helper()
	head := b[r.Off : r.Off+96]
	own := r.Off
	if h.Derived {
		own = -1
		for _, s := range h.Segments {
			if r.Off >= s.Dst && r.Off < s.Dst+s.N {
				own = r.Off - s.Dst + s.Src
				break
			}
		}
	}
	num := binary.LittleEndian.Uint64
	switch {
	case string(head[:4]) != "HFCE" || num(head[88:]) != xxhash.Sum64(head[:88]):
		t.Fatalf("no whole entry lies at %d", r.Off)
	case num(head[8:]) != num(testID[:8]) || int64(num(head[16:])) != own:
		t.Fatalf("the entry at %d was written for another place, %d", r.Off, num(head[16:]))
	case chunks.Digest(head[56:88]) != r.Digest:
		t.Fatalf("the entry at %d is of another chunk", r.Off)
	}
}

// FuzzFooter reads footer and trailer of damaged packs, as they are and with
// their sums made right. What it accepts lies within the file.
func FuzzFooter(f *testing.F) {
	whole, _ := testPack(100, 3000, 70<<10, 5000)
	f.Add(whole[len(whole)-Align:], uint16(0))
	f.Add(whole[len(whole)-trailerSize:], uint16(3))
	empty, _ := testPack()
	f.Add(empty[len(empty)-Align:], uint16(1))
	f.Fuzz(func(t *testing.T, tail []byte, cut uint16) {
		b := bytes.Clone(whole[:len(whole)-min(int(cut)*Align, len(whole))])
		tail = tail[:min(len(tail), len(b))]
		copy(b[len(b)-len(tail):], tail)
		wantInside(t, b)
		mend(b)
		wantInside(t, b)
	})
}

func wantInside(t *testing.T, b []byte) {
	t.Helper()
	rows, tr, err := ReadFooter(bytes.NewReader(b), testID, int64(len(b)))
	if err != nil {
		return
	}
	if len(rows) != int(tr.count) || len(rows)*rowSize > len(b) {
		t.Fatalf("%d rows in a file of %d bytes, the trailer says %d", len(rows), len(b), tr.count)
	}
	for _, r := range rows {
		if r.Off < HeaderSize || r.End() > tr.DataEnd || tr.DataEnd > int64(len(b)) || r.Ordinal >= MaxEntries {
			t.Fatalf("row %+v lies outside of %d bytes", r, tr.DataEnd)
		}
	}
}

// mend makes magic, ID and sums of a trailer right, and that of the footer.
func mend(b []byte) {
	if len(b) < trailerSize {
		return
	}
	t := b[len(b)-trailerSize:]
	copy(t[88:], trailerMagic[:])
	le.PutUint64(t[64:], testID.Low())
	off, n := le.Uint64(t), le.Uint64(t[8:])
	if size := uint64(len(b)); off < size && n < size && off+n <= size-trailerSize {
		le.PutUint64(t[24:], xxhash.Sum64(b[off:off+n]))
	}
	le.PutUint64(t[80:], xxhash.Sum64(t[:80]))
}

// FuzzID reads IDs as text: what it accepts comes back the same.
func FuzzID(f *testing.F) {
	f.Add([]byte(testID.String()))
	f.Add([]byte("zz"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var id ID
		if id.UnmarshalText(text) == nil && !bytes.Equal(bytes.ToLower(text), []byte(id.String())) {
			t.Fatalf("%q became %s", text, id)
		}
	})
}

// A file that gets shorter while it is scanned must not keep the scan busy for
// ever.
func TestScanOfShrinkingFile(t *testing.T) {
	whole, rows := testPack(100, 3000, 70<<10, 5000)
	for _, left := range []int64{0, 100, HeaderSize, HeaderSize + 5, rows[2].Off + 50, rows[2].End() - 1} {
		found, _, _, err := Scan(t.Context(), io.NewSectionReader(bytes.NewReader(whole), 0, left), int64(len(whole)), testHeader(false))
		if err != nil {
			t.Errorf("%d bytes are left: %v", left, err)
		}
		for _, r := range found {
			if r.End() > left {
				t.Errorf("entry at %d is found in %d bytes", r.Off, left)
			}
		}
	}
}
