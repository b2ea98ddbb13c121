package chunktest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-mesh/holdfast/chunks"
)

func namesItself(ctx context.Context, w chunks.Writer) error {
	before := w.String()
	if err := putAll(ctx, w, few(6, 3)...); err != nil {
		return err
	}
	if before == "" || w.String() != before {
		return fmt.Errorf("String returned %q when empty and %q now, want one name", before, w)
	}
	return nil
}

func emptyHoldsNothing(ctx context.Context, w chunks.Writer) error {
	if missing, err := w.Missing(ctx, nil); err != nil || len(missing) != 0 {
		return fmt.Errorf("Missing of nothing: %v, error %v", missing, err)
	}
	if err := w.Commit(ctx); err != nil {
		return fmt.Errorf("commit of nothing: %w", err)
	}
	return absent(ctx, w, chunks.Digest{})
}

func kindsComeBack(ctx context.Context, w chunks.Writer) error {
	plain, key := Text(1, 10_000), Key(1)
	kinds := map[chunks.Kind]Chunk{
		chunks.Plain:         Encode(plain, chunks.EncodeOptions{}),
		chunks.Zstd:          Encode(plain[1:], chunks.EncodeOptions{Compress: true}),
		chunks.Encrypted:     Encode(plain, chunks.EncodeOptions{Key: key}),
		chunks.ZstdEncrypted: Encode(plain[1:], chunks.EncodeOptions{Compress: true, Key: key}),
	}
	for kind, c := range kinds {
		if err := putAll(ctx, w, c); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
	}
	for kind, c := range kinds {
		if err := holds(ctx, w, c); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
	}
	return nil
}

// sizesComeBack tries lengths around those at which a store may change its
// ways: blocks, the 64 KiB from which entries of a pack are aligned, and the
// least and the most that a blob can have.
func sizesComeBack(ctx context.Context, w chunks.Writer) error {
	blobSizes := []int{
		chunks.PlainHeaderSize, chunks.PlainHeaderSize + 1, 100, 4095, 4096, 4097,
		64<<10 - 96, 64<<10 - 1, 64 << 10, 64<<10 + 1, 1 << 20, 4<<20 + chunks.PlainHeaderSize, chunks.MaxBlob,
	}
	var cs []Chunk
	for i, size := range blobSizes {
		c := Blob(uint64(i), size-chunks.PlainHeaderSize)
		if len(c.Blob) != size {
			return fmt.Errorf("made a blob of %d bytes, wanted %d", len(c.Blob), size)
		}
		cs = append(cs, c)
	}
	if err := putAll(ctx, w, cs...); err != nil {
		return err
	}
	if err := w.Commit(ctx); err != nil {
		return err
	}
	return holds(ctx, w, cs...)
}

func smallOnesComeBack(ctx context.Context, w chunks.Writer) error {
	cs := slices.Collect(Workload{Seed: 2, Count: 5000, MinSize: 8, MaxSize: 200}.All())
	for batch := range slices.Chunk(cs, 1000) {
		if err := putAll(ctx, w, batch...); err != nil {
			return err
		}
		if err := w.Commit(ctx); err != nil {
			return err
		}
	}
	return holds(ctx, w, cs...)
}

func secondPutIsKnown(ctx context.Context, w chunks.Writer) error {
	plain := Text(3, 5000)
	first := Encode(plain, chunks.EncodeOptions{})
	other := Encode(plain, chunks.EncodeOptions{Compress: true}) // same name, other bytes
	if err := putAll(ctx, w, first); err != nil {
		return err
	}
	for _, again := range []Chunk{first, other} {
		known, err := w.Put(ctx, again.Digest, again.Blob)
		if err != nil || !known {
			return fmt.Errorf("put %s again: known %v, error %v", again.Digest.Short(), known, err)
		}
		if err := w.Commit(ctx); err != nil {
			return err
		}
	}
	return holds(ctx, w, first)
}

func damageIsRefused(ctx context.Context, w chunks.Writer) error {
	good := Blob(4, 1000)
	flipped := func(at int) chunks.Blob {
		b := slices.Clone(good.Blob)
		b[at] ^= 0x10
		return b
	}
	damaged := map[string]chunks.Blob{
		"nothing at all":           nil,
		"half a header":            good.Blob[:chunks.PlainHeaderSize/2],
		"a foreign magic":          flipped(0),
		"a wrong CRC":              flipped(8),
		"a flipped bit of content": flipped(500),
		"a missing last byte":      good.Blob[:len(good.Blob)-1],
		"a byte too many":          append(slices.Clone(good.Blob), 0),
		"one byte over the limit":  tooLong(),
	}
	for what, b := range damaged {
		if _, err := w.Put(ctx, good.Digest, b); !errors.Is(err, chunks.ErrCorrupt) {
			return fmt.Errorf("put a blob with %s: error %v, want %v", what, err, chunks.ErrCorrupt)
		}
		if err := absent(ctx, w, good.Digest); err != nil {
			return fmt.Errorf("after a blob with %s was refused: %w", what, err)
		}
	}
	if err := putAll(ctx, w, good); err != nil {
		return fmt.Errorf("the intact blob after the damaged ones: %w", err)
	}
	return holds(ctx, w, good)
}

// tooLong returns a blob that is whole and longer than allowed.
func tooLong() chunks.Blob {
	b := append(slices.Clone(Blob(5, 1).Blob), make([]byte, chunks.MaxBlob)...)
	b = b[:chunks.MaxBlob+1]
	if err := b.SetCRC(); err != nil {
		panic(err)
	}
	return b
}

// survives wants a reopened store to hold all that was committed, and what
// was not either whole or not at all.
func survives(ctx context.Context, w chunks.Writer, reopen func(chunks.Writer) chunks.Writer) error {
	var committed, loose []Chunk
	for round := range uint64(3) {
		batch := append(few(10+round, 50), Blob(20+round, 200_000))
		if err := putAll(ctx, w, batch...); err != nil {
			return err
		}
		if err := w.Commit(ctx); err != nil {
			return err
		}
		committed = append(committed, batch...)
		loose = append(loose, few(30+round, 10)...)
		if err := putAll(ctx, w, loose[len(loose)-10:]...); err != nil {
			return err
		}
		w = reopen(w)
		if err := holds(ctx, w, committed...); err != nil {
			return fmt.Errorf("after reopening, of what was committed: %w", err)
		}
		if err := wholeOrAbsent(ctx, w, loose); err != nil {
			return fmt.Errorf("after reopening, of what was not committed: %w", err)
		}
	}
	return nil
}

func wholeOrAbsent(ctx context.Context, w chunks.Store, cs []Chunk) error {
	missing, err := w.Missing(ctx, digests(cs))
	if err != nil {
		return err
	}
	for _, c := range cs {
		check := func() error { return holds(ctx, w, c) }
		if slices.Contains(missing, c.Digest) {
			check = func() error { return absent(ctx, w, c.Digest) }
		}
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}
