// Package cloud is a store of chunks whose home is a bucket.
//
// What is new lies in a store of packs on the local disk, as in any datastore.
// [Store.Offload] moves what is old enough into the bucket: whole packs, one
// request each, then one index object and one signed root that names it all.
// Only when the bucket has confirmed the root is anything taken off the disk.
// No request is made for a chunk alone: reads take stretches of packs, garbage
// collection marks from the local index, and the whole store can be rebuilt
// from the bucket with tens of requests.
//
// To package gc a Store looks like a store of packs: those on the disk have
// even numbers, those in the bucket odd ones.
//
//	store.go    the store and its parts         offload.go  disk to bucket
//	attach.go   a new bucket, a known one       stage.go    the queue of uploads
//	table.go    the packs in the bucket         commit.go   index, root, eviction
//	read.go     getting chunks back             owner.go    who may write
//	collect.go  what package gc asks for        sweep.go    deleting, audit
//	lost.go     packs that are gone
//
// Below it: bucket (requests), layout (formats), seal (keys), identity (new
// stores), meta (small objects), queue (uploads), ahead, cache, prices.
package cloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"sync"
	"time"

	"filippo.io/age"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/ahead"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cache"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/files"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/identity"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/meta"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/queue"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/stats"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// Config says how a [Store] works. The zero value of an optional field means
// the default written beside it.
type Config struct {
	Local  *pack.Store    // required: what is new, and what is being uploaded
	Bucket *bucket.Bucket // required
	FS     disk.FS        // default: the machine's
	Dir    string         // required: a directory of the store's own, made if absent
	Cache  *cache.Live    // default: none

	Node    string         // required: our name, for the owner's object
	Keys    []age.Identity // open the store's key; needed to write, and to read what is encrypted
	Wrapped []byte         // the store's key for one of Keys; default: as the bucket has it
	Lease   time.Duration  // how long the bucket is ours without renewal; default 6 hours
	Grace   time.Duration  // how long what nothing needs stays in the bucket; default 7 days

	PackBytes int64       // length of packs in the bucket; default what the store was created with
	Parallel  int         // packs uploaded at the same time, 1 to 16; default 4
	Gap       int64       // bytes read in vain rather than with another request; default 512 KiB
	Prices    prices.List // what the provider charges; default: storage only
	Stay      bool        // chunks leave the disk by [Store.Settle] only; default: with the root that names their packs
	Log       *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if c.FS == nil {
		c.FS = disk.OS{}
	}
	c.Lease = cmp.Or(c.Lease, 6*time.Hour)
	c.Grace = cmp.Or(c.Grace, 7*24*time.Hour)
	c.Parallel = cmp.Or(c.Parallel, 4)
	c.Gap = cmp.Or(c.Gap, 512<<10)
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	switch {
	case c.Local == nil || c.Bucket == nil:
		return c, errors.New("cloud store: no local store or no bucket")
	case c.Dir == "" || c.Node == "":
		return c, errors.New("cloud store: no directory or no name of the node")
	case c.Parallel < 1 || c.Parallel > 16:
		return c, fmt.Errorf("cloud store: %d uploads at the same time, want 1 to 16", c.Parallel)
	case c.Lease < time.Minute:
		return c, fmt.Errorf("cloud store: a lease of %s, want at least a minute", c.Lease)
	}
	return c, nil
}

// The ways in which a cloud store fails that somebody can do something about.
var (
	ErrNoStore        = identity.ErrNoStore
	ErrTaken          = identity.ErrTaken
	ErrOwned    error = &identity.Problem{Text: "the bucket belongs to another node", Cure: "read it: --reuse --read-only, or --repository s3://BUCKET/PREFIX; to own it, stop that node and wait until its lease ends; if it is gone for good: datastore create --reuse --take-over, or holdfast datastore take-over NAME --force"}
	ErrFenced   error = &identity.Problem{Text: "another node has taken the bucket over", Cure: "what was not confirmed is still on this disk; attach read-only, or take the bucket back"}
	ErrNoOwner  error = &identity.Problem{Text: "the bucket says nothing of an owner any more: that object was removed, or the bucket is another one", Cure: "look whether it is the right bucket, and whole; then: holdfast datastore take-over NAME"}
	ErrUnfenced error = &identity.Problem{Text: "the store cannot keep two writers apart", Cure: "the provider ignores or lacks conditional writes; let only one node ever use this bucket, and say so with single-writer"}
	ErrBehind   error = &identity.Problem{Text: "the newest root in the bucket is damaged, and what is seen is the state before it", Cure: "the node that wrote it mends it: holdfast datastore audit NAME, there; reading goes on meanwhile. If that node is gone for good: holdfast datastore take-over NAME --force, which goes on from the state before"}
	ErrReadOnly error = &identity.Problem{Text: "the store is attached read-only", Cure: "attach it as its owner to write"}
	ErrNoKey    error = &identity.Problem{Text: "the store's key is not open", Cure: "give the node's key or the recovery key (AGE-SECRET-KEY-1...)"}
)

