// Package meta keeps the small objects of a store: roots, index objects and
// bundles, in the bucket and, as they are stored there, on the disk beside.
package meta

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// Bounds of what is read, in bytes.
const (
	maxRoot   = 64 << 20
	maxObject = 1 << 30
)

// empty is what the file of the newest root says when there is none.
const empty = "no root yet\n"

// Objects are the small objects of one store.
type Objects struct {
	Bucket *bucket.Bucket // the store's part of the bucket
	FS     disk.FS
	Dir    string // a directory of their own, which exists
	Format layout.Format
	Key    *seal.Key    // nil: what is sealed cannot be opened
	Node   string       // who writes roots here; "": nobody
	Log    *slog.Logger // default: discard

	mu     sync.Mutex
	doubt  Doubt
	loaded bool // the doubt was read from the disk

	audits int                        // how many there were
	turn   int                        // of the objects that PutBack reads next
	behind atomic.Pointer[layout.Seq] // see Behind
	asked  atomic.Bool                // the packs were, since Newest
}

func (m *Objects) log() *slog.Logger {
	if m.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return m.Log
}

func (m *Objects) path(name string) string { return path.Join(m.Dir, name) }

// Known returns the newest root that is on the disk, and the packs of its index
// objects, without a request; nil if something of that is missing.
func (m *Objects) Known(ctx context.Context) (*layout.Head, []layout.Pack, error) {
	h := m.known()
	if h == nil {
		return nil, nil, nil
	}
	there := m.Without(h.Index) // what could not be read is looked for by a refresh
	for _, o := range there {
		if b, err := disk.ReadFile(m.FS, m.path(metaName(o.Key)), maxObject); err != nil || layout.SumOf(b) != o.Sum {
			return nil, nil, nil
		}
	}
	packs, err := m.Indexes(ctx, &layout.Head{Index: there})
	if len(there) < len(h.Index) {
		packs = append(packs, m.kept(h, packs)...)
	}
	return h, packs, err
}

// known returns the root that is on the disk, if there is one.
func (m *Objects) known() *layout.Head {
	b, err := disk.ReadFile(m.FS, m.path("head"), maxRoot)
	if err != nil {
		return nil
	}
	if string(b) == empty {
		return &layout.Head{Store: m.Format.Store}
	}
	seq, rest, ok := splitHead(b)
	if !ok {
		return nil
	}
	h, err := m.openRoot(rest, seq)
	if err != nil {
		return nil
	}
	return h
}

// openRoot unseals and checks a root as it is stored.
func (m *Objects) openRoot(body []byte, seq layout.Seq) (*layout.Head, error) {
	body, err := m.Unsealed(layout.RootKey(seq), body)
	if err != nil {
		return nil, err
	}
	return layout.OpenRoot(body, m.Format.Store, seq, m.Format.Signer)
}

// SaveRoot keeps the newest root on the disk.
func (m *Objects) SaveRoot(body []byte, seq layout.Seq) error {
	if m.Behind().Less(seq) {
		m.behind.Store(nil)
	}
	m.change(func(d *Doubt) {
		if d.Step.Epoch == seq.Epoch && !seq.Less(d.Step) {
			d.Step = layout.Seq{}
		}
	})
	return disk.WriteFileAtomic(m.FS, m.path("head"), append([]byte(seq.String()+"\n"), body...), 0o640)
}

const seqLen = 33 // of a step as text

func splitHead(b []byte) (layout.Seq, []byte, bool) {
	if len(b) < seqLen+1 || b[seqLen] != '\n' {
		return layout.Seq{}, nil, false
	}
	seq, ok := layout.ParseSeq(string(b[:seqLen]))
	return seq, b[seqLen+1:], ok
}

// Sealed returns a small object as it is stored.
func (m *Objects) Sealed(key string, plain []byte) []byte {
	if m.Format.KeyID == "" {
		return plain
	}
	return m.Key.Seal(key, plain)
}

// Unsealed returns what a small object says.
func (m *Objects) Unsealed(key string, stored []byte) ([]byte, error) {
	if m.Format.KeyID == "" {
		return stored, nil
	}
	return m.Key.Open(key, stored)
}

// Indexes reads the index objects of a head: those that the disk has from
// there, the others with one request each.
func (m *Objects) Indexes(ctx context.Context, h *layout.Head) ([]layout.Pack, error) {
	var packs []layout.Pack
	for _, o := range h.Index {
		some, err := m.index(ctx, o)
		if err != nil {
			return nil, err
		}
		packs = append(packs, some...)
	}
	return packs, nil
}

