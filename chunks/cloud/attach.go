package cloud

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
	"github.com/holdfast-mesh/holdfast/chunks/pack/index"
)

const (
	formatName  = "holdfast-cloud"
	maxSmall    = 1 << 20  // bytes of format and owner
	maxRoot     = 64 << 20 // of a root
	maxObject   = 1 << 30  // of an index object or a bundle
	defaultPack = 64 << 20
)

// CreateOptions say what a new store is like.
type CreateOptions struct {
	Encrypt    bool
	Recipients []age.Recipient // who can open the store's key: the node, and whoever keeps the recovery key
	Proof      age.Identity    // the recovery key itself, to prove that it opens the store
	PackBytes  int64           // default 64 MiB
}

// Create makes a new store in b and returns its ID. The recovery key is tried
// on what was written before it returns: a key that was mistyped is found on
// the day on which encryption is switched on, not on the day of the disaster.
func Create(ctx context.Context, b *bucket.Bucket, opt CreateOptions) (format.ID, error) {
	if opt.PackBytes == 0 {
		opt.PackBytes = defaultPack
	}
	if opt.Proof == nil || len(opt.Recipients) == 0 {
		return format.ID{}, fmt.Errorf("create store in %s: no recovery key", b)
	}
	if stores, err := Stores(ctx, b); err != nil {
		return format.ID{}, err
	} else if len(stores) > 0 {
		return format.ID{}, fmt.Errorf("create store in %s: %w: %s", b, ErrTaken, stores[0])
	}
	key := seal.NewKey()
	wrapped, err := key.Wrap(opt.Recipients...)
	if err != nil {
		return format.ID{}, err
	}
	signer, _ := key.Signer().Public().(ed25519.PublicKey)
	f := layout.Format{
		Format: formatName, Version: layout.Version, Store: format.NewID(), Created: time.Now().UTC(),
		PackBytes: opt.PackBytes, Wrapped: wrapped, Signer: signer,
	}
	if opt.Encrypt {
		f.KeyID = key.ID().String()
	}
	body, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return format.ID{}, err
	}
	part := b.Sub(layout.Root + f.Store.String())
	if _, err := part.PutBytes(ctx, layout.FormatKey, body, bucket.PutOption{New: b.Can().CreateOnce}); err != nil {
		return format.ID{}, err
	}
	stored, err := readFormat(ctx, part, f.Store)
	if err != nil {
		return format.ID{}, err
	}
	if proved, err := seal.Unwrap(stored.Wrapped, opt.Proof); err != nil || proved.ID() != key.ID() {
		err = errors.Join(errors.New("the recovery key does not open the store that was just made"), err)
		return format.ID{}, errors.Join(err, part.Delete(ctx, layout.FormatKey))
	}
	return f.Store, nil
}

// Stores lists the IDs of the stores in b, with one request.
func Stores(ctx context.Context, b *bucket.Bucket) (ids []format.ID, err error) {
	after := layout.Root
	for {
		var first string
		enough := errors.New("enough")
		err := b.ListAfter(ctx, layout.Root, after, func(page []bucket.Info) error {
			first = page[0].Key
			return enough
		})
		if err != nil && !errors.Is(err, enough) {
			return nil, err
		}
		if first == "" {
			return ids, nil
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(first, layout.Root), "/")
		var id format.ID
		if id.UnmarshalText([]byte(name)) == nil {
			ids = append(ids, id)
		}
		after = layout.Root + name + "0" // "0" is what comes behind "/"
	}
}

func readFormat(ctx context.Context, part *bucket.Bucket, id format.ID) (f layout.Format, err error) {
	body, _, err := part.Get(ctx, layout.FormatKey, maxSmall)
	if errors.Is(err, bucket.ErrNotFound) {
		return f, fmt.Errorf("%w: %w", ErrNoStore, err)
	}
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(body, &f); err != nil || f.Format != formatName || f.Store != id {
		return f, errors.Join(fmt.Errorf("%s in %s is not the format of store %s", layout.FormatKey, part, id), err)
	}
	if f.Version > layout.Version {
		return f, fmt.Errorf("store %s has version %d, this program knows %d", id, f.Version, layout.Version)
	}
	return f, nil
}