// A Store is a store in a bucket. Its methods may be called concurrently.
type Store struct {
	cfg    Config
	b      *bucket.Bucket // the part of the bucket that is this store's
	format layout.Format
	key    *seal.Key // nil: not opened
	open   *layout.Opener
	local  *pack.Store
	cache  *cache.Live
	ahead  *ahead.Buffer
	room   ahead.Room
	meta   *meta.Objects
	queue  *queue.Queue
	files  files.Pending

	table   table
	journal *disk.Journal
	lock    interface{ Close() error }

	work     sync.Mutex         // one offload, sweep or audit at a time
	missing  sync.Mutex         // one pack at a time is asked for because it was missed
	adopted  map[format.ID]bool // packs of chunks that are not on the disk; of who holds work
	mu       sync.Mutex         // what follows
	head     layout.Head
	owner    layout.Owner // zero: we do not own the bucket
	etag     string       // of the owner's object
	fenced   bool
	seen     map[uint32]time.Time // when local packs were first seen
	doomed   []grave              // packs that the next root buries
	onlyRead bool
	dirty    bool // packs were deleted since the last root
	stale    bool // the bucket was not asked yet what there is
}

// String names the store for messages.
func (s *Store) String() string { return "cloud store in " + s.cfg.Bucket.String() }

// ID returns the store's ID, by which its part of the bucket is named.
func (s *Store) ID() string { return s.format.Store.String() }

// Encrypted reports whether packs are sealed in the bucket.
func (s *Store) Encrypted() bool { return s.format.KeyID != "" }

// Local returns the store on the disk.
func (s *Store) Local() *pack.Store { return s.local }

// Close closes the store's files, not the local store. What waits for the
// bucket is found again by the next Open.
func (s *Store) Close() error {
	return errors.Join(s.journal.Close(), s.table.close(), s.lock.Close())
}

func (s *Store) path(parts ...string) string {
	return path.Join(append([]string{s.cfg.Dir}, parts...)...)
}

// Put stores b on the local disk unless d is held, here or in the bucket. See
// [chunks.Writer].
func (s *Store) Put(ctx context.Context, d chunks.Digest, b chunks.Blob) (known bool, err error) {
	_, known, err = s.Append(ctx, d, b, nil)
	return known, err
}

// Commit returns when every chunk put before is durable on the local disk. It
// does not wait for the bucket.
func (s *Store) Commit(ctx context.Context) error { return s.local.Commit(ctx) }

// Known reports whether d is held.
func (s *Store) Known(d chunks.Digest) bool {
	_, ok := s.Lookup(d)
	return ok
}

// Missing returns those of want that are not held, in the order of want.
func (s *Store) Missing(ctx context.Context, want []chunks.Digest) ([]chunks.Digest, error) {
	return chunks.Unknown(ctx, want, s.Known)
}

// Stats describes a store for people and metrics.
type Stats = stats.Stats

// Stats returns what is known without asking the bucket.
func (s *Store) Stats() Stats {
	st := s.table.stats()
	s.mu.Lock()
	st.Buried, st.Condemned = len(s.head.Resting())+len(s.doomed), layout.Lying(s.head.Dead)+layout.Lying(s.doomed)
	st.Owner, st.Epoch, st.Root, st.Held = s.owner.Node, s.owner.Epoch, s.head.Seq.String(), s.head.HeldUntil()
	s.mu.Unlock()
	if st.Doubt = s.meta.Doubt().String(); s.meta.Behind().N > 0 {
		st.Behind = s.meta.Behind().String()
	}
	queue, _ := s.queue.Waiting()
	st.Waiting = len(queue)
	st.Requests = s.b.Account().Stats()
	st.Cache = s.cache.Stats()
	return st
}
