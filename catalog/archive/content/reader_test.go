package content

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
)

const testAverage = 4 << 10 // of chunks, so that small contents have many

func TestReaderHandsOutTheContent(t *testing.T) {
	content := append(chunktest.Text(1, 300<<10), make([]byte, 100<<10)...)
	for _, test := range []struct {
		name string
		key  *chunks.Key
		mode manifest.CryptMode
		opt  ReaderOptions
	}{
		{"plain", nil, manifest.None, ReaderOptions{}},
		{"encrypted", chunktest.Key(1), manifest.Encrypt, ReaderOptions{}},
		{"signed only", nil, manifest.SignOnly, ReaderOptions{}},
		{"any mode is expected", chunktest.Key(1), "", ReaderOptions{}},
		{"with next to no cache", nil, manifest.None, ReaderOptions{Cache: 1}},
		{"without reading ahead", nil, manifest.None, ReaderOptions{Ahead: -1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			mem := chunktest.NewMemory()
			x := putDynamic(t, mem, content, testAverage, chunks.EncodeOptions{Compress: true, Key: test.key})
			test.opt.CryptMode = test.mode
			r, err := NewReader(t.Context(), mem, x, test.key, test.opt)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if all, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size())); err != nil || !bytes.Equal(all, content) {
				t.Fatalf("read in order: %d bytes, %v", len(all), err)
			}
			readRandomly(t, r, content)
		})
	}
}

