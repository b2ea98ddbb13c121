package cloud

import (
	"context"
	"errors"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// stage writes entries, as many as fit, into a pack that is ready to be
// uploaded, and returns how many. Chunks that have gone from the disk
// meanwhile are left out.
func (s *Store) stage(ctx context.Context, entries []pack.Entry) (id format.ID, used int, err error) {
	key := s.key
	if s.format.KeyID == "" {
		key = nil
	}
	f, err := s.queue.Create()
	if err != nil {
		return id, 0, chunks.NoSpace(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.queue.Drop())
		}
	}()
	p, used, err := s.fillPack(ctx, f, key, entries)
	if err = errors.Join(err, f.Close()); err != nil || len(p.Rows) == 0 {
		return id, used, errors.Join(err, s.queue.Drop())
	}
	err = s.queue.Push(p)
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