// Packs is [Objects.Indexes] that asks the packs themselves in the place of what cannot
// be read: see [Objects.Doubt].
func (m *Objects) Packs(ctx context.Context, h *layout.Head) ([]layout.Pack, error) {
	m.forget(h)
	var packs []layout.Pack
	var unread []string
	for _, o := range h.Index {
		some, err := m.index(ctx, o)
		ok, err := m.read(o, err)
		if err != nil {
			return nil, err
		}
		if packs = append(packs, some...); !ok {
			unread = append(unread, o.Key)
		}
	}
	if len(unread) == 0 {
		return packs, nil
	}
	more, err := m.footers(ctx, h, packs, unread)
	return append(packs, more...), err
}

func (m *Objects) index(ctx context.Context, o layout.Object) ([]layout.Pack, error) {
	body, err := m.Get(ctx, o)
	if err != nil {
		return nil, err
	}
	packs, err := layout.DecodeIndex(body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", o.Key, ErrUnread, err)
	}
	return packs, nil
}

// Get returns the content of an object that a root names, and keeps it. One that is
// damaged is read twice: what was flipped on its way is not flipped again.
func (m *Objects) Get(ctx context.Context, o layout.Object) ([]byte, error) {
	name := m.path(metaName(o.Key))
	if b, err := disk.ReadFile(m.FS, name, maxObject); err == nil && layout.SumOf(b) == o.Sum {
		return m.Unsealed(o.Key, b)
	}
	for range 2 {
		b, _, err := m.Bucket.Get(ctx, o.Key, maxObject)
		switch {
		case errors.Is(err, bucket.ErrNoBucket):
			return nil, err
		case errors.Is(err, bucket.ErrShort), errors.Is(err, bucket.ErrNotFound):
			return nil, fmt.Errorf("%s: %w: %w", o.Key, ErrUnread, err)
		case err != nil:
			return nil, err
		}
		if layout.SumOf(b) != o.Sum {
			continue
		}
		if err := disk.WriteFileAtomic(m.FS, name, b, 0o640); err != nil {
			return nil, err
		}
		return m.Unsealed(o.Key, b)
	}
	return nil, fmt.Errorf("%w: %s in %s is not what the root names", ErrUnread, o.Key, m.Bucket)
}

func metaName(key string) string { return strings.ReplaceAll(key, "/", "-") }

// Sweep removes objects that the head does not name.
func (m *Objects) Sweep(h *layout.Head) error {
	if m.Doubtful() { // older objects may say more
		return nil
	}
	want := []string{"head", layout.FormatCopyKey}
	for _, o := range slices.Concat(h.Index, h.Bundles) {
		want = append(want, metaName(o.Key))
	}
	files, err := m.FS.ReadDir(m.Dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if slices.Contains(want, f.Name()) {
			continue
		}
		if err := m.FS.Remove(m.path(f.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Put writes a small object, in the bucket and beside.
func (m *Objects) Put(ctx context.Context, key string, plain []byte) (layout.Object, error) {
	if err := m.copyFormat(ctx); err != nil {
		return layout.Object{}, err
	}
	b := m.Sealed(key, plain)
	o := layout.Object{Key: key, Size: int64(len(b)), Sum: layout.SumOf(b)}
	if _, err := m.Bucket.PutBytes(ctx, key, b, bucket.PutOption{New: m.Bucket.Can().CreateOnce, Keep: true}); err != nil {
		return o, err
	}
	return o, disk.WriteFileAtomic(m.FS, m.path(metaName(key)), b, 0o640)
}

// Files returns the files of bundles; later ones replace earlier ones.
func (m *Objects) Files(ctx context.Context, bundles []layout.Object) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, o := range bundles {
		b, err := m.Get(ctx, o)
		if err != nil {
			return nil, err
		}
		some, err := layout.DecodeBundle(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w: %w", o.Key, ErrUnread, err)
		}
		maps.Copy(files, some)
	}
	return files, nil
}

// Objects are merged when there are too many, those that are small first.
const (
	maxObjects = 16
	bigObject  = 32 << 20
)

// Mergeable returns how many of the newest objects to merge into one.
func Mergeable(objects []layout.Object) int {
	if len(objects) < maxObjects {
		return 0
	}
	sum, n := int64(0), 0
	for i := len(objects) - 1; i >= 0; i-- {
		o := objects[i]
		if o.Size >= bigObject || n >= maxObjects/2 && o.Size > 2*sum {
			break
		}
		sum, n = sum+o.Size, n+1
	}
	return n
}

// Remove removes a file, which may be gone already.
func Remove(fsys disk.FS, name string) error {
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
