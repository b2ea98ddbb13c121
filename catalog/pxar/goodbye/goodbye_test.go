package goodbye

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func TestHashesAreThoseOfTheFormat(t *testing.T) {
	input := "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e"
	if got := sipHash(0x0706050403020100, 0x0f0e0d0c0b0a0908, input); got != 0xa129ca6149be45e5 {
		t.Errorf("reference vector of SipHash-2-4 is %016x", got)
	}
	for _, test := range []struct {
		name string
		want uint64
	}{
		{"", 0x76614015f8d1bb6c}, {"a", 0x0c26e9067c2c7bcf}, {"b", 0x4d1da3f512e8c733}, {"sub", 0x1d68161405af1bd0},
		{"hello.txt", 0x9b1ee0b84c66190c}, {"file-0000", 0x7bd8afe39c9b4d33}, {".pxarexclude-cli", 0x046975ce672e09eb},
		{"\xff", 0x5e60e7e3360496b8}, {strings.Repeat("n", 255), 0x87b21b331149ae4a},
	} {
		if got := Hash(test.name); got != test.want {
			t.Errorf("hash of %q is %016x, want %016x", test.name, got, test.want)
		}
	}
}

// ranks returns n records whose hashes are their ranks.
func ranks(n int) []Record {
	all := make([]Record, n)
	for i := range all {
		all[n-1-i] = Record{Hash: uint64(i), Offset: uint64(n - i)}
	}
	return all
}

func TestTreeOrderIsThatOfTheFormat(t *testing.T) {
	for _, want := range [][]uint64{
		{}, {0}, {1, 0}, {1, 0, 2}, {2, 1, 3, 0}, {3, 1, 4, 0, 2}, {3, 1, 5, 0, 2, 4}, {3, 1, 5, 0, 2, 4, 6},
		{4, 2, 6, 1, 3, 5, 7, 0}, {5, 3, 7, 1, 4, 6, 8, 0, 2}, {6, 3, 8, 1, 5, 7, 9, 0, 2, 4},
	} {
		var got []uint64
		for _, r := range SearchTree(ranks(len(want))) {
			got = append(got, r.Hash)
		}
		if !slices.Equal(got, want) {
			t.Errorf("tree of %d is %v, want %v", len(want), got, want)
		}
	}
	want := []uint64{15, 7, 23, 3, 11, 19, 25, 1, 5, 9, 13, 17, 21, 24, 26, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22}
	for i, r := range SearchTree(ranks(27)) {
		if r.Hash != want[i] {
			t.Errorf("tree of 27 has %d at %d, want %d", r.Hash, i, want[i])
		}
	}
}

// encode returns an item with records and a tail, behind pad bytes.
func encode(pad int, records []Record) []byte {
	b := make([]byte, pad)
	size := uint64(HeaderSize + RecordSize*(len(records)+1))
	b = binary.LittleEndian.AppendUint64(b, Type)
	b = binary.LittleEndian.AppendUint64(b, size)
	for _, r := range append(slices.Clone(records), Record{TailMark, uint64(pad), size}) {
		for _, w := range []uint64{r.Hash, r.Offset, r.Size} {
			b = binary.LittleEndian.AppendUint64(b, w)
		}
	}
	return b
}

