package cloud

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// The queue of uploads is the directory upload/. Of a pack on its way there is
//
//	<id>.pack and <id>.rows   the pack is whole and must be uploaded
//	<id>.done                 its rows; the bucket has it, but no root names it
//	<id>.pack alone           a crash came while it was written
//
// A pack is always sent again under the same name, which is safe because the
// bytes are the same and the first to arrive stays.
const (
	packExt = ".pack"
	rowsExt = ".rows"
	doneExt = ".done"
)

// queue returns the packs that wait, by their state.
func (s *Store) queue() (waiting map[format.ID]string, err error) {
	files, err := s.cfg.FS.ReadDir(s.path("upload"))
	if err != nil {
		return nil, err
	}
	waiting = map[format.ID]string{}
	for _, f := range files {
		for _, ext := range []string{rowsExt, doneExt} {
			var id format.ID
			stem, ok := strings.CutSuffix(f.Name(), ext)
			if ok && id.UnmarshalText([]byte(stem)) == nil {
				waiting[id] = ext
			}
		}
	}
	return waiting, nil
}

func (s *Store) upload(id format.ID, ext string) string { return s.path("upload", id.String()+ext) }

// sweepUploads removes what a crash left half written.
func (s *Store) sweepUploads() error {
	waiting, err := s.queue()
	if err != nil {
		return err
	}
	files, err := s.cfg.FS.ReadDir(s.path("upload"))
	if err != nil {
		return err
	}
	for _, f := range files {
		var id format.ID
		stem, _, _ := strings.Cut(f.Name(), ".")
		if id.UnmarshalText([]byte(stem)) == nil && waiting[id] == rowsExt && !disk.IsTemp(f.Name()) {
			continue
		}
		if strings.HasSuffix(f.Name(), doneExt) {
			continue
		}
		if err := s.remove(s.path("upload", f.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) remove(name string) error {
	if err := s.cfg.FS.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// rows reads the rows of a pack that waits.
func (s *Store) rows(id format.ID, ext string) (layout.Pack, error) {
	b, err := disk.ReadFile(s.cfg.FS, s.upload(id, ext), maxObject)
	if err != nil {
		return layout.Pack{}, err
	}
	packs, err := layout.DecodeIndex(b)
	if err != nil || len(packs) != 1 || packs[0].ID != id {
		return layout.Pack{}, errors.Join(fmt.Errorf("%s: it is not the rows of a pack", s.upload(id, ext)), err)
	}
	return packs[0], nil
}

// stage writes entries, as many as fit, into a pack that is ready to be
// uploaded, and returns how many. Chunks that have gone from the disk
// meanwhile are left out.
func (s *Store) stage(ctx context.Context, entries []pack.Entry) (id format.ID, used int, err error) {
	key := s.key
	if s.format.KeyID == "" {
		key = nil
	}
	tmp := s.path("upload", "new"+packExt)
	f, err := s.createFile(tmp)
	if err != nil {
		return id, 0, chunks.NoSpace(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.remove(tmp))
		}
	}()
	p, used, err := s.fillPack(ctx, f, key, entries)
	if err = errors.Join(err, f.Close()); err != nil || len(p.Rows) == 0 {
		return id, used, errors.Join(err, s.remove(tmp))
	}
	if err := s.cfg.FS.Rename(tmp, s.upload(p.ID, packExt)); err != nil {
		return id, 0, err
	}
	// The rows come last, and with them the pack is in the queue.
	err = disk.WriteFileAtomic(s.cfg.FS, s.upload(p.ID, rowsExt), layout.EncodeIndex([]layout.Pack{p}), 0o640)
	return p.ID, used, chunks.NoSpace(err)
}

func (s *Store) fillPack(ctx context.Context, f disk.File, key *seal.Key, entries []pack.Entry) (p layout.Pack, used int, err error) {
	w, err := layout.NewPackWriter(f, s.format.Store, s.epoch(), key)
	if err != nil {
		return p, 0, chunks.NoSpace(err)
	}
	limit := s.packBytes()
	var buf []byte
	for _, e := range entries {
		if w.Len() > 0 && w.SizeWith(int(e.Bytes)) > limit || w.Len() >= maxRows {
			break
		}
		used++
		b, err := s.local.Get(ctx, e.Digest, buf)
		switch {
		case errors.Is(err, chunks.ErrMissing):
			continue
		case errors.Is(err, chunks.ErrCorrupt):
			s.cfg.Log.Error("chunk is damaged and stays on the disk", "chunk", e.Digest.String(), "err", err)
			continue
		case err != nil:
			return p, used, err
		}
		if err := w.Add(e.Digest, b); err != nil {
			return p, used, err
		}
		buf = b[:0]
	}
	p, err = w.Close()
	return p, used, err
}

// maxRows bounds the chunks of a pack, as in local packs.
const maxRows = 65536

func (s *Store) packBytes() int64 {
	if s.cfg.PackBytes > 0 {
		return s.cfg.PackBytes
	}
	return s.format.PackBytes
}

func (s *Store) epoch() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owner.Epoch
}

// send uploads one pack of the queue. When it returns nil the bucket has it,
// and the queue knows.
func (s *Store) send(ctx context.Context, id format.ID) error {
	f, err := s.cfg.FS.OpenFile(s.upload(id, packExt), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return err
	}
	opt := bucket.PutOption{New: s.b.Can().CreateOnce, Class: s.b.StorageClass()}
	_, err = s.b.Put(ctx, layout.PackKey(id), sized{f, size}, opt)
	if errors.Is(err, bucket.ErrExists) {
		err = s.sentBefore(ctx, id, size)
	}
	if err != nil {
		return err
	}
	if err := s.cfg.FS.Rename(s.upload(id, rowsExt), s.upload(id, doneExt)); err != nil {
		return err
	}
	return errors.Join(s.cfg.FS.SyncDir(s.path("upload")), s.remove(s.upload(id, packExt)))
}

// sentBefore accepts what an earlier process of ours sent before it crashed. A
// name is random and of 128 bits, so only the length is compared.
func (s *Store) sentBefore(ctx context.Context, id format.ID, size int64) error {
	info, err := s.b.Head(ctx, layout.PackKey(id))
	if err == nil && info.Size != size {
		err = fmt.Errorf("pack %s has %d bytes in %s and %d here", id, info.Size, s.b, size)
	}
	return err
}

// sized is a file as a body.
type sized struct {
	disk.File
	n int64
}

func (b sized) Size() int64 { return b.n }

// sendAll uploads everything in the queue, several packs at a time. The first
// error ends it: with most of them no other upload would do better.
func (s *Store) sendAll(ctx context.Context) error {
	waiting, err := s.queue()
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(s.cfg.Parallel)
	for id, ext := range waiting {
		if ext == rowsExt {
			g.Go(func() error { return s.send(ctx, id) })
		}
	}
	return g.Wait()
}
