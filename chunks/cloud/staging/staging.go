// Package staging builds the packs that are about to be uploaded, from a store
// of packs on the disk: of chunks, or of a whole pack as it is.
package staging

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/queue"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

// maxRows bounds the chunks of a pack, as in local packs.
const maxRows = 65536

// A Builder puts packs into a queue. Every field is required but Key.
type Builder struct {
	Queue *queue.Queue
	Store format.ID // that the packs belong to
	Epoch uint64
	Key   *seal.Key // nil: packs are not sealed
	Limit int64     // bytes of a pack
	Log   *slog.Logger
}

// leastPack is the length below which packs are not made smaller.
const leastPack = 1 << 20

// Smaller halves the length of the packs to come, on a disk that has no room for
// larger ones, and reports whether that was possible.
func (b *Builder) Smaller() bool {
	if b.Limit <= leastPack {
		return false
	}
	b.Limit /= 2
	b.Log.Warn("the disk has no room for a pack: the next are smaller", "bytes", b.Limit)
	return true
}

// A Source is where the chunks are now.
type Source interface {
	Get(ctx context.Context, d chunks.Digest, buf []byte) (chunks.Blob, error)
}

// Build writes entries, as many as fit, into a pack that is ready to be
// uploaded, and returns how many. Chunks that have gone meanwhile, or are
// damaged, are left out; if none is left, the ID is zero.
func (b *Builder) Build(ctx context.Context, from Source, entries []pack.Entry) (id format.ID, used int, err error) {
	f, err := b.Queue.Create()
	if err != nil {
		return id, 0, chunks.NoSpace(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Queue.Drop())
		}
	}()
	p, used, err := b.fill(ctx, f, from, entries)
	if err = chunks.NoSpace(errors.Join(err, f.Close())); err != nil || len(p.Rows) == 0 {
		return id, used, errors.Join(err, b.Queue.Drop())
	}
	err = b.Queue.Push(p)
	return p.ID, used, chunks.NoSpace(err)
}

func (b *Builder) fill(ctx context.Context, f disk.File, from Source, entries []pack.Entry) (p layout.Pack, used int, err error) {
	w, err := layout.NewPackWriter(f, b.Store, b.Epoch, b.Key)
	if err != nil {
		return p, 0, chunks.NoSpace(err)
	}
	var buf []byte
	for _, e := range entries {
		if w.Len() > 0 && w.SizeWith(int(e.Bytes)) > b.Limit || w.Len() >= maxRows {
			break
		}
		used++
		blob, err := from.Get(ctx, e.Digest, buf)
		switch {
		case errors.Is(err, chunks.ErrMissing):
			continue
		case errors.Is(err, chunks.ErrCorrupt):
			b.Log.Error("chunk is damaged and stays on the disk", "chunk", e.Digest.String(), "err", err)
			continue
		case err != nil:
			return p, used, err
		}
		if err := w.Add(e.Digest, blob); err != nil {
			return p, used, err
		}
		buf = blob[:0]
	}
	p, err = w.Close()
	return p, used, err
}

// A Load is what is to be sent: a sealed pack as it is, or chunks.
type Load struct {
	Dir     string    // of the store that the pack is in
	Whole   pack.Info // zero: none
	From    Source
	Entries []pack.Entry // what is wanted; of a whole pack, what is if that will not do
}

// A Sent says in how many packs something was sent, and how many of them went
// as they are.
type Sent struct {
	Packs int `json:"packs"`
	Whole int `json:"whole-packs"`
}

// Load puts a load into the queue and hands over each pack. A pack whose ID is
// not unused goes chunk by chunk, and so does one that is not whole.
func (b *Builder) Load(ctx context.Context, l Load, unused func(format.ID) bool, send func(format.ID)) (n Sent, err error) {
	if l.Whole.ID != (format.ID{}) && l.Whole.Sealed && b.Key == nil && unused(l.Whole.ID) {
		if err := b.Whole(ctx, l.Dir, l.Whole); err == nil {
			send(l.Whole.ID)
			return Sent{1, 1}, nil
		} else if ctx.Err() != nil {
			return n, err
		} else {
			b.Log.Warn("pack does not go as it is: its chunks go alone", "pack", l.Whole.ID.String(), "err", err)
		}
	}
	for rest := l.Entries; len(rest) > 0; {
		id, used, err := b.Build(ctx, l.From, rest)
		if err != nil {
			return n, err
		}
		rest = rest[used:]
		if id != (format.ID{}) {
			n.Packs++
			send(id)
		}
	}
	return n, nil
}

// Whole puts a sealed pack of the store in dir into the queue, byte for byte.
// Every chunk of it is compared with its sum on the way: what does not match
// is not sent. The bucket's packs must not be sealed with a key.
func (b *Builder) Whole(ctx context.Context, dir string, is pack.Info) (err error) {
	if b.Key != nil {
		return errors.New("a pack as it is goes only into a store that is not encrypted")
	}
	id := is.ID
	src, err := b.Queue.FS.OpenFile(path.Join(dir, identity.PacksDir, id.String()[:2], fmt.Sprintf("%08x-%s.hfpk", is.Epoch, id)), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer src.Close()
	size, err := src.Size()
	if err != nil {
		return err
	}
	p, err := layout.NewOpener(nil).ReadPack(src, id, size)
	if err != nil {
		return err
	}
	p.Created = time.Now().Truncate(time.Second) // of the object, as bills see it
	f, err := b.Queue.Create()
	if err != nil {
		return chunks.NoSpace(err)
	}
	err = errors.Join(copyChecked(ctx, f, src, &p), f.Close())
	if err != nil {
		return errors.Join(err, b.Queue.Drop())
	}
	return chunks.NoSpace(b.Queue.Push(p))
}

// copyChecked copies a pack and compares each of its chunks, of which it notes
// the kind.
func copyChecked(ctx context.Context, to disk.File, from io.ReaderAt, p *layout.Pack) error {
	at, buf := int64(0), []byte(nil)
	var sum layout.Summer
	open := layout.NewOpener(nil)
	move := func(end int64) error { // from where the last frame ended
		if int64(cap(buf)) < end-at {
			buf = make([]byte, end-at)
		}
		buf = buf[:end-at]
		if _, err := from.ReadAt(buf, at); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		sum.Write(buf, at)
		_, err := to.WriteAt(buf, at)
		return chunks.NoSpace(err)
	}
	for i, row := range p.Rows {
		if err := ctx.Err(); err != nil {
			return err
		}
		end := row.Off + layout.FrameSize(false, row.Stored)
		if row.Off < at || end > p.Size {
			return fmt.Errorf("pack %s: rows that overlap", p.ID)
		}
		if err := move(end); err != nil {
			return err
		}
		d, blob, err := open.Frame(p.ID, false, row.Off, buf[row.Off-at:])
		if err == nil && d != row.Digest {
			err = fmt.Errorf("%w: another chunk lies in its place", chunks.ErrCorrupt)
		}
		if err == nil {
			p.Rows[i].Kind, err = blob.Kind()
		}
		if err != nil {
			return fmt.Errorf("pack %s: chunk %s: %w", p.ID, row.Digest.Short(), err)
		}
		at = end
	}
	if at < p.Size {
		if err := move(p.Size); err != nil {
			return err
		}
	}
	p.Sum = sum.Sum()
	return nil
}