func read(t testing.TB, data []byte) *Table {
	t.Helper()
	table, err := Read(bytes.NewReader(data), 0, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestEveryRecordIsFound(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 7, 8, 100, 168, 169, 170, 50_000} {
		tree := SearchTree(ranks(n))
		table := read(t, encode(n+1, tree))
		if table.Len() != n || table.Start != 0 || table.At != int64(n+1) {
			t.Fatalf("table of %d is %d at %d of %d", n, table.Len(), table.At, table.Start)
		}
		for i := range n {
			found := table.descend(uint64(i))
			if len(found) != 1 || found[0].Hash != uint64(i) {
				t.Fatalf("record %d of %d: %v", i, n, found)
			}
			if at, err := table.Position(found[0]); err != nil || at != int64(i+1) {
				t.Fatalf("record %d of %d is at %d, %v", i, n, at, err)
			}
		}
		if found, err := table.Find(uint64(n)); found != nil || err != nil {
			t.Fatalf("a record that is not in %d: %v, %v", n, found, err)
		}
		for i, r := range table.ByPosition() {
			if r.Hash != uint64(i) {
				t.Fatalf("record %d by position is %d", i, r.Hash)
			}
		}
	}
}

func TestRecordsInAnotherOrderAreFound(t *testing.T) {
	records := ranks(20)
	slices.SortFunc(records, func(a, b Record) int { return int(a.Hash) - int(b.Hash) })
	table := read(t, encode(30, records))
	for i := range 20 {
		if found, err := table.Find(uint64(i)); len(found) != 1 || err != nil {
			t.Errorf("record %d: %v, %v", i, found, err)
		}
	}
}

func TestAllNamesOfOneHashAreFound(t *testing.T) {
	records := ranks(20)
	for i := range 3 {
		records = append(records, Record{Hash: 7, Offset: uint64(100 + i)})
	}
	table := read(t, encode(200, SearchTree(records)))
	if found, err := table.Find(7); len(found) != 4 || err != nil {
		t.Errorf("found %v, %v", found, err)
	}
	for i := range maxCollisions {
		records = append(records, Record{Hash: 7, Offset: uint64(120 + i)})
	}
	table = read(t, encode(200, SearchTree(records)))
	if found, err := table.Find(7); !errors.Is(err, ErrFormat) {
		t.Errorf("found %d records, %v", len(found), err)
	}
}

func TestBadTablesAreRefused(t *testing.T) {
	good := encode(56, []Record{{Hash: 1, Offset: 30, Size: 30}})
	for _, test := range []struct {
		name string
		bad  func([]byte) []byte
		says string
	}{
		{"nothing", func([]byte) []byte { return nil }, "no directory fits"},
		{"too short", func(b []byte) []byte { return b[len(b)-39:] }, "no directory fits"},
		{"no mark", func(b []byte) []byte { b[len(b)-24]++; return b }, "there is none"},
		{"a size beyond the start", func(b []byte) []byte { b[len(b)-7] = 1; return b }, "its size is"},
		{"a size between records", func(b []byte) []byte { b[len(b)-8]++; return b }, "its size is"},
		{"a size below the tail's", func(b []byte) []byte { b[len(b)-8] = 16; return b }, "its size is"},
		{"a huge size", func(b []byte) []byte { b[len(b)-1] = 0xff; return b }, "its size is"},
		{"a start outside", func(b []byte) []byte { b[len(b)-16]++; return b }, "outside of its entry"},
		{"another item", func(b []byte) []byte { b[56]++; return b }, "begins with type"},
		{"an item of another size", func(b []byte) []byte { b[64]++; return b }, "begins with type"},
	} {
		data := test.bad(bytes.Clone(good))
		_, err := Read(bytes.NewReader(data), 0, int64(len(data)))
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %q", test.name, err, test.says)
		}
	}
	table := read(t, good)
	for _, r := range []Record{{Offset: 0}, {Offset: 56}, {Offset: 1 << 63}, {Offset: 30, Size: 31}, {Offset: 30, Size: 1 << 63}} {
		if start, end, err := table.Extent(r); !errors.Is(err, ErrFormat) {
			t.Errorf("record %+v lies in [%d, %d)", r, start, end)
		}
	}
}

func TestAnArchiveThatEndsEarlyIsMalformed(t *testing.T) {
	data := encode(10, SearchTree(ranks(300)))
	size := int64(len(data))
	for _, cut := range []int{1, 100, 5000} {
		_, err := Read(bytes.NewReader(data[:len(data)-cut]), 0, size)
		if !errors.Is(err, ErrFormat) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("without the last %d bytes: %v", cut, err)
		}
	}
}