// readRandomly reads from several goroutines, and beyond the end.
func readRandomly(t *testing.T, r *Reader, content []byte) {
	t.Helper()
	var g errgroup.Group
	for seed := range uint64(4) {
		g.Go(func() error {
			rng := rand.New(rand.NewPCG(seed, 0))
			for range 200 {
				off := rng.IntN(len(content) + 10)
				p := make([]byte, rng.IntN(30<<10))
				n, err := r.ReadAt(p, int64(off))
				want := content[min(off, len(content)):min(off+len(p), len(content))]
				if !bytes.Equal(p[:n], want) {
					return errors.New("wrong bytes")
				}
				if (err == io.EOF) != (n < len(p)) || err != nil && err != io.EOF {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestReaderReadsAFixedIndex(t *testing.T) {
	mem := chunktest.NewMemory()
	b, err := chunks.NewFixedBuilder(10, 4)
	if err != nil {
		t.Fatal(err)
	}
	for off := int64(0); off < 10; off += 4 {
		c := chunktest.Encode([]byte("0123456789")[off:min(off+4, 10)], chunks.EncodeOptions{})
		if _, err := mem.Put(t.Context(), c.Digest, c.Blob); err != nil {
			t.Fatal(err)
		}
		if err := b.Put(off, min(4, 10-off), c.Digest); err != nil {
			t.Fatal(err)
		}
	}
	x, err := b.Finish(chunks.NewUUID(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(t.Context(), mem, x, nil, ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := make([]byte, 20)
	if n, err := r.ReadAt(p, 3); string(p[:n]) != "3456789" || err != io.EOF {
		t.Fatalf("read %q, %v", p[:n], err)
	}
	if _, err := r.ReadAt(p, -1); err == nil {
		t.Fatal("a negative offset was read")
	}
}

func TestReaderNamesWhatItCannotRead(t *testing.T) {
	content := chunktest.Text(2, 100<<10)
	key := chunktest.Key(1)
	for _, test := range []struct {
		name   string
		stored *chunks.Key
		fault  []chunktest.Fault
		key    *chunks.Key
		mode   manifest.CryptMode
		want   error
	}{
		{"a chunk is missing", nil, []chunktest.Fault{{On: chunktest.Get, Drop: true}}, nil, manifest.None, chunks.ErrMissing},
		{"a bit of a plain chunk has flipped", nil, []chunktest.Fault{{On: chunktest.Get, Flip: true}}, nil, "", chunks.ErrCorrupt},
		{"the store fails", nil, []chunktest.Fault{{On: chunktest.Get}}, nil, manifest.None, chunktest.ErrInjected},
		{"there is no key", key, nil, nil, manifest.Encrypt, chunks.ErrNoKey},
		{"the key is another one", key, nil, chunktest.Key(2), manifest.Encrypt, chunks.ErrWrongKey},
		{"plain content in an encrypted archive", nil, nil, key, manifest.Encrypt, chunks.ErrCorrupt},
		{"encrypted content in a plain archive", key, nil, key, manifest.SignOnly, chunks.ErrCorrupt},
	} {
		t.Run(test.name, func(t *testing.T) {
			mem := chunktest.NewMemory()
			x := putDynamic(t, mem, content, testAverage, chunks.EncodeOptions{Compress: true, Key: test.stored})
			r, err := NewReader(t.Context(), chunktest.NewFaulty(mem, 1, test.fault...), x, test.key, ReaderOptions{Archive: "root.pxar.didx", CryptMode: test.mode})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			_, err = r.ReadAt(make([]byte, 10), 50<<10)
			wantError(t, err, test.want)
			i, _ := x.Find(50 << 10)
			start, _ := x.Range(i)
			var at *ChunkError
			if !errors.As(err, &at) || at.Offset != start || at.Digest != x.Digest(i) || at.Archive != "root.pxar.didx" {
				t.Fatalf("%v does not say where", err)
			}
			if hint(err) == "" && test.want != chunktest.ErrInjected {
				t.Fatalf("%v has no hint", err)
			}
		})
	}
}

func TestReaderGivesAChunkAnotherChance(t *testing.T) {
	mem := chunktest.NewMemory()
	x := putDynamic(t, mem, chunktest.Text(2, 1000), testAverage, chunks.EncodeOptions{})
	r, err := NewReader(t.Context(), chunktest.NewFaulty(mem, 1, chunktest.Fault{On: chunktest.Get, Nth: 1}), x, nil, ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, err = r.ReadAt(make([]byte, 1), 0)
	wantError(t, err, chunktest.ErrInjected)
	_, err = r.ReadAt(make([]byte, 1), 0)
	wantError(t, err, nil)
}

func TestReaderRefusesALyingIndex(t *testing.T) {
	mem := chunktest.NewMemory()
	c := chunktest.Encode(chunktest.Text(1, 1000), chunks.EncodeOptions{Compress: true})
	if _, err := mem.Put(t.Context(), c.Digest, c.Blob); err != nil {
		t.Fatal(err)
	}
	index := func(ends ...int64) chunks.Index {
		var b chunks.DynamicBuilder
		for _, end := range ends {
			if err := b.Append(end, c.Digest); err != nil {
				t.Fatal(err)
			}
		}
		x, err := b.Finish(chunks.NewUUID(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	if _, err := NewReader(t.Context(), mem, index(MaxChunk+1), nil, ReaderOptions{}); !errors.Is(err, chunks.ErrBadIndex) {
		t.Fatalf("a chunk of %d bytes: %v", MaxChunk+1, err)
	}
	for _, test := range []struct {
		name  string
		ends  []int64
		off   int64
		wants error
	}{
		{"the chunk is longer than the index says", []int64{999}, 0, chunks.ErrCorrupt},
		{"the chunk is shorter than the index says", []int64{1001}, 0, chunks.ErrCorrupt},
		{"the same chunk once more, right", []int64{1000, 2000}, 1000, nil},
		{"the same chunk once more, longer", []int64{1000, 2500}, 1000, chunks.ErrCorrupt},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := NewReader(t.Context(), mem, index(test.ends...), nil, ReaderOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if test.off > 0 {
				if _, err := r.ReadAt(make([]byte, 1), 0); err != nil {
					t.Fatal(err)
				}
			}
			_, err = r.ReadAt(make([]byte, 1), test.off)
			wantError(t, err, test.wants)
		})
	}
}

// counting counts the chunks that are read.
type counting struct {
	chunks.BatchSource
	gets atomic.Int64
}

func (c *counting) Get(ctx context.Context, d chunks.Digest, buf []byte) (chunks.Blob, error) {
	c.gets.Add(1)
	return c.BatchSource.Get(ctx, d, buf)
}

func TestReaderFetchesAChunkOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := chunktest.NewMemory()
		x := putDynamic(t, mem, chunktest.Text(3, 1000), testAverage, chunks.EncodeOptions{})
		src := &counting{BatchSource: chunktest.NewFaulty(mem, 1, chunktest.Fault{On: chunktest.Get, Delay: time.Second})}
		r, err := NewReader(t.Context(), src, x, nil, ReaderOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if _, err := r.ReadAt(make([]byte, 100), 0); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := src.gets.Load(); n != 1 {
			t.Fatalf("the chunk was fetched %d times", n)
		}
	})
}

func TestReaderReadsAheadOfWhoReadsInOrder(t *testing.T) {
	content := chunktest.Text(4, 400<<10)
	synctest.Test(t, func(t *testing.T) {
		mem := chunktest.NewMemory()
		x := putDynamic(t, mem, content, testAverage, chunks.EncodeOptions{})
		src := chunktest.NewFaulty(mem, 1, chunktest.Fault{On: chunktest.Get, Delay: time.Second})
		r, err := NewReader(t.Context(), src, x, nil, ReaderOptions{Workers: 8})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		start := time.Now()
		tail := make([]byte, 1)
		for off := int64(0); off < r.Size(); off += 1000 { // with a look at the end every now and then
			if _, err := r.ReadAt(make([]byte, 1000), off); err != nil && err != io.EOF {
				t.Fatal(err)
			}
			if _, err := r.ReadAt(tail, r.Size()-1-off/100); err != nil {
				t.Fatal(err)
			}
		}
		if took, alone := time.Since(start), time.Duration(x.Len())*time.Second; took > alone/4 {
			t.Fatalf("%d chunks of a second each took %v", x.Len(), took)
		}
	})
}

func TestReaderDoesNotReadAheadOfWhoJumps(t *testing.T) {
	mem := chunktest.NewMemory()
	x := putDynamic(t, mem, chunktest.Text(5, 2<<20), testAverage, chunks.EncodeOptions{})
	src := &counting{BatchSource: mem}
	r, err := NewReader(t.Context(), src, x, nil, ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	jumps := int64(0)
	for i := x.Len() - 1; i >= 0; i -= 20 {
		start, _ := x.Range(i)
		if _, err := r.ReadAt(make([]byte, 1), start); err != nil {
			t.Fatal(err)
		}
		jumps++
	}
	if n := src.gets.Load(); n != jumps {
		t.Fatalf("%d reads fetched %d chunks", jumps, n)
	}
}

func TestReaderKeepsItsMemoryBounded(t *testing.T) {
	const limit = 2 << 20
	mem := chunktest.NewMemory()
	content := chunktest.Text(6, 4<<20)
	x := putDynamic(t, mem, content, 64<<10, chunks.EncodeOptions{})
	r, err := NewReader(t.Context(), mem, x, nil, ReaderOptions{Cache: limit})
	if err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size())); err != nil || !bytes.Equal(all, content) {
		t.Fatal(len(all), err)
	}
	r.mu.Lock()
	held := r.pages.held
	r.mu.Unlock()
	if held > limit || held == 0 {
		t.Fatalf("%d bytes are held, the limit is %d", held, limit)
	}
	r.Close()
	if r.pages.held != 0 || len(r.pages.all) != 0 {
		t.Fatalf("%d bytes in %d pages are held after Close", r.pages.held, len(r.pages.all))
	}
	_, err = r.ReadAt(make([]byte, 1), 0)
	wantError(t, err, os.ErrClosed)
}

func TestReaderEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := chunktest.NewMemory()
		x := putDynamic(t, mem, chunktest.Text(7, 100<<10), testAverage, chunks.EncodeOptions{})
		src := chunktest.NewFaulty(mem, 1, chunktest.Fault{On: chunktest.Get, Delay: 24 * time.Hour})
		ctx, cancel := context.WithCancel(t.Context())
		r, err := NewReader(ctx, src, x, nil, ReaderOptions{})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		time.AfterFunc(time.Second, cancel)
		_, err = r.ReadAt(make([]byte, 50<<10), 0)
		wantError(t, err, context.Canceled)
		r.Close()
		if took := time.Since(start); took > 2*time.Second {
			t.Fatalf("it took %v", took)
		}
	})
}
