package chunks

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"testing"
)

// smallDynamic returns an index whose chunks end at ends.
func smallDynamic(t testing.TB, ends ...int64) *Dynamic {
	t.Helper()
	var b DynamicBuilder
	for i, end := range ends {
		if err := b.Append(end, numbered(i)); err != nil {
			t.Fatal(err)
		}
		if b.End() != end {
			t.Errorf("the builder is at %d, want %d", b.End(), end)
		}
	}
	x, err := b.Finish(NewUUID(), testTime)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestDynamicVector(t *testing.T) {
	var b DynamicBuilder
	if err := b.Append(5, hello); err != nil {
		t.Fatal(err)
	}
	uuid := NewUUID()
	x, err := b.Finish(uuid, testTime)
	if err != nil {
		t.Fatal(err)
	}
	if got := x.Csum().String(); got != "057fabcd6c107f42868b44d377bf20471c8b37c268611ab453d14a6e31815694" {
		t.Errorf("csum %s", got)
	}
	if x.UUID() != uuid || !x.Ctime().Equal(testTime) || x.Size() != 5 || x.Check() != nil {
		t.Errorf("UUID %s, ctime %s, %d bytes, check %v", x.UUID(), x.Ctime(), x.Size(), x.Check())
	}
}

func TestDynamicRangesAndFind(t *testing.T) {
	x := smallDynamic(t, 3, 4, 10)
	for i, want := range [][2]int64{{0, 3}, {3, 4}, {4, 10}} {
		start, end := x.Range(i)
		wantEqual(t, [2]int64{start, end}, want)
		if x.Digest(i) != numbered(i) {
			t.Errorf("chunk %d is %s", i, x.Digest(i))
		}
		for offset := start; offset < end; offset++ {
			if at, ok := x.Find(offset); !ok || at != i {
				t.Errorf("byte %d is found in chunk %d, %v", offset, at, ok)
			}
		}
	}
	for _, offset := range []int64{-1, 10, math.MaxInt64} {
		if at, ok := x.Find(offset); ok {
			t.Errorf("byte %d is found in chunk %d", offset, at)
		}
	}
	for _, i := range []int{-1, 3} {
		wantPanic(t, func() { x.Range(i) })
		wantPanic(t, func() { x.Digest(i) })
	}
}

func TestDynamicWithoutChunks(t *testing.T) {
	x := smallDynamic(t)
	if _, ok := x.Find(0); ok || x.Len() != 0 || x.Size() != 0 || x.Check() != nil {
		t.Errorf("%d chunks, %d bytes, check %v", x.Len(), x.Size(), x.Check())
	}
}

func TestDynamicBuilder(t *testing.T) {
	var b DynamicBuilder
	if err := b.Append(5, hello); err != nil {
		t.Fatal(err)
	}
	for _, end := range []int64{5, 4, 0, -1, math.MinInt64} {
		wantText(t, b.Append(end, hello), "the one before at 5")
	}
	wantText(t, b.Append(6, Digest{}), "the digest is zero")
	first, err := b.Finish(NewUUID(), testTime)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Append(1, numbered(9)); err != nil {
		t.Errorf("after Finish: %v", err)
	}
	if first.Len() != 1 || first.Digest(0) != hello || first.Size() != 5 || first.Check() != nil {
		t.Error("what is appended after Finish changes the index")
	}
	b.file = make([]byte, MaxIndex-dynamicEntrySize+1)
	wantText(t, b.Append(2, hello), "at most 1073741824 are allowed")
}

func TestBadDynamicFiles(t *testing.T) {
	good := smallDynamic(t, 3, 4, 10).Bytes()
	end := func(i int, n uint64) func([]byte) []byte {
		return func(f []byte) []byte {
			binary.LittleEndian.PutUint64(f[indexHeaderSize+i*dynamicEntrySize:], n)
			return f
		}
	}
	for _, tt := range []struct {
		name, want string
		damage     func([]byte) []byte
	}{
		{"a header cut off", "4095 bytes are too few", func(f []byte) []byte { return f[:4095] }},
		{"a wrong magic", "2f7f41ed91fd0fcd is not the magic of a dynamic index", func(f []byte) []byte { copy(f, fixedMagic[:]); return f }},
		{"a body cut off", "its body has 119 bytes, which is no multiple of 40", func(f []byte) []byte { return f[:len(f)-1] }},
		{"an end before its start", "chunk 1 ends at 2, the one before at 3", end(1, 2)},
		{"a chunk of no bytes", "chunk 1 ends at 3, the one before at 3", end(1, 3)},
		{"a first chunk of no bytes", "chunk 0 ends at 0, the one before at 0", end(0, 0)},
		{"an end above all files", "chunk 2 ends at 18446744073709551615", end(2, math.MaxUint64)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := tt.damage(slices.Clone(good))
			_, err := ParseDynamic(file)
			wantErr(t, "parse", err, ErrBadIndex)
			wantText(t, err, tt.want)
			_, err = OpenIndex(bytes.NewReader(file), int64(len(file)))
			wantErr(t, "open", err, ErrBadIndex)
		})
	}
}

func FuzzDynamic(f *testing.F) {
	good := smallDynamic(f, 3, 4, 10).Bytes()
	f.Add(good[:64], good[indexHeaderSize:])
	f.Add(good[:64], good[indexHeaderSize:len(good)-40])
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, header, body []byte) { fuzzIndex(t, dynamicMagic, header, body) })
}
