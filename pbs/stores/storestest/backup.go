package storestest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
)

// A Backup is a snapshot to be made.
type Backup struct {
	Namespace catalog.Namespace
	Snapshot  string // "vm/100/2023-11-14T22:13:20Z"
	Owner     string
	Files     []File
	Key       *chunks.Key // encrypts all, and signs
}

// A File is one of its files. The name says what kind.
type File struct {
	Name    string
	Content []byte
}

// Back makes a backup in the datastore called store.
func (w *World) Back(t testing.TB, store string, b Backup) {
	t.Helper()
	d, err := w.Get(store)
	if err == nil {
		err = Make(context.Background(), d, b)
	}
	if err != nil {
		t.Fatalf("back up %s: %v", b.Snapshot, err)
	}
}

// Make makes a backup in a datastore.
func Make(ctx context.Context, d *catalog.Datastore, b Backup) error {
	s, err := naming.ParseSnapshot(b.Snapshot)
	if err != nil {
		return err
	}
	w, err := d.Insert(ctx, b.Namespace, s, b.Owner)
	if err != nil {
		return err
	}
	m := manifest.New(s)
	for _, f := range b.Files {
		file, err := put(ctx, w, f, b.Key)
		if err != nil {
			return errors.Join(err, w.Abort())
		}
		if err := m.Add(file); err != nil {
			return errors.Join(err, w.Abort())
		}
	}
	if b.Key != nil {
		err = m.Sign(b.Key)
	}
	if err == nil {
		err = w.Finish(ctx, m)
	}
	if err != nil {
		return errors.Join(err, w.Abort())
	}
	return nil
}

func put(ctx context.Context, w *catalog.Writer, f File, key *chunks.Key) (manifest.File, error) {
	file := manifest.File{Name: f.Name, CryptMode: manifest.None}
	if key != nil {
		file.CryptMode = manifest.Encrypt
	}
	if strings.HasSuffix(f.Name, ".blob") {
		b, err := chunks.Encode(nil, f.Content, chunks.EncodeOptions{Key: key})
		if err != nil {
			return file, err
		}
		file.Size, file.Csum = uint64(len(b)), sha256.Sum256(b)
		return file, w.PutBlob(f.Name, b)
	}
	x, err := index(ctx, w, f, key)
	if err != nil {
		return file, fmt.Errorf("%s: %w", f.Name, err)
	}
	file.Size, file.Csum = uint64(x.Size()), x.Csum()
	return file, w.PutIndex(f.Name, x)
}

// index stores the content in chunks of the usual length of images.
func index(ctx context.Context, w *catalog.Writer, f File, key *chunks.Key) (chunks.Index, error) {
	const size = 4 << 20
	cutter, err := chunks.NewFixedSplitter(bytes.NewReader(f.Content), int64(len(f.Content)), size)
	if err != nil {
		return nil, err
	}
	fixed, err := chunks.NewFixedBuilder(int64(len(f.Content)), size)
	if err != nil {
		return nil, err
	}
	var dynamic chunks.DynamicBuilder
	opt := chunks.IngestOptions{Encode: chunks.EncodeOptions{Compress: true, Key: key}}
	_, err = chunks.Ingest(ctx, w.Session(), cutter, opt, func(s chunks.Stored) error {
		return errors.Join(fixed.Put(s.Offset, int64(s.Size), s.Digest), dynamic.Append(s.Offset+int64(s.Size), s.Digest))
	})
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(f.Name, ".fidx") {
		return fixed.Finish(chunks.NewUUID(), time.Unix(1, 0))
	}
	return dynamic.Finish(chunks.NewUUID(), time.Unix(1, 0))
}
