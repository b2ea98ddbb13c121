package client

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"sync"

	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/client/wire"
)

// ErrEnded says that a backup was finished or aborted before.
var ErrEnded = errors.New("backup has ended")

var _ archive.Target = (*Backup)(nil)

// A Backup is a snapshot in the making, on a connection of its own. The server
// throws it away unless it is finished. It is safe for concurrent use, and
// begins with [Client.Begin].
type Backup struct {
	c        *Client
	snapshot naming.Snapshot
	key      *chunks.Key
	copy     bool               // of a snapshot that was made elsewhere
	previous *manifest.Manifest // what the last backup consists of; may be nil
	session  *wire.Session
	near     nearness
	work     sync.WaitGroup // uploads and appends

	mu    sync.Mutex
	held  map[chunks.Digest]*parcel // chunks that the server has, or will have; nil: it has it
	last  map[string]chunks.Index   // indexes of the last backup, for a copy that is encrypted
	open  int                       // sinks
	ended bool
}

// Begin connects to the server and begins a backup, which ends at the latest
// when ctx does. The key is the one that the backup will be made with, nil if
// there is none: with it, and only with it, the last backup can be trusted to
// say what the server has already.
//
// Abort must be called in the end; after Finish it does nothing.
func (c *Client) Begin(ctx context.Context, ns naming.Namespace, s naming.Snapshot, key *chunks.Key) (*Backup, error) {
	return c.begin(ctx, ns, s, key, false)
}

// BeginCopy is Begin for a snapshot that exists elsewhere and whose chunks are
// sent as they are stored there. No key is needed to know which of them the server
// has from the last backup: the names of chunks say it, which are the same.
//
// One that is encrypted on the way has a key, and [Backup.Last].
func (c *Client) BeginCopy(ctx context.Context, ns naming.Namespace, s naming.Snapshot, key *chunks.Key) (*Backup, error) {
	return c.begin(ctx, ns, s, key, true)
}

func (c *Client) begin(ctx context.Context, ns naming.Namespace, s naming.Snapshot, key *chunks.Key, copies bool) (*Backup, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	doing := fmt.Sprintf("begin backup %s", s)
	b, err := c.connect(ctx, ns, s, false)
	if err != nil {
		return nil, during(doing, err)
	}
	b.key, b.copy = key, copies
	if b.previous, err = b.lastManifest(); err != nil {
		b.Abort()
		return nil, during(doing, err)
	}
	return b, nil
}

// connect opens the connection of a backup, or of a benchmark.
func (c *Client) connect(ctx context.Context, ns naming.Namespace, s naming.Snapshot, benchmark bool) (*Backup, error) {
	q := of(ns, s)
	q.Set("store", c.cfg.Repository.Store)
	q.Set("benchmark", strconv.FormatBool(benchmark))
	q.Set("debug", strconv.FormatBool(!benchmark)) // as PBS's client; the server logs more
	session, err := c.server.Upgrade(ctx, "backup", wire.BackupProtocol, q)
	if err != nil {
		return nil, err
	}
	return &Backup{c: c, snapshot: s, session: session, near: c.near(session), held: map[chunks.Digest]*parcel{}, last: map[string]chunks.Index{}}, nil
}

// Snapshot returns what is being made.
func (b *Backup) Snapshot() naming.Snapshot { return b.snapshot }

// Previous returns the manifest of the last backup of the group, nil if there
// is none that is of use.
func (b *Backup) Previous() *manifest.Manifest { return b.previous }

// Last returns the index of an archive that was opened, as it is in the last backup,
// nil if that cannot be trusted: of a copy with a key, one that this key has signed.
func (b *Backup) Last(archive string) chunks.Index {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last[archive]
}

// String names the backup for messages.
func (b *Backup) String() string { return fmt.Sprintf("backup %s on %s", b.snapshot, b.c.server) }

// PutBlob adds a small file, whose name ends in .blob.
func (b *Backup) PutBlob(ctx context.Context, name string, blob chunks.Blob) error {
	if err := b.session.Alive(ctx); err != nil {
		return err
	}
	_, err := wire.Do[any](ctx, b.session, wire.Exchange{
		Doing: "upload " + name, Method: "POST", Path: "/blob",
		Query: url.Values{"file-name": {name}, "encoded-size": {strconv.Itoa(len(blob))}},
		Body:  blob, Kind: wire.Raw,
	})
	return err
}

// Finish uploads the manifest and ends the backup, which the server then keeps.
// All sinks must have been closed.
func (b *Backup) Finish(ctx context.Context, m *manifest.Manifest) error {
	doing := fmt.Sprintf("finish backup %s", b.snapshot)
	b.mu.Lock()
	open := b.open
	b.mu.Unlock()
	switch {
	case open > 0:
		return fmt.Errorf("%s: %d of its archives are not closed", doing, open)
	case m.Snapshot() != b.snapshot:
		return fmt.Errorf("%s: the manifest is that of %s", doing, m.Snapshot())
	}
	blob, err := m.Blob()
	if err != nil {
		return during(doing, err)
	}
	if err := b.PutBlob(ctx, manifest.Name, blob); err != nil {
		return during(doing, err)
	}
	// How long this takes is up to the server's disk. Whether the server is
	// still there is what the session's pings find out.
	if _, err := wire.Do[any](ctx, b.session, wire.Exchange{Doing: "POST /finish", Method: "POST", Path: "/finish"}); err != nil {
		return during(doing, err)
	}
	b.session.Close(ErrEnded)
	b.wait()
	return nil
}

// Abort gives the backup up, if it is not finished. It returns when nothing of
// it runs any more.
func (b *Backup) Abort() {
	b.session.Fail(ErrEnded)
	b.wait()
}

// begin runs f beside the rest, unless the backup has ended.
func (b *Backup) begin(f func()) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended || b.session.Context().Err() != nil {
		return context.Cause(b.session.Context())
	}
	b.work.Go(f)
	return nil
}

// wait returns when all that was begun is done. The session has ended.
func (b *Backup) wait() {
	b.mu.Lock()
	b.ended = true // nothing may begin while we wait
	b.mu.Unlock()
	b.work.Wait()
}