// Open opens the store of that ID. What the local directory lacks, because it
// is new or because somebody else wrote meanwhile, is read from the bucket: one
// listing, the newest root, and the index objects that it names. Open claims
// nothing; see [Store.Acquire].
func Open(ctx context.Context, cfg Config, id format.ID) (*Store, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{
		cfg: cfg, b: cfg.Bucket.Sub(layout.Root + id.String()), local: cfg.Local, cache: cfg.Cache, ahead: newReadAhead(),
		seen: map[uint32]time.Time{}, pending: map[string]bool{}, onlyRead: true,
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
	if s.format, err = s.loadFormat(ctx, id); err != nil {
		return err
	}
	if len(s.cfg.Keys) > 0 {
		if s.key, err = seal.Unwrap(s.format.Wrapped, s.cfg.Keys...); err != nil {
			return err
		}
	}
	if s.format.KeyID != "" {
		if s.key == nil {
			return ErrNoKey
		}
		s.open = layout.NewOpener(s.key)
	} else {
		s.open = layout.NewOpener(nil)
	}
	m := newMemory()
	if s.journal, err = s.openJournal(&m); err != nil {
		return err
	}
	if err := s.fill(ctx, m); err != nil {
		return errors.Join(err, s.journal.Close())
	}
	return nil
}

// loadFormat asks the bucket only the first time: nothing replaces a format.
func (s *Store) loadFormat(ctx context.Context, id format.ID) (f layout.Format, err error) {
	name := s.path("format.json")
	if b, rerr := disk.ReadFile(s.cfg.FS, name, maxSmall); rerr == nil && json.Unmarshal(b, &f) == nil && f.Store == id {
		return f, nil
	}
	if f, err = readFormat(ctx, s.b, id); err != nil {
		return f, err
	}
	b, err := json.Marshal(f)
	if err != nil {
		return f, err
	}
	return f, disk.WriteFileAtomic(s.cfg.FS, name, b, 0o640)
}

// openJournal sets a damaged journal aside: nothing is lost with it but work.
func (s *Store) openJournal(m **memory) (*disk.Journal, error) {
	name := s.path("notes")
	j, err := disk.OpenJournal(s.cfg.FS, name, (*m).apply)
	if damaged := (*disk.JournalError)(nil); errors.As(err, &damaged) {
		aside := fmt.Sprintf("%s.damaged-%d", name, time.Now().UnixNano())
		s.cfg.Log.Error("notes of the cloud store are damaged; set aside", "as", aside, "err", err)
		if err := s.cfg.FS.Rename(name, aside); err != nil {
			return nil, err
		}
		*m = newMemory()
		// Numbers that were given out must not come back.
		(*m).next = uint32(rand.IntN(1<<16)+1) << 8
		return disk.OpenJournal(s.cfg.FS, name, (*m).apply)
	}
	return j, err
}

// fill makes the table from the newest root.
func (s *Store) fill(ctx context.Context, m *memory) error {
	head, err := s.newestHead(ctx)
	if err != nil {
		return err
	}
	packs, err := s.readIndexes(ctx, head)
	if err != nil {
		return err
	}
	t := &s.table
	t.packs, t.numbers, t.next, t.gen = map[uint32]*remote{}, m.numbers, m.next, rand.Uint64()
	buried := isDead(head)
	var living []layout.Pack
	for _, p := range packs {
		doomed, at := m.doomed[p.ID]
		if buried[p.ID] {
			continue
		}
		n, fresh := t.number(p.ID)
		if fresh {
			s.note(note{Kind: noteNumber, Pack: p.ID, Number: n})
		}
		if at {
			s.doomed = append(s.doomed, layout.Tombstone{Pack: p.ID, Since: doomed})
			continue
		}
		t.add(p, n, m.dead[p.ID])
		t.packs[n].lost = m.lost[p.ID]
		living = append(living, p)
	}
	t.idx, err = index.Rebuild(ctx, index.Config{FS: s.cfg.FS, Dir: s.path("index"), Log: s.cfg.Log}, t.locs(living), t.better,
		func() ([]byte, error) { return nil, nil })
	if err != nil {
		return err
	}
	s.head, s.seen, s.pending = *head, m.seen, m.files
	return errors.Join(s.sweepMeta(head), s.sweepUploads())
}

// newestHead returns the newest root that the bucket has, an empty one if
// there is none yet.
func (s *Store) newestHead(ctx context.Context) (*layout.Head, error) {
	known := &layout.Head{Store: s.format.Store}
	if b, err := disk.ReadFile(s.cfg.FS, s.path("head"), maxRoot); err == nil {
		if seq, rest, ok := splitHead(b); ok {
			if h, err := s.openHead(rest, seq); err == nil {
				known = h
			}
		}
	}
	after := ""
	if known.Seq.N > 0 {
		after = layout.RootKey(known.Seq)
	}
	var newest layout.Seq
	err := s.b.ListAfter(ctx, layout.RootDir, after, func(page []bucket.Info) error {
		for _, o := range page {
			if seq, ok := layout.ParseSeq(strings.TrimPrefix(o.Key, layout.RootDir)); ok && newest.Less(seq) {
				newest = seq
			}
		}
		return nil
	})
	if err != nil || newest.N == 0 {
		return known, err
	}
	body, _, err := s.b.Get(ctx, layout.RootKey(newest), maxRoot)
	if err != nil {
		return nil, err
	}
	h, err := s.openHead(body, newest)
	if err != nil {
		return nil, err
	}
	return h, s.saveHead(body, newest)
}

// openHead unseals and checks a root as it is stored.
func (s *Store) openHead(body []byte, seq layout.Seq) (*layout.Head, error) {
	body, err := s.unsealed(layout.RootKey(seq), body)
	if err != nil {
		return nil, err
	}
	return layout.OpenRoot(body, s.format.Store, seq, s.format.Signer)
}

// saveHead keeps the newest root on the disk.
func (s *Store) saveHead(body []byte, seq layout.Seq) error {
	return disk.WriteFileAtomic(s.cfg.FS, s.path("head"), append([]byte(seq.String()+"\n"), body...), 0o640)
}

func splitHead(b []byte) (layout.Seq, []byte, bool) {
	const n = 33
	if len(b) < n+1 || b[n] != '\n' {
		return layout.Seq{}, nil, false
	}
	seq, ok := layout.ParseSeq(string(b[:n]))
	return seq, b[n+1:], ok
}

// sealed returns a small object as it is stored, unsealed what it says.
func (s *Store) sealed(key string, plain []byte) []byte {
	if s.format.KeyID == "" {
		return plain
	}
	return s.key.Seal(key, plain)
}

func (s *Store) unsealed(key string, stored []byte) ([]byte, error) {
	if s.format.KeyID == "" {
		return stored, nil
	}
	return s.key.Open(key, stored)
}

// readIndexes reads the index objects of a head: those that the disk has from
// there, the others with one request each.
func (s *Store) readIndexes(ctx context.Context, h *layout.Head) ([]layout.Pack, error) {
	var packs []layout.Pack
	for _, o := range h.Index {
		body, err := s.object(ctx, o)
		if err != nil {
			return nil, err
		}
		some, err := layout.DecodeIndex(body)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.Key, err)
		}
		packs = append(packs, some...)
	}
	return packs, nil
}

