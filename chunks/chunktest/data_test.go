package chunktest

import (
	"bytes"
	"slices"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// TestDataIsTheSameEverywhere pins the makers: figures of benchmarks and
// seeds in bug reports would mean something else if they changed.
func TestDataIsTheSameEverywhere(t *testing.T) {
	var all []byte
	all = append(all, Random(1, 1000)...)
	all = append(all, Text(1, 20_000)...)
	for c := range (Workload{Seed: 1, Count: 20, MinSize: 10, MaxSize: 1000, Duplicates: 0.3, Zeros: 0.1, Text: 0.5}).All() {
		all = append(all, c.Blob...)
	}
	const want = "ab09f5aa"
	if got := chunks.Sum(all).Short(); got != want {
		t.Errorf("the makers' bytes have digest %s, want %s", got, want)
	}
	if bytes.Equal(Random(1, 100), Random(2, 100)) || bytes.Equal(Text(1, 100), Text(2, 100)) {
		t.Error("two seeds give the same data")
	}
}

func TestTextCompressesLikeText(t *testing.T) {
	const size = 1 << 20
	plain := Text(5, size)
	if len(plain) != size {
		t.Fatalf("asked for %d bytes, got %d", size, len(plain))
	}
	packed := Encode(plain, chunks.EncodeOptions{Compress: true})
	if ratio := size / float64(len(packed.Blob)); ratio < 2.7 || ratio > 3.5 {
		t.Errorf("text compresses %.2f:1, want about 3:1", ratio)
	}
	if packed := Encode(Random(5, size), chunks.EncodeOptions{Compress: true}); len(packed.Blob) < size {
		t.Errorf("random data of %d bytes compresses to %d", size, len(packed.Blob))
	}
}

func TestWorkloadRepeatsItself(t *testing.T) {
	w := Workload{Seed: 3, Count: 2000, MinSize: 50, MaxSize: 100, Duplicates: 0.4, Zeros: 0.1, Text: 0.3}
	first, second := slices.Collect(w.All()), slices.Collect(w.All())
	if !slices.EqualFunc(first, second, func(a, b Chunk) bool { return a.Digest == b.Digest }) {
		t.Fatal("two runs over a workload differ")
	}
	distinct := map[chunks.Digest]bool{}
	for _, c := range first {
		if err := c.Blob.Verify(c.Digest, nil); err != nil {
			t.Fatal(err)
		}
		if n := len(c.Blob) - chunks.PlainHeaderSize; n < w.MinSize || n > w.MaxSize {
			t.Fatalf("a chunk of %d bytes, want %d to %d", n, w.MinSize, w.MaxSize)
		}
		distinct[c.Digest] = true
	}
	// 60 % are fresh; the zeros among them have at most 51 different lengths.
	if len(distinct) < 1030 || len(distinct) > 1240 {
		t.Errorf("%d of %d chunks are distinct, want about 1,130", len(distinct), len(first))
	}
}

func TestEncryptedChunkIsNamedWithItsKey(t *testing.T) {
	plain := Random(1, 100)
	c := Encode(plain, chunks.EncodeOptions{Key: Key(1)})
	if err := c.Blob.Verify(c.Digest, Key(1)); err != nil {
		t.Error(err)
	}
	if c.Digest == chunks.Sum(plain) {
		t.Error("an encrypted chunk has the name of the plain one")
	}
}

func BenchmarkText(b *testing.B) {
	b.SetBytes(1 << 20)
	for b.Loop() {
		Text(1, 1<<20)
	}
}
