package catalog

import (
	"context"
	"sync"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// A Reader is a finished snapshot that nobody removes while it is read.
type Reader struct {
	d        *Datastore
	ns       Namespace
	snap     Snapshot
	manifest *Manifest
	free     func()
}

// OpenSnapshot opens a finished snapshot for reading. It fails with
// fs.ErrNotExist if there is none, and with ErrBusy if it is being removed.
func (d *Datastore) OpenSnapshot(ctx context.Context, ns Namespace, s Snapshot) (*Reader, error) {
	if err := d.may(reading, "read "+name(ns, s)); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	free, err := d.locks.shared(name(ns, s))
	if err != nil {
		return nil, err
	}
	m, err := d.Manifest(ns, s)
	if err != nil {
		free()
		return nil, err
	}
	return &Reader{d, ns, s, m, sync.OnceFunc(count(&d.active.readers, free))}, nil
}

// Close lets go of the snapshot.
func (r *Reader) Close() { r.free() }

// Manifest returns the manifest as it was when the snapshot was opened.
func (r *Reader) Manifest() *Manifest { return r.manifest }

// Index reads an index of the snapshot.
func (r *Reader) Index(archive string) (chunks.Index, error) {
	return r.d.ReadIndex(r.ns, r.snap, archive)
}

// Blob reads a small file of the snapshot.
func (r *Reader) Blob(archive string) (chunks.Blob, error) {
	return r.d.ReadBlob(r.ns, r.snap, archive)
}

// Chunks returns where the chunks are.
func (r *Reader) Chunks() chunks.BatchSource { return r.d.chunks }
