package content

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
)

// MaxChunk is the longest piece of content in bytes that an index may name:
// four times the largest average that clients use (PBS protocol notes §5.4).
// It bounds the memory that a hostile index can ask for.
const MaxChunk = 16 << 20

// A Decoder turns the chunks of one archive into checked content.
type Decoder struct {
	Archive string // what messages call the content
	Index   chunks.Index
	Key     *chunks.Key        // may be nil if the content is not encrypted
	Mode    manifest.CryptMode // what the manifest says; "": anything goes
	Proved  bool               // the key is the right one: what it does not open is damaged
}

// Decode decodes chunk i of the index into dst's memory, if that is large
// enough, and proves that it is what the index names.
func (d Decoder) Decode(dst []byte, i int, b chunks.Blob) ([]byte, error) {
	if err := CheckMode(b, d.Mode); err != nil {
		return nil, err
	}
	start, end := d.Index.Range(i)
	if n, ok := b.PlainLen(); ok && int64(n) != end-start {
		return nil, fmt.Errorf("%w: it holds %d bytes, the index says %d", chunks.ErrCorrupt, n, end-start)
	}
	plain, err := b.Decode(dst, d.Key)
	if errors.Is(err, chunks.ErrWrongKey) && d.Proved {
		return nil, fmt.Errorf("%w: it does not open, though the key is right", chunks.ErrCorrupt)
	}
	if err != nil {
		return nil, err
	}
	return plain, d.prove(i, b, plain)
}

// prove makes sure that plain, which was in b, is what the index names.
func (d Decoder) prove(i int, b chunks.Blob, plain []byte) error {
	if start, end := d.Index.Range(i); int64(len(plain)) != end-start {
		return fmt.Errorf("%w: it holds %d bytes, the index says %d", chunks.ErrCorrupt, len(plain), end-start)
	}
	if sum, want := d.sum(b, plain), d.Index.Digest(i); sum != want {
		return fmt.Errorf("%w: the content's digest is %s", chunks.ErrCorrupt, sum.Short())
	}
	return nil
}

// content is Decode for a blob in a buffer, which it frees or returns with the
// content in it: what is not compressed needs no copy.
func (d Decoder) content(encoded *chunks.Buffer, i int) (*chunks.Buffer, error) {
	b := chunks.Blob(encoded.Bytes)
	if kind, err := b.Kind(); err == nil && kind == chunks.Plain {
		if err = errors.Join(CheckMode(b, d.Mode), b.Check()); err == nil {
			encoded.Skip(chunks.PlainHeaderSize)
			err = d.prove(i, b, encoded.Bytes)
		}
		if err != nil {
			encoded.Free()
			return nil, err
		}
		return encoded, nil
	}
	defer encoded.Free()
	start, end := d.Index.Range(i)
	plain := chunks.GetBuffer(int(end - start))
	data, err := d.Decode(plain.Bytes, i, b)
	if err != nil {
		plain.Free()
		return nil, err
	}
	plain.Bytes = data
	return plain, nil
}

func (d Decoder) sum(b chunks.Blob, plain []byte) chunks.Digest {
	if kind, err := b.Kind(); err == nil && kind.IsEncrypted() {
		return d.Key.Digest(plain)
	}
	return chunks.Sum(plain)
}

// Fetch reads and decodes chunk i. The buffer is the caller's to free.
func (d Decoder) Fetch(ctx context.Context, src chunks.Source, i int) (*chunks.Buffer, error) {
	start, end := d.Index.Range(i)
	encoded, err := chunks.Borrow(ctx, src, d.Index.Digest(i), int(end-start))
	if err != nil {
		return nil, err
	}
	return d.content(encoded, i)
}

// Start returns where chunk i begins.
func (d Decoder) Start(i int) int64 {
	start, _ := d.Index.Range(i)
	return start
}

// Failed says where in the archive chunk i is that could not be read.
func (d Decoder) Failed(i int, err error) error {
	if err == nil {
		return nil
	}
	start, end := d.Index.Range(i)
	return &ChunkError{Archive: d.Archive, Offset: start, Size: end - start, Digest: d.Index.Digest(i), Err: err}
}

// Check refuses an index that no client makes, before memory is taken for it.
func (d Decoder) Check() error {
	if x, ok := d.Index.(*chunks.Fixed); ok {
		return d.checkSize(0, x.ChunkSize())
	}
	for i := range d.Index.Len() {
		start, end := d.Index.Range(i)
		if err := d.checkSize(i, end-start); err != nil {
			return err
		}
	}
	return nil
}

func (d Decoder) checkSize(i int, size int64) error {
	if size > MaxChunk {
		return fmt.Errorf("open %s: %w: chunk %d has %d bytes, at most %d are allowed", d.Archive, chunks.ErrBadIndex, i, size, MaxChunk)
	}
	return nil
}

// CheckMode compares how b is encoded with what the manifest says of its
// archive (PBS protocol notes §5.6), so that whoever holds an encrypted backup
// cannot slip plain content into it.
func CheckMode(b chunks.Blob, mode manifest.CryptMode) error {
	kind, err := b.Kind()
	if err != nil || mode == "" {
		return err
	}
	if want := mode == manifest.Encrypt; kind.IsEncrypted() != want {
		return fmt.Errorf("%w: it is encoded as %s, but the manifest gives the crypt mode %s", chunks.ErrCorrupt, kind, mode)
	}
	return nil
}
