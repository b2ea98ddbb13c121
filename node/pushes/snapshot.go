package pushes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/roots"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/client"
	"github.com/holdfast-mesh/holdfast/replication/crypt"
)

// snapshot pushes a snapshot, and tells whether there was one to push.
func (p *push) snapshot(ctx context.Context, g *group, s naming.Snapshot) (pushed bool, err error) {
	r, err := p.Local.OpenSnapshot(ctx, g.from, s)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, catalog.ErrBusy) {
		p.Printf("%s was removed since it was listed", s)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer r.Close()
	switch p.crypt(r.Manifest()) {
	case crypt.Partly:
		p.left(g, s)
		return false, nil
	case crypt.Open:
		return true, p.encrypted(ctx, g, r, s)
	}
	return true, p.copy(ctx, g, r, s)
}

// copy pushes a snapshot as it is.
func (p *push) copy(ctx context.Context, g *group, r *catalog.Reader, s naming.Snapshot) error {
	b, err := p.Remote.BeginCopy(ctx, g.to, s, nil)
	if err != nil {
		return err
	}
	defer b.Abort()
	for _, f := range r.Manifest().Files {
		if roots.IsIndex(f.Name) {
			err = p.index(ctx, r, b, f.Name)
		} else {
			err = blob(ctx, r, b, f.Name)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	if err := blob(ctx, r, b, manifest.LogName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", manifest.LogName, err)
	}
	if err := b.Finish(ctx, r.Manifest()); err != nil {
		return err
	}
	p.Printf("pushed %s", s)
	return nil
}

func blob(ctx context.Context, r *catalog.Reader, b *client.Backup, name string) error {
	data, err := r.Blob(name)
	if err != nil {
		return err
	}
	return b.PutBlob(ctx, name, data)
}

// batch is how many chunks are read at a time, which may have 4 MiB each.
const batch = 16

// index pushes an index, with those of its chunks that the server may not have.
func (p *push) index(ctx context.Context, r *catalog.Reader, b *client.Backup, name string) error {
	idx, err := r.Index(name)
	if err != nil {
		return err
	}
	sink, err := p.open(ctx, b, name, idx.Size())
	if err != nil {
		return err
	}
	for from := 0; from < idx.Len(); from += batch {
		to := min(from+batch, idx.Len())
		if err := p.put(ctx, r, sink, idx, from, to); err != nil {
			return err
		}
		for i := from; i < to; i++ {
			start, end := idx.Range(i)
			if err := sink.Append(ctx, chunks.Stored{Offset: start, Size: int(end - start), Digest: idx.Digest(i)}); err != nil {
				return err
			}
		}
	}
	return sink.Close(ctx, idx)
}

// put hands those of some chunks over that the server may not have.
func (p *push) put(ctx context.Context, r *catalog.Reader, sink archive.Sink, idx chunks.Index, from, to int) error {
	var want []chunks.Digest
	for i := from; i < to; i++ {
		if d := idx.Digest(i); !slices.Contains(want, d) {
			want = append(want, d)
		}
	}
	want, err := sink.Missing(ctx, want)
	if err != nil || len(want) == 0 {
		return err
	}
	return r.Chunks().GetMany(ctx, want, func(d chunks.Digest, blob chunks.Blob, err error) error {
		if err != nil {
			return err
		}
		_, err = sink.Put(ctx, d, blob)
		return err
	})
}

// open opens an index there. What is put into it counts when the server has all of it.
func (p *push) open(ctx context.Context, b *client.Backup, name string, size int64) (archive.Sink, error) {
	s, err := b.Open(ctx, name, size)
	return &counting{Sink: s, p: p}, err
}

// A counting is a sink whose chunks are counted.
type counting struct {
	archive.Sink
	p *push

	chunks int
	bytes  int64
}

func (c *counting) Put(ctx context.Context, d chunks.Digest, b chunks.Blob) (known bool, err error) {
	known, err = c.Sink.Put(ctx, d, b)
	if c.p.Moved != nil {
		c.p.Moved()
	}
	if err == nil && !known {
		c.chunks++
		c.bytes += int64(len(b))
	}
	return known, err
}

func (c *counting) Append(ctx context.Context, s chunks.Stored) error {
	if c.p.Moved != nil {
		c.p.Moved()
	}
	return c.Sink.Append(ctx, s)
}

func (c *counting) Close(ctx context.Context, x chunks.Index) error {
	err := c.Sink.Close(ctx, x)
	if err == nil {
		c.p.mu.Lock()
		defer c.p.mu.Unlock()
		c.p.report.Chunks += c.chunks
		c.p.report.Bytes += c.bytes
	}
	return err
}
