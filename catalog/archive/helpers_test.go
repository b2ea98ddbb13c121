package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
)

var testSnapshot = naming.Snapshot{Group: naming.Group{Type: naming.Host, ID: "elsa"}, Time: 1700000000}

// A vault is a snapshot in memory: the target of a backup, and the origin of a
// restore. It is strict about what the contracts say.
type vault struct {
	mem    *chunktest.Memory
	chunks chunks.Writer // mem, or something in front of it
	known  bool          // sinks answer Known

	mu      sync.Mutex
	indexes map[string]chunks.Index
	blobs   map[string]chunks.Blob
	opened  []string
	man     *manifest.Manifest
}

func newVault() *vault {
	mem := chunktest.NewMemory()
	return &vault{mem: mem, chunks: mem, indexes: map[string]chunks.Index{}, blobs: map[string]chunks.Blob{}}
}

func (v *vault) Open(ctx context.Context, archive string, size int64) (Sink, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := naming.CheckArchive(archive); err != nil {
		return nil, err
	}
	v.opened = append(v.opened, archive)
	s := &vaultSink{Writer: v.chunks, v: v, archive: archive, size: size, appended: map[int64]chunks.Stored{}}
	if v.known {
		return knowingSink{s}, nil
	}
	return s, nil
}

func (v *vault) PutBlob(ctx context.Context, archive string, b chunks.Blob) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := errors.Join(ctx.Err(), naming.CheckArchive(archive), b.Check()); err != nil {
		return err
	}
	v.opened = append(v.opened, archive)
	v.blobs[archive] = bytes.Clone(b)
	return nil
}

// A vaultSink checks that what is appended was put, and that the index names
// what was appended.
type vaultSink struct {
	chunks.Writer
	v       *vault
	archive string
	size    int64

	mu       sync.Mutex
	end      int64
	appended map[int64]chunks.Stored
}

func (s *vaultSink) Append(ctx context.Context, c chunks.Stored) error {
	if !s.mu.TryLock() {
		return errors.New("two calls of Append at the same time")
	}
	defer s.mu.Unlock()
	if missing, err := s.v.mem.Missing(ctx, []chunks.Digest{c.Digest}); err != nil || len(missing) > 0 {
		return errors.Join(err, fmt.Errorf("chunk %s was not put", c.Digest.Short()))
	}
	if s.size < 0 && c.Offset != s.end {
		return fmt.Errorf("append at %d, the last one ended at %d", c.Offset, s.end)
	}
	s.end = c.Offset + int64(c.Size)
	s.appended[c.Offset] = c
	return nil
}

func (s *vaultSink) Close(ctx context.Context, x chunks.Index) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x.Len() != len(s.appended) || s.size >= 0 && x.Size() != s.size {
		return fmt.Errorf("the index has %d chunks and %d bytes, appended were %d, the size is %d", x.Len(), x.Size(), len(s.appended), s.size)
	}
	for i, d := range x.All() {
		start, end := x.Range(i)
		if c := s.appended[start]; c.Digest != d || int64(c.Size) != end-start {
			return fmt.Errorf("chunk %d of the index was not appended", i)
		}
	}
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	s.v.indexes[s.archive] = x
	return nil
}

type knowingSink struct{ *vaultSink }

func (s knowingSink) Known(d chunks.Digest) bool {
	missing, err := s.v.mem.Missing(context.Background(), []chunks.Digest{d})
	return err == nil && len(missing) == 0
}

func (v *vault) Manifest() *manifest.Manifest { return v.man }

func (v *vault) Index(name string) (chunks.Index, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if x, ok := v.indexes[name]; ok {
		return x, nil
	}
	return nil, fmt.Errorf("index %s: %w", name, fs.ErrNotExist)
}

func (v *vault) Blob(name string) (chunks.Blob, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if b, ok := v.blobs[name]; ok {
		return b, nil
	}
	return nil, fmt.Errorf("blob %s: %w", name, fs.ErrNotExist)
}

func (v *vault) Chunks() chunks.BatchSource { return v.chunks.(chunks.BatchSource) }

// backup backs sources up into v and completes the snapshot.
func (v *vault) backup(t testing.TB, cfg Config) Summary {
	t.Helper()
	cfg.Target, cfg.Snapshot = v, testSnapshot
	m, sum, err := Backup(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	v.finish(t, m)
	return sum
}

// finish takes the manifest through its stored form.
func (v *vault) finish(t testing.TB, m *manifest.Manifest) {
	t.Helper()
	b, err := m.Blob()
	if err != nil {
		t.Fatal(err)
	}
	if v.man, err = manifest.ParseBlob(b); err != nil {
		t.Fatal(err)
	}
}

// faults puts faults in front of the chunks.
func (v *vault) faults(seed uint64, faults ...chunktest.Fault) *chunktest.Faulty {
	f := chunktest.NewFaulty(v.mem, seed, faults...)
	v.chunks = f
	return f
}

// putDynamic stores content as an archive with chunks of about avg bytes.
func putDynamic(t testing.TB, w chunks.Writer, content []byte, avg int, opt chunks.EncodeOptions) *chunks.Dynamic {
	t.Helper()
	split, err := chunks.NewSplitter(bytes.NewReader(content), avg)
	if err != nil {
		t.Fatal(err)
	}
	var index chunks.DynamicBuilder
	if _, err := chunks.Ingest(t.Context(), w, split, chunks.IngestOptions{Encode: opt}, func(s chunks.Stored) error {
		return index.Append(s.Offset+int64(s.Size), s.Digest)
	}); err != nil {
		t.Fatal(err)
	}
	x, err := index.Finish(chunks.NewUUID(), time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// wantError fails unless err is target, or nil if that is nil.
func wantError(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) || target == nil && err != nil {
		t.Fatalf("the error is %v, want %v", err, target)
	}
}

// hint returns the hint of err, "" if it has none.
func hint(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}
