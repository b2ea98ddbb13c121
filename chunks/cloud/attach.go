package cloud

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/ahead"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bitmap"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/files"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/identity"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/meta"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/notes"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/queue"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
	"github.com/holdfast-mesh/holdfast/chunks/pack/index"
)

// Open opens the store of that ID. A directory that has been open before has all
// that it takes, and Open asks the bucket nothing: what somebody else wrote
// meanwhile is seen after [Store.Refresh]. For a new one it reads the newest root,
// and the index objects that it names. Open claims nothing; see [Store.Acquire].
func Open(ctx context.Context, cfg Config, id format.ID) (*Store, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{
		cfg: cfg, b: cfg.Bucket.Sub(layout.Root + id.String()), local: cfg.Local, cache: cfg.Cache, ahead: ahead.New(),
		seen: map[uint32]time.Time{}, onlyRead: true,
	}
	for _, dir := range []string{"upload", "meta", "files", "index"} {
		if err := disk.MkdirAll(cfg.FS, s.path(dir), 0o750); err != nil {
			return nil, err
		}
	}
	if s.lock, err = cfg.FS.Lock(s.path("lock")); err != nil {
		return nil, fmt.Errorf("open %s: %w", s, err)
	}
	if err := s.load(ctx, id); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", s, err), s.lock.Close())
	}
	return s, nil
}

// load reads format, journal and head, and builds the table.
func (s *Store) load(ctx context.Context, id format.ID) error {
	var err error
	if s.format, err = identity.Keep(ctx, s.cfg.FS, s.path("format.json"), s.b, id); err != nil {
		return err
	}
	if len(s.cfg.Keys) > 0 {
		wrapped := s.cfg.Wrapped
		if wrapped == nil {
			wrapped = s.format.Wrapped
		}
		s.key, err = seal.Unwrap(wrapped, s.cfg.Keys...)
		if err != nil && (s.format.KeyID != "" || s.cfg.Wrapped != nil) {
			return err
		} // what is not encrypted can be read without; nobody becomes owner so
	}
	if s.format.KeyID != "" {
		if s.key == nil {
			return ErrNoKey
		}
		s.open = layout.NewOpener(s.key)
	} else {
		s.open = layout.NewOpener(nil)
	}
	s.meta = &meta.Objects{Bucket: s.b, FS: s.cfg.FS, Dir: s.path("meta"), Format: s.format, Key: s.key, Node: s.cfg.Node, Log: s.cfg.Log}
	s.files = files.Pending{Dir: files.Dir{FS: s.cfg.FS, Path: s.path("files")}, Note: s.noteFile, Sync: func() error { return s.journal.Sync() }}
	s.queue = &queue.Queue{Bucket: s.b, FS: s.cfg.FS, Dir: s.path("upload"), Parallel: s.cfg.Parallel, There: s.there}
	var m *notes.Memory
	if s.journal, m, err = notes.Open(s.cfg.FS, s.path("notes"), s.cfg.Log); err != nil {
		return err
	}
	if err := s.fill(ctx, m); err != nil {
		return errors.Join(err, s.journal.Close())
	}
	return nil
}

// fill makes the table from the newest root.
func (s *Store) fill(ctx context.Context, m *notes.Memory) error {
	head, packs, err := s.meta.Known(ctx)
	if err != nil {
		return err
	}
	if s.stale = head != nil; !s.stale {
		if head, err = s.meta.Newest(ctx); err != nil {
			return err
		}
		packs, err = s.meta.Packs(ctx, head)
	}
	if err != nil {
		return err
	}
	t := &s.table
	t.packs, t.numbers, t.next, t.gen = map[uint32]*remote{}, m.Numbers, m.Next, rand.Uint64()
	buried := head.Buried()
	var living []layout.Pack
	for _, p := range packs {
		doomed, at := m.Doomed[p.ID]
		if buried[p.ID] {
			continue
		}
		n, fresh := t.number(p.ID)
		if fresh {
			s.note(notes.Note{Kind: notes.Number, Pack: p.ID, Number: n})
		}
		if at {
			g := grave{Tombstone: layout.Tombstone{Pack: p.ID, Since: doomed, Bytes: p.Size}}
			for i, row := range p.Rows {
				if !bitmap.Has(m.Dead[p.ID], uint32(i)) {
					g.home = append(g.home, row.Digest)
				}
			}
			s.doomed = append(s.doomed, g)
			continue
		}
		t.add(p, n, m.Dead[p.ID])
		t.packs[n].lost, t.packs[n].bad = m.Lost[p.ID], m.Bad[p.ID]
		living = append(living, p)
	}
	t.idx, err = index.Rebuild(ctx, index.Config{FS: s.cfg.FS, Dir: s.path("index"), Log: s.cfg.Log}, t.locs(living), t.better,
		func() ([]byte, error) { return nil, nil })
	if err != nil {
		return err
	}
	s.head, s.seen = *head, m.Seen
	s.files.Load(m.Files)
	return errors.Join(s.meta.Sweep(head), s.queue.Clean())
}
