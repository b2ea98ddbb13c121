package export

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

const (
	// defaultReaders is how many chunk files are read at the same time: small
	// files on a cold disk wait for it far longer than they are worked on.
	defaultReaders = 8
	maxReaders     = 64 // each may hold a chunk of 16 MiB, as stored and decoded

	// window is how many chunks are put into the order of the disk at a time.
	// It bounds memory (some 100 bytes each) and how much work one step is.
	window = 16384
)

// Chunks are the chunk files of a PBS datastore, .chunks/xxxx/<64 hex digits>.
// It is a [chunks.Store] and a [chunks.BatchSource].
type Chunks struct {
	fs      disk.FS
	dir     string
	place   string
	readers int
}

var (
	_ chunks.Store       = (*Chunks)(nil)
	_ chunks.BatchSource = (*Chunks)(nil)
)

// String names the datastore: "PBS datastore /mnt/pbs".
func (c *Chunks) String() string { return c.place }

// chunkPath returns where the file of d is, below .chunks.
func chunkPath(d chunks.Digest) string {
	hex := d.String()
	return path.Join(hex[:4], hex)
}

func (c *Chunks) file(d chunks.Digest) string { return path.Join(c.dir, chunkPath(d)) }

func (c *Chunks) failed(d chunks.Digest, err error) error {
	return &chunks.Error{Op: "read", Digest: d, Place: c.place, Err: err}
}

// Get returns the blob of d, its frame checked. It fails with
// chunks.ErrMissing, and with chunks.ErrCorrupt if the file is damaged or
// cannot be read from the disk.
func (c *Chunks) Get(ctx context.Context, d chunks.Digest, buf []byte) (chunks.Blob, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b, err := c.read(d, buf)
	if err == nil {
		err = b.Check()
	}
	if err != nil {
		return nil, c.failed(d, err)
	}
	return b, nil
}

func (c *Chunks) read(d chunks.Digest, buf []byte) (chunks.Blob, error) {
	f, err := c.fs.OpenFile(c.file(d), os.O_RDONLY, 0)
	if err != nil {
		return nil, c.reason(d, err)
	}
	defer f.Close() // it was only read
	size, err := f.Size()
	if err != nil {
		return nil, c.reason(d, err)
	}
	if size < chunks.PlainHeaderSize || size > chunks.MaxBlob {
		return nil, fmt.Errorf("%w: its file has %d bytes, a chunk has %d to %d", chunks.ErrCorrupt, size, chunks.PlainHeaderSize, chunks.MaxBlob)
	}
	if int64(cap(buf)) < size {
		buf = make([]byte, size)
	}
	buf = buf[:size]
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, size), buf); err != nil {
		return nil, c.reason(d, err)
	}
	return buf, nil
}

// reason says what an error of the file system means for a chunk.
func (c *Chunks) reason(d chunks.Digest, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if n := c.setAside(d); n != "" {
			return fmt.Errorf("%w: PBS found it damaged and renamed it to %s", chunks.ErrMissing, n)
		}
		return chunks.ErrMissing
	case errors.Is(err, syscall.EIO), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return fmt.Errorf("%w: %w", chunks.ErrCorrupt, err)
	}
	return err
}

// maxBad is how many damaged files of one chunk PBS keeps: .0.bad to .9.bad.
const maxBad = 10

// setAside returns the name that PBS gave a damaged chunk, or "".
func (c *Chunks) setAside(d chunks.Digest) string {
	for i := range maxBad {
		name := d.String() + "." + strconv.Itoa(i) + ".bad"
		if _, err := c.fs.Stat(path.Join(c.dir, name[:4], name)); err == nil {
			return name
		}
	}
	return ""
}

// isBad reports whether a file name is one that PBS gives damaged chunks.
func isBad(name string) bool {
	hex, rest, _ := strings.Cut(name, ".")
	_, err := chunks.ParseDigest(hex)
	return err == nil && len(rest) == len("0.bad") && rest[0] >= '0' && rest[0] <= '9' && rest[1:] == ".bad"
}

// Missing returns those of want that are not held, in the order of want. An
// empty file is what a crash left of a chunk, and counts as none.
func (c *Chunks) Missing(ctx context.Context, want []chunks.Digest) ([]chunks.Digest, error) {
	var missing []chunks.Digest
	for part := range slices.Chunk(want, window) {
		found, err := c.locate(ctx, part)
		if err != nil {
			return nil, err
		}
		for i, at := range found {
			switch {
			case at.err == nil && at.size > 0:
			case at.err == nil || errors.Is(at.err, fs.ErrNotExist):
				missing = append(missing, part[i])
			default:
				return nil, &chunks.Error{Op: "look for", Digest: part[i], Place: c.place, Err: at.err}
			}
		}
	}
	return missing, nil
}

// A location is where a chunk file lies on the disk.
type location struct {
	digest chunks.Digest
	inode  uint64
	size   int64
	err    error
}

// locate looks for the files of ds, and returns what it found in their order.
func (c *Chunks) locate(ctx context.Context, ds []chunks.Digest) ([]location, error) {
	found := make([]location, len(ds))
	err := c.each(ctx, len(ds), func(_ context.Context, i int) error {
		found[i].digest = ds[i]
		info, err := c.fs.Stat(c.file(ds[i]))
		if err != nil {
			found[i].err = err
			return nil
		}
		found[i].inode, found[i].size = inode(info), info.Size()
		return nil
	})
	return found, err
}

// each calls fn for 0 to n-1, nearly in order and from several goroutines.
func (c *Chunks) each(ctx context.Context, n int, fn func(ctx context.Context, i int) error) error {
	return each(ctx, c.readers, n, fn)
}

// each calls fn for 0 to n-1, nearly in order, from several goroutines. It
// fails with the first error of fn, or when ctx ends.
func each(ctx context.Context, workers, n int, fn func(ctx context.Context, i int) error) error {
	g, inner := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(workers, n) {
		g.Go(func() error {
			for inner.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return nil
				}
				if err := fn(inner, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// GetMany reads want in the order of inodes, which is nearly that of the disk
// where files were not moved, with several readers. See [chunks.BatchSource].
func (c *Chunks) GetMany(ctx context.Context, want []chunks.Digest, fn func(chunks.Digest, chunks.Blob, error) error) error {
	for part := range slices.Chunk(want, window) {
		found, err := c.locate(ctx, part)
		if err != nil {
			return err
		}
		slices.SortFunc(found, func(a, b location) int { return cmp.Compare(a.inode, b.inode) })
		err = c.each(ctx, len(found), func(ctx context.Context, i int) error {
			return c.hand(ctx, found[i], fn)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Chunks) hand(ctx context.Context, at location, fn func(chunks.Digest, chunks.Blob, error) error) error {
	if at.err != nil {
		return fn(at.digest, nil, c.failed(at.digest, c.reason(at.digest, at.err)))
	}
	buf := chunks.GetBuffer(int(min(at.size, chunks.MaxBlob)))
	defer buf.Free()
	b, err := c.Get(ctx, at.digest, buf.Bytes)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		buf.Bytes = b
	}
	return fn(at.digest, b, err)
}
