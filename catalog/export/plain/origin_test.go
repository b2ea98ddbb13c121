package plain

import (
	"bytes"
	"io/fs"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
)

// An origin is a snapshot in memory.
type origin struct {
	t        *testing.T
	manifest *manifest.Manifest
	indexes  map[string]chunks.Index
	blobs    map[string]chunks.Blob
	store    *chunktest.Memory
	key      *chunks.Key
}

func newOrigin(t *testing.T, key *chunks.Key) *origin {
	s, err := naming.ParseSnapshot("host/web/2026-01-02T03:04:05Z")
	if err != nil {
		t.Fatal(err)
	}
	return &origin{t, manifest.New(s), map[string]chunks.Index{}, map[string]chunks.Blob{}, chunktest.NewMemory(), key}
}

func (o *origin) Manifest() *manifest.Manifest { return o.manifest }

func (o *origin) Chunks() chunks.BatchSource { return o.store }

func (o *origin) Index(name string) (chunks.Index, error) {
	if x, ok := o.indexes[name]; ok {
		return x, nil
	}
	return nil, fs.ErrNotExist
}

func (o *origin) Blob(name string) (chunks.Blob, error) {
	if b, ok := o.blobs[name]; ok {
		return b, nil
	}
	return nil, fs.ErrNotExist
}

func (o *origin) add(name string, size int64, csum chunks.Digest) {
	o.t.Helper()
	mode := manifest.None
	if o.key != nil {
		mode = manifest.Encrypt
	}
	if err := o.manifest.Add(manifest.File{Name: name, Size: uint64(size), Csum: csum, CryptMode: mode}); err != nil {
		o.t.Fatal(err)
	}
}

// dynamic adds an archive in chunks of about 16 KiB.
func (o *origin) dynamic(name string, content []byte) {
	o.t.Helper()
	cut, err := chunks.NewSplitter(bytes.NewReader(content), 16<<10)
	if err != nil {
		o.t.Fatal(err)
	}
	var b chunks.DynamicBuilder
	_, err = chunks.Ingest(o.t.Context(), o.store, cut, o.ingest(), func(s chunks.Stored) error {
		return b.Append(s.Offset+int64(s.Size), s.Digest)
	})
	if err != nil {
		o.t.Fatal(err)
	}
	x, err := b.Finish(chunks.UUID{1}, time.Unix(1, 0))
	if err != nil {
		o.t.Fatal(err)
	}
	o.indexes[name] = x
	o.add(name, x.Size(), x.Csum())
}

func (o *origin) ingest() chunks.IngestOptions {
	return chunks.IngestOptions{Encode: chunks.EncodeOptions{Compress: true, Key: o.key}}
}

// image adds a disk image in chunks of 64 KiB.
func (o *origin) image(name string, content []byte) {
	o.t.Helper()
	const size = 64 << 10
	cut, err := chunks.NewFixedSplitter(bytes.NewReader(content), int64(len(content)), size)
	if err != nil {
		o.t.Fatal(err)
	}
	b, err := chunks.NewFixedBuilder(int64(len(content)), size)
	if err != nil {
		o.t.Fatal(err)
	}
	_, err = chunks.Ingest(o.t.Context(), o.store, cut, o.ingest(), func(s chunks.Stored) error {
		return b.Put(s.Offset, int64(s.Size), s.Digest)
	})
	if err != nil {
		o.t.Fatal(err)
	}
	x, err := b.Finish(chunks.UUID{1}, time.Unix(1, 0))
	if err != nil {
		o.t.Fatal(err)
	}
	o.indexes[name] = x
	o.add(name, x.Size(), x.Csum())
}

func (o *origin) blob(name, content string) {
	o.t.Helper()
	b := chunktest.Encode([]byte(content), chunks.EncodeOptions{Compress: true, Key: o.key}).Blob
	o.blobs[name] = b
	if name != manifest.LogName {
		o.add(name, int64(len(b)), chunks.Sum(b))
	}
}

func (o *origin) sign() {
	if o.key == nil {
		return
	}
	if err := o.manifest.Sign(o.key); err != nil {
		o.t.Fatal(err)
	}
}

func (o *origin) open(opt archive.Options) *archive.Snapshot {
	opt.Key = o.key
	return archive.Open(o, opt)
}

// forget loses the chunk of a file's content that the byte at off lies in.
func (o *origin) forget(name string, off int64) {
	o.t.Helper()
	x := o.indexes[name]
	i, ok := x.Find(off)
	if !ok {
		o.t.Fatalf("%s has no byte %d", name, off)
	}
	o.store.Forget(x.Digest(i))
}