// object returns the content of an object that a root names, and keeps it.
func (s *Store) object(ctx context.Context, o layout.Object) ([]byte, error) {
	name := s.path("meta", metaName(o.Key))
	if b, err := disk.ReadFile(s.cfg.FS, name, maxObject); err == nil && layout.SumOf(b) == o.Sum {
		return s.unsealed(o.Key, b)
	}
	b, _, err := s.b.Get(ctx, o.Key, maxObject)
	if err != nil {
		return nil, err
	}
	if layout.SumOf(b) != o.Sum {
		return nil, fmt.Errorf("%s in %s is not what the root names", o.Key, s.b)
	}
	if err := disk.WriteFileAtomic(s.cfg.FS, name, b, 0o640); err != nil {
		return nil, err
	}
	return s.unsealed(o.Key, b)
}

func metaName(key string) string { return strings.ReplaceAll(key, "/", "-") }

// sweepMeta removes objects that the head does not name.
func (s *Store) sweepMeta(h *layout.Head) error {
	var want []string
	for _, o := range slices.Concat(h.Index, h.Bundles) {
		want = append(want, metaName(o.Key))
	}
	files, err := s.cfg.FS.ReadDir(s.path("meta"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if slices.Contains(want, f.Name()) {
			continue
		}
		if err := s.cfg.FS.Remove(s.path("meta", f.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// writeFile writes a small file of ours.
func (s *Store) createFile(name string) (disk.File, error) {
	return s.cfg.FS.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
}
