package chunks

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"testing"
	"time"
)

var testTime = time.Unix(1700000000, 0).UTC()

// hello is the digest of the vectors of §5.3 and §5.4.
var hello = Sum([]byte("hello"))

// numbered returns a digest that is easy to tell from others.
func numbered(i int) Digest {
	return Digest(binary.LittleEndian.AppendUint64(bytes.Repeat([]byte{0xd1}, 24), uint64(i)))
}

// smallFixed returns the index of an image of size bytes in chunks of 16.
func smallFixed(t testing.TB, size int64) *Fixed {
	t.Helper()
	b, err := NewFixedBuilder(size, 16)
	if err != nil {
		t.Fatal(err)
	}
	for i := range slots(size, 16) {
		if err := b.Put(16*i, min(16, size-16*i), numbered(int(i))); err != nil {
			t.Fatal(err)
		}
	}
	x, err := b.Finish(NewUUID(), testTime)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestFixedVector(t *testing.T) {
	b, err := NewFixedBuilder(5, SlotSize)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Put(0, 5, hello); err != nil {
		t.Fatal(err)
	}
	uuid := NewUUID()
	x, err := b.Finish(uuid, testTime.Add(time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	if got := x.Csum().String(); got != "9595c9df90075148eb06860365df33584b75bff782a510c6cd4883a419833d50" {
		t.Errorf("csum %s", got)
	}
	if x.UUID() != uuid || !x.Ctime().Equal(testTime) || x.ChunkSize() != SlotSize {
		t.Errorf("UUID %s, ctime %s, chunks of %d", x.UUID(), x.Ctime(), x.ChunkSize())
	}
}

func TestFixedRangesAndFind(t *testing.T) {
	x := smallFixed(t, 40)
	for i, want := range [][2]int64{{0, 16}, {16, 32}, {32, 40}} {
		start, end := x.Range(i)
		wantEqual(t, [2]int64{start, end}, want)
		for offset := start; offset < end; offset++ {
			if at, ok := x.Find(offset); !ok || at != i {
				t.Errorf("byte %d is found in chunk %d, %v", offset, at, ok)
			}
		}
	}
	for _, offset := range []int64{-1, 40, math.MaxInt64} {
		if at, ok := x.Find(offset); ok {
			t.Errorf("byte %d is found in chunk %d", offset, at)
		}
	}
	for i := range x.All() {
		if i == 1 {
			break // a loop may end early
		}
	}
	for _, i := range []int{-1, 3} {
		wantPanic(t, func() { x.Range(i) })
		wantPanic(t, func() { x.Digest(i) })
	}
}

func wantPanic(t *testing.T, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	f()
}

// put is one call of Put, with a digest of its own.
type put struct{ offset, length int64 }

func TestFixedBuilderPut(t *testing.T) {
	for _, tt := range []struct {
		name string
		size int64 // in chunks of 16; 0: not known
		puts []put
		want string // error of the last put, or of Finish
	}{
		{"in order", 40, []put{{0, 16}, {16, 16}, {32, 8}}, ""},
		{"out of order", 40, []put{{32, 8}, {16, 16}, {0, 16}}, ""},
		{"a chunk twice", 16, []put{{0, 16}, {0, 16}}, ""},
		{"a gap", 40, []put{{0, 16}, {32, 8}}, "1 of 3 chunks are missing, the first at offset 16"},
		{"nothing put", 40, nil, "3 of 3 chunks are missing, the first at offset 0"},
		{"the tail missing", 40, []put{{0, 16}, {16, 16}}, "1 of 3 chunks are missing, the first at offset 32"},
		{"a tail that is too long", 40, []put{{32, 16}}, "its 16 bytes end after the image"},
		{"a tail that is too short", 40, []put{{32, 7}}, "it has 7 bytes, only the last chunk may have less than 16"},
		{"a short chunk inside", 40, []put{{0, 8}}, "only the last chunk may have less"},
		{"between two slots", 40, []put{{8, 16}}, "no multiple of 16"},
		{"before the image", 40, []put{{-16, 16}}, "no multiple of 16"},
		{"after the image", 40, []put{{48, 16}}, "end after the image"},
		{"far after the image", 40, []put{{math.MaxInt64 &^ 15, 16}}, "end after the image"},
		{"no bytes", 40, []put{{0, 0}}, "want 1 to 16"},
		{"too many bytes", 40, []put{{0, 17}}, "want 1 to 16"},
		{"size unknown", 0, []put{{16, 16}, {0, 16}, {32, 8}}, ""},
		{"size unknown, whole chunks", 0, []put{{16, 16}, {0, 16}}, ""},
		{"size unknown, the tail twice", 0, []put{{0, 16}, {16, 8}, {16, 8}}, ""},
		{"size unknown, two tails", 0, []put{{0, 16}, {16, 8}, {16, 7}}, "only the last chunk may have less"},
		{"size unknown, more after the tail", 0, []put{{0, 8}, {16, 16}}, "end after the image"},
		{"size unknown, a tail before the end", 0, []put{{16, 16}, {0, 8}}, "only the last chunk may have less"},
		{"size unknown, a gap", 0, []put{{16, 16}}, "1 of 2 chunks are missing"},
		{"size unknown, nothing put", 0, nil, "the image is empty"},
		{"size unknown, absurdly far", 0, []put{{1 << 60, 16}}, "end after the image"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := NewFixedBuilder(tt.size, 16)
			if err != nil {
				t.Fatal(err)
			}
			for i, p := range tt.puts {
				err = b.Put(p.offset, p.length, numbered(i))
				if err != nil && i < len(tt.puts)-1 {
					t.Fatal(err)
				}
			}
			var x *Fixed
			if err == nil {
				x, err = b.Finish(NewUUID(), testTime)
			}
			if tt.want != "" {
				wantText(t, err, tt.want)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := make(map[int64]Digest)
			for i, p := range tt.puts {
				want[p.offset] = numbered(i)
			}
			for offset, d := range want {
				if at, ok := x.Find(offset); !ok || x.Digest(at) != d {
					t.Errorf("the chunk at %d is %s, want %s", offset, x.Digest(at), d)
				}
			}
		})
	}
}

func TestFixedBuilderRefusesZeroDigests(t *testing.T) {
	b := must(NewFixedBuilder(16, 16))
	wantText(t, b.Put(0, 16, Digest{}), "the digest is zero")
}

func TestFixedBuilderRefusesSizes(t *testing.T) {
	for _, tt := range []struct {
		size, chunk int64
		want        string
	}{
		{-1, 16, "an image of -1 bytes"},
		{math.MaxInt64, 16, "want at most 33554304 chunks of 16"},
		{40, 0, "want a power of two"},
		{40, -16, "want a power of two"},
		{40, 24, "want a power of two"},
		{40, 2 * MaxPlain, "want a power of two up to 134217728"},
	} {
		_, err := NewFixedBuilder(tt.size, tt.chunk)
		wantText(t, err, tt.want)
	}
}

func TestFixedBuilderMemoryFollowsWhatIsPut(t *testing.T) {
	b, err := NewFixedBuilder(64<<40, SlotSize)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Put(64<<40-SlotSize, SlotSize, hello); err != nil {
		t.Fatal(err)
	}
	used := 0
	for _, page := range b.pages {
		if page != nil {
			used++
		}
	}
	if used != 1 {
		t.Errorf("one chunk at the end of 64 TiB takes %d pages", used)
	}
}

func TestFixedChange(t *testing.T) {
	old := smallFixed(t, 40)
	for _, tt := range []struct {
		name string
		size int64
		puts []put
		want []int // number of each chunk's digest; 100 and up: put
		err  string
	}{
		{"nothing changed", 40, nil, []int{0, 1, 2}, ""},
		{"one chunk changed", 40, []put{{16, 16}}, []int{0, 100, 2}, ""},
		{"the tail changed", 40, []put{{32, 8}}, []int{0, 1, 100}, ""},
		{"all changed", 40, []put{{32, 8}, {0, 16}, {16, 16}}, []int{101, 102, 100}, ""},
		{"the image grew within its last chunk", 45, []put{{32, 13}}, []int{0, 1, 100}, ""},
		{"it grew, the old tail is left", 45, []put{{0, 16}}, nil, "1 of 3 chunks are missing, the first at offset 32"},
		{"it has more chunks", 49, nil, nil, "an image of 49 bytes has 4 chunks, the previous one has 3"},
		{"its size is not known", 0, nil, nil, "an image of 0 bytes has 0 chunks"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x, err := changed(old, tt.size, tt.puts)
			if tt.err != "" {
				wantText(t, err, tt.err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := x.Check(); err != nil || x.Size() != tt.size {
				t.Errorf("an image of %d bytes, error %v", x.Size(), err)
			}
			for i, n := range tt.want {
				if x.Digest(i) != numbered(n) {
					t.Errorf("chunk %d is %s, want number %d", i, x.Digest(i), n)
				}
			}
		})
	}
}

func changed(old *Fixed, size int64, puts []put) (*Fixed, error) {
	b, err := old.Change(size)
	if err != nil {
		return nil, err
	}
	for i, p := range puts {
		if err := b.Put(p.offset, p.length, numbered(100+i)); err != nil {
			return nil, err
		}
	}
	return b.Finish(NewUUID(), testTime)
}

func TestBadFixedFiles(t *testing.T) {
	good := smallFixed(t, 40).Bytes()
	number := func(at int, n uint64) func([]byte) []byte {
		return func(f []byte) []byte { binary.LittleEndian.PutUint64(f[at:], n); return f }
	}
	for _, tt := range []struct {
		name, want string
		damage     func([]byte) []byte
	}{
		{"an empty file", "0 bytes are too few", func(f []byte) []byte { return nil }},
		{"a header cut off", "4095 bytes are too few", func(f []byte) []byte { return f[:4095] }},
		{"a wrong magic", "ffffffffffffffff is not the magic", number(0, math.MaxUint64)},
		{"no chunks at all", "an image of 0 bytes", func(f []byte) []byte { return number(imageSizeStart, 0)(f[:4096]) }},
		{"a body cut off", "its body has 95 bytes, want 3 digests", func(f []byte) []byte { return f[:len(f)-1] }},
		{"a digest missing", "its body has 64 bytes, want 3 digests", func(f []byte) []byte { return f[:len(f)-32] }},
		{"a digest too many", "its body has 128 bytes, want 3 digests", func(f []byte) []byte { return append(f, good[:32]...) }},
		{"a size above all files", "an image of 18446744073709551615 bytes", number(imageSizeStart, math.MaxUint64)},
		{"the largest size", "want 576460752303423488 digests", number(imageSizeStart, math.MaxInt64)},
		{"chunks of nothing", "chunks of 0 bytes, want a power of two", number(chunkSizeStart, 0)},
		{"chunks of 24", "chunks of 24 bytes, want a power of two", number(chunkSizeStart, 24)},
		{"chunks above 128 MiB", "want a power of two up to 134217728", number(chunkSizeStart, 1<<63)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := tt.damage(slices.Clone(good))
			_, err := ParseFixed(file)
			wantErr(t, "parse", err, ErrBadIndex)
			wantText(t, err, tt.want)
			_, err = OpenIndex(bytes.NewReader(file), int64(len(file)))
			wantErr(t, "open", err, ErrBadIndex)
		})
	}
}

func FuzzFixed(f *testing.F) {
	good := smallFixed(f, 40).Bytes()
	f.Add(good[:96], good[indexHeaderSize:])
	f.Add(good[:80], good[indexHeaderSize:indexHeaderSize+32])
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, header, body []byte) { fuzzIndex(t, fixedMagic, header, body) })
}
