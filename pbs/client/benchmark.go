package client

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/client/wire"
)

// Speeds says how fast this machine and the way to the server are, in bytes of
// content per second. All but Upload are those of one processor core.
type Speeds struct {
	Upload     float64 // to the server, through TLS; 0 if that was not measured
	Hash       float64 // SHA-256 of a chunk
	Compress   float64 // to a blob, with zstd
	Decompress float64 // of that blob
	Encrypt    float64 // with AES-256-GCM
	Verify     float64 // decompression, CRC and SHA-256: what a restore does
}

// UploadTime is how long PBS's client measures the way to the server, and
// ComputeTime each of the others.
const (
	UploadTime  = 5 * time.Second
	ComputeTime = time.Second
)

// benchmarkGroup is reserved for benchmarks: nothing of it is kept (PBS
// protocol notes §3.1).
var benchmarkGroup = naming.Group{Type: naming.Host, ID: "benchmark"}

// Benchmark measures how fast data gets to the server, for about the given
// time, and returns bytes per second. Nothing is stored there.
func (c *Client) Benchmark(ctx context.Context, d time.Duration) (bytesPerSecond float64, err error) {
	b, err := c.connect(ctx, "", naming.Snapshot{Group: benchmarkGroup, Time: time.Now().Unix()}, true)
	if err != nil {
		return 0, during("begin the benchmark", err)
	}
	defer b.Abort()
	data := sampleChunk()
	start := time.Now()
	var sent atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	for range b.near.enough / chunks.SlotSize {
		g.Go(func() error {
			for time.Since(start) < d {
				_, err := wire.Do[any](gctx, b.session, wire.Exchange{
					Doing: "measure the upload", Method: "POST", Path: "/speedtest", Body: data,
				})
				if err != nil {
					return err
				}
				sent.Add(int64(len(data)))
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	return float64(sent.Load()) / time.Since(start).Seconds(), nil
}

// MeasureLocal measures what this machine does with chunks, each step for
// about the given time.
func MeasureLocal(ctx context.Context, d time.Duration) (Speeds, error) {
	plain := sampleChunk()
	key := chunks.NewKey([chunks.KeySize]byte{1}) // any key is as fast as another
	packed, err := chunks.Encode(nil, plain, chunks.EncodeOptions{Compress: true})
	if err != nil {
		return Speeds{}, fmt.Errorf("measure: %w", err)
	}
	sum := chunks.Sum(plain)
	out := make([]byte, 0, 2*len(plain))
	encode := func(opt chunks.EncodeOptions) func() error {
		return func() error {
			_, err := chunks.Encode(out, plain, opt)
			return err
		}
	}
	var s Speeds
	for _, step := range []struct {
		to *float64
		do func() error
	}{
		{&s.Hash, func() error { chunks.Sum(plain); return nil }},
		{&s.Compress, encode(chunks.EncodeOptions{Compress: true})},
		{&s.Decompress, func() error { _, err := packed.Decode(out, nil); return err }},
		{&s.Encrypt, encode(chunks.EncodeOptions{Key: key})},
		{&s.Verify, func() error { return packed.Verify(sum, nil) }},
	} {
		if *step.to, err = measure(ctx, d, len(plain), step.do); err != nil {
			return s, fmt.Errorf("measure: %w", err)
		}
	}
	return s, nil
}

// measure does something with size bytes over and over.
func measure(ctx context.Context, d time.Duration, size int, do func() error) (bytesPerSecond float64, err error) {
	start := time.Now()
	for n := 1; ; n++ {
		if err := do(); err != nil {
			return 0, err
		}
		if took := time.Since(start); took >= d {
			return float64(n) * float64(size) / took.Seconds(), nil
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
}

// sampleChunk returns content of the size of a slot that compresses about as
// well as files do: of each eight bytes five are random.
func sampleChunk() []byte {
	r := rand.New(rand.NewPCG(1, 2)) // the same each time, so that results can be compared
	data := make([]byte, 0, chunks.SlotSize)
	for len(data) < chunks.SlotSize {
		data = binary.LittleEndian.AppendUint64(data, r.Uint64()>>24)
	}
	return data
}