// A counter counts reads, and fails from some read on.
type counter struct {
	io.ReaderAt
	reads, fail int
}

func (c *counter) ReadAt(p []byte, off int64) (int, error) {
	if c.reads++; c.fail > 0 && c.reads >= c.fail {
		return 0, iotest.ErrTimeout
	}
	return c.ReaderAt.ReadAt(p, off)
}

func TestTablesTakeFewReads(t *testing.T) {
	for _, test := range []struct{ entries, reads int }{{0, 1}, {169, 1}, {170, 2}, {40_000, 2}, {100_000, 4}} {
		data := encode(10, SearchTree(ranks(test.entries)))
		c := &counter{ReaderAt: bytes.NewReader(data)}
		if _, err := Read(c, 0, int64(len(data))); err != nil || c.reads != test.reads {
			t.Errorf("table of %d took %d reads, want %d (%v)", test.entries, c.reads, test.reads, err)
		}
	}
}

func TestErrorsOfTheReaderAreNotOfTheFormat(t *testing.T) {
	data := encode(10, SearchTree(ranks(300)))
	for fail := 1; fail <= 2; fail++ {
		c := &counter{ReaderAt: bytes.NewReader(data), fail: fail}
		if _, err := Read(c, 0, int64(len(data))); !errors.Is(err, iotest.ErrTimeout) || errors.Is(err, ErrFormat) {
			t.Errorf("read %d fails: %v", fail, err)
		}
	}
}

func TestCacheReadsATableOnceWithinItsLimit(t *testing.T) {
	const n = 100_000 // 2.4 MB each, 13 of them in the cache
	data := encode(10, SearchTree(ranks(n)))
	size := int64(len(data))
	all := bytes.Repeat(data, 20)
	c := &counter{ReaderAt: bytes.NewReader(all)}
	var cache Cache
	get := func(i int64) {
		t.Helper()
		if table, err := cache.Table(c, i*size, (i+1)*size); err != nil || table.Start != i*size {
			t.Fatalf("table %d: %+v, %v", i, table, err)
		}
	}
	for i := range int64(20) {
		get(i)
		get(i)
	}
	if c.reads != 20*4 {
		t.Errorf("%d reads, want 4 a table", c.reads)
	}
	if cache.held > maxCache || cache.held < maxCache/2 || len(cache.all) != cache.used.Len() {
		t.Errorf("cache holds %d bytes in %d tables", cache.held, len(cache.all))
	}
	c.reads = 0
	get(19)
	get(10)
	get(0)
	if c.reads != 4 {
		t.Errorf("%d reads, want those of the oldest table", c.reads)
	}
}

// Whatever the bytes are, a table that can be read has its records inside of
// them, and looking for a hash ends.
func FuzzTable(f *testing.F) {
	f.Add(encode(56, nil), uint64(1))
	f.Add(encode(300, SearchTree(ranks(200))), uint64(100))
	empty, _ := hex.DecodeString("1d73d542a64fec2f280000000000000055153e755bed5eef00000000000000002800000000000000")
	f.Add(empty, uint64(0))
	f.Fuzz(func(t *testing.T, data []byte, hash uint64) {
		table, err := Read(bytes.NewReader(data), 0, int64(len(data)))
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		if table.Start < 0 || table.Start > table.At || table.end() != int64(len(data)) {
			t.Fatalf("table at %d to %d of a directory at %d in %d bytes", table.At, table.end(), table.Start, len(data))
		}
		found, err := table.Find(hash)
		if err != nil && len(table.ByPosition()) <= maxCollisions {
			t.Fatal(err)
		}
		for _, r := range found {
			if r.Hash != hash {
				t.Fatalf("found %016x for %016x", r.Hash, hash)
			}
		}
		for _, r := range table.ByPosition() {
			if start, end, err := table.Extent(r); err == nil && (start <= table.Start || end > table.At || end < start) {
				t.Fatalf("entry in [%d, %d) of a directory in [%d, %d)", start, end, table.Start, table.At)
			}
		}
	})
}
