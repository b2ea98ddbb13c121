package chunktest

import (
	"iter"
	"math/rand/v2"
	"strconv"
	"sync"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// Random returns n bytes that no program compresses, always the same for the
// same seed.
func Random(seed uint64, n int) []byte {
	b := make([]byte, n)
	chacha(seed).Read(b)
	return b
}

// Text returns n bytes that compress about as logs and documents do (3:1 with
// zstd level 1): words of which few are frequent, numbers, lines, phrases that return. They are
// always the same for the same seed.
func Text(seed uint64, n int) []byte {
	rng := rand.New(chacha(seed))
	words := vocabulary()
	b := make([]byte, 0, n+64)
	for len(b) < n {
		switch r := rng.Uint32(); {
		case r%32 == 0:
			b = strconv.AppendUint(b, uint64(r>>5)%1e6, 10)
		case r%32 == 1:
			b = append(b, '\n')
		case r%32 == 2 && len(b) > 5<<10: // a phrase of before
			at := len(b) - 64 - int(r>>5)%(4<<10)
			b = append(b, b[at:at+60]...)
		default:
			b = append(b, words[zipf(r>>5, len(words))]...)
		}
		b = append(b, ' ')
	}
	return b[:n]
}

// zipf maps 27 random bits to [0, n) so that the ranks near 0 are frequent.
func zipf(bits uint32, n int) int {
	f := float64(bits) / (1 << 27)
	return int(f * f * f * f * f * float64(n))
}

// vocabulary returns 4,096 made-up words, frequent ones short.
var vocabulary = sync.OnceValue(func() []string {
	rng := rand.New(chacha(0))
	words := make([]string, 4096)
	for i := range words {
		word := make([]byte, 2+rng.IntN(3+i/512))
		for j := range word {
			word[j] = "etaoinshrdlucmfwypvbgkjqxz"[min(rng.IntN(26), rng.IntN(26))]
		}
		words[i] = string(word)
	}
	return words
})

func chacha(seed uint64) *rand.ChaCha8 {
	var s [32]byte
	for i := range 8 {
		s[i] = byte(seed >> (8 * i))
	}
	return rand.NewChaCha8(s)
}

// Key returns an encryption key, always the same for the same seed.
func Key(seed uint64) *chunks.Key {
	return chunks.NewKey([chunks.KeySize]byte(Random(seed, chunks.KeySize)))
}

// A Chunk is a blob and its name.
type Chunk struct {
	Digest chunks.Digest
	Blob   chunks.Blob
}

// Blob returns the chunk of size random bytes, not compressed and not
// encrypted, always the same for the same seed. The blob itself is 12 bytes
// longer. It panics above 16 MiB + 32, which no blob holds.
func Blob(seed uint64, size int) Chunk {
	return Encode(Random(seed, size), chunks.EncodeOptions{})
}

// Encode returns the chunk that holds plain. It is the same every time unless
// opt has a key: encryption draws a random nonce. It panics where
// [chunks.Encode] fails.
func Encode(plain []byte, opt chunks.EncodeOptions) Chunk {
	b, err := chunks.Encode(nil, plain, opt)
	if err != nil {
		panic(err)
	}
	if opt.Key != nil {
		return Chunk{opt.Key.Digest(plain), b}
	}
	return Chunk{chunks.Sum(plain), b}
}

// A Workload describes the chunks of a client that backs up the same machine
// again and again.
type Workload struct {
	Seed             uint64
	Count            int     // chunks to hand out
	MinSize, MaxSize int     // content of each in bytes
	Duplicates       float64 // share of chunks that came before, 0 to 1
	Zeros            float64 // share of the others that is all zeros, 0 to 1
	Text             float64 // share of the others that is text, 0 to 1; the rest is random
	Compress         bool    // as a client does by default
}

// All yields the chunks, the same ones in the same order every time.
func (w Workload) All() iter.Seq[Chunk] {
	return func(yield func(Chunk) bool) {
		rng := rand.New(chacha(w.Seed))
		var fresh []uint64 // the seeds of what was handed out
		for i := range w.Count {
			seed := w.Seed<<32 + uint64(i)
			if len(fresh) > 0 && rng.Float64() < w.Duplicates {
				seed = fresh[rng.IntN(len(fresh))]
			} else {
				fresh = append(fresh, seed)
			}
			if !yield(w.chunk(seed)) {
				return
			}
		}
	}
}

// chunk makes the chunk of one seed of the workload.
func (w Workload) chunk(seed uint64) Chunk {
	rng := rand.New(rand.NewPCG(seed, w.Seed))
	size := w.MinSize + rng.IntN(max(w.MaxSize-w.MinSize, 0)+1)
	opt := chunks.EncodeOptions{Compress: w.Compress}
	switch {
	case rng.Float64() < w.Zeros:
		return Encode(make([]byte, size), opt)
	case rng.Float64() < w.Text:
		return Encode(Text(seed, size), opt)
	}
	return Encode(Random(seed, size), opt)
}
