package client

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"

	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/client/wire"
)

var _ archive.Origin = (*Snapshot)(nil)

// A Snapshot is open for reading, on a connection of its own, and for as long
// the server does not delete it. It is safe for concurrent use.
type Snapshot struct {
	c        *Client
	snapshot naming.Snapshot
	session  *wire.Session
	manifest *manifest.Manifest
	chunks   *source

	mu      sync.Mutex
	indexes map[string]chunks.Index
}

// OpenSnapshot connects to the server and opens a snapshot, which closes at
// the latest when ctx ends. It must be closed.
func (c *Client) OpenSnapshot(ctx context.Context, ns naming.Namespace, s naming.Snapshot) (*Snapshot, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	doing := fmt.Sprintf("open snapshot %s", s)
	q := of(ns, s)
	q.Set("store", c.cfg.Repository.Store)
	q.Set("debug", "true") // as PBS's client
	session, err := c.server.Upgrade(ctx, "reader", wire.ReaderProtocol, q)
	if err != nil {
		return nil, during(doing, err)
	}
	r := &Snapshot{c: c, snapshot: s, session: session, indexes: map[string]chunks.Index{}}
	r.chunks = newSource(r)
	if r.manifest, err = r.readManifest(); err != nil {
		r.Close()
		return nil, during(doing, err)
	}
	return r, nil
}

// readManifest downloads the manifest, and checks that it is the one of this
// snapshot: its signature would fit that of another as well.
func (r *Snapshot) readManifest() (*manifest.Manifest, error) {
	blob, err := r.download(manifest.Name, chunks.MaxBlob)
	if err != nil {
		return nil, err
	}
	m, err := manifest.ParseBlob(blob)
	if err == nil && m.Snapshot() != r.snapshot {
		err = fmt.Errorf("%w: it is of %s", manifest.ErrInvalid, m.Snapshot())
	}
	return m, during("read "+manifest.Name, err)
}

// Manifest returns the manifest.
func (r *Snapshot) Manifest() *manifest.Manifest { return r.manifest }

// Index downloads an index, once. From then on the server gives out its
// chunks.
func (r *Snapshot) Index(name string) (chunks.Index, error) {
	r.mu.Lock()
	x, ok := r.indexes[name]
	r.mu.Unlock()
	if ok {
		return x, nil
	}
	file, err := r.download(name, chunks.MaxIndex)
	if err != nil {
		return nil, err
	}
	if x, err = chunks.ParseIndex(file); err != nil {
		return nil, during("read "+name, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.indexes[name] = x
	return x, nil
}

// Blob downloads a small file. It is an fs.ErrNotExist if there is none of
// that name.
func (r *Snapshot) Blob(name string) (chunks.Blob, error) {
	return r.download(name, chunks.MaxBlob)
}

// File downloads a file as it lies there. From an index on, the server gives
// out its chunks.
func (r *Snapshot) File(name string) ([]byte, error) { return r.download(name, chunks.MaxIndex) }

func (r *Snapshot) download(name string, limit int64) ([]byte, error) {
	if err := naming.CheckArchive(name); err != nil {
		return nil, err
	}
	return r.session.Download(r.session.Context(), wire.Exchange{
		Doing: "download " + name, Method: "GET", Path: "/download", Query: url.Values{"file-name": {name}},
	}, limit)
}

// Chunks returns the chunks of the indexes that were downloaded.
func (r *Snapshot) Chunks() chunks.BatchSource { return r.chunks }

// String names the snapshot for messages.
func (r *Snapshot) String() string { return fmt.Sprintf("%s on %s", r.snapshot, r.c.server) }

// ErrClosed says that a snapshot was closed.
var ErrClosed = errors.New("snapshot is closed")

// Close ends the connection. What is being read fails with [ErrClosed].
func (r *Snapshot) Close() error {
	r.session.Close(ErrClosed)
	r.chunks.expected.close()
	return nil
}
