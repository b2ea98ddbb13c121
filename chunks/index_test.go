package chunks

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"
)

func TestIndexCheck(t *testing.T) {
	file := slices.Clone(smallFixed(t, 40).Bytes())
	file[csumStart] ^= 1
	x, err := ParseIndex(file)
	if err != nil {
		t.Fatalf("the header's sum is a hint, but: %v", err)
	}
	if x.Csum() != Sum(file[indexHeaderSize:]) {
		t.Error("the sum is not that of the body")
	}
	wantErr(t, "check", x.Check(), ErrBadIndex)
	wantText(t, x.Check(), "its header says")

	clear(file[indexHeaderSize+DigestSize:][:DigestSize])
	if x, err = ParseIndex(file); err != nil {
		t.Fatal(err)
	}
	wantText(t, x.Check(), "chunk 1 has no digest")
}

func TestOpenIndexFails(t *testing.T) {
	broken := errors.New("disk on fire")
	_, err := OpenIndex(readerAt{iotest.ErrReader(broken)}, 5000)
	wantErr(t, "open on a broken disk", err, broken)
	_, err = OpenIndex(bytes.NewReader(make([]byte, 4200)), 5000)
	wantErr(t, "open a file shorter than it should be", err, io.EOF)
	_, err = OpenIndex(nil, MaxIndex+1)
	wantErr(t, "open a huge file", err, ErrBadIndex)
	_, err = OpenIndex(bytes.NewReader(make([]byte, 5000)), 5000)
	wantText(t, err, "0000000000000000 is not the magic of an index")
}

// readerAt makes a reader that fails at once one that fails anywhere.
type readerAt struct{ io.Reader }

func (r readerAt) ReadAt(p []byte, _ int64) (int, error) { return r.Read(p) }

func TestUUID(t *testing.T) {
	u := UUID{0x12, 0x34, 15: 0xff}
	if got := u.String(); got != "12340000-0000-0000-0000-0000000000ff" {
		t.Errorf("written as %s", got)
	}
	a, b := NewUUID(), NewUUID()
	if a == b || a[6]>>4 != 4 || a[8]>>6 != 2 {
		t.Errorf("%s and %s are no random UUIDs", a, b)
	}
}

// fuzzIndex opens header, padded, and body. What is accepted must be
// consistent, and the same when it is built again from its parts.
func fuzzIndex(t *testing.T, magic [magicSize]byte, header, body []byte) {
	file := make([]byte, indexHeaderSize, indexHeaderSize+len(body))
	copy(file, header)
	copy(file, magic[:])
	file = append(file, body...)
	x, err := ParseIndex(file)
	if err != nil {
		wantErr(t, "parse", err, ErrBadIndex)
		return
	}
	offset := int64(0)
	for i := range x.All() {
		start, end := x.Range(i)
		at, ok := x.Find(start)
		last, okLast := x.Find(end - 1)
		if start != offset || end <= start || !ok || !okLast || at != i || last != i {
			t.Fatalf("chunk %d is [%d, %d) and follows %d; its bytes are found in %d and %d", i, start, end, offset, at, last)
		}
		offset = end
	}
	if offset != x.Size() {
		t.Fatalf("the chunks end at %d, the size is %d", offset, x.Size())
	}
	checked := x.Check()
	for _, d := range x.All() {
		if d == (Digest{}) {
			wantErr(t, "check", checked, ErrBadIndex)
			return // builders refuse it
		}
	}
	again := rebuild(t, x)
	if !bytes.Equal(again.Bytes()[indexHeaderSize:], body) || again.Csum() != x.Csum() || again.Size() != x.Size() {
		t.Fatal("built again it is another index")
	}
	if (checked == nil) != (bytes.Equal(again.Bytes()[:64], file[:64])) {
		t.Fatalf("check says %v, the headers are %x and %x", checked, again.Bytes()[:64], file[:64])
	}
}
