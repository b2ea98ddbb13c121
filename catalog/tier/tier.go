// Package tier is a datastore whose home is a bucket.
//
// Backups land on the local disk as in any datastore. [Tier.Offload] moves what
// is old enough into the bucket, and with it the files of every snapshot whose
// chunks have all arrived there: so whoever has nothing but the bucket sees only
// snapshots that can be restored. While the bucket cannot be reached, everything
// goes on that needs nothing from it.
//
//	tier.go    open, own, run         mirror.go   the files of snapshots, to the bucket
//	create.go  a new one, a known one refresh.go  and back
//	work.go    offload, collect, audit order.go   how chunks lie in the bucket
//	settle.go  what may leave the disk catchup.go  a disk that is older than the bucket
//
// Beside the files of a datastore, the directory has cloud/: tier.json (which
// store, and the key of it, wrapped to this node), mirror.json (what the bucket
// has been told of), and what package cloud keeps there.
package tier

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strings"
	"sync"
	"time"

	"filippo.io/age"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/tier/forgotten"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cache"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// Config says where a tier is. The zero value of an optional field means its
// default.
type Config struct {
	Dir    string              // required: of the datastore
	Bucket *bucket.Bucket      // required
	Node   string              // required: our name, for the owner's object
	Key    *age.X25519Identity // required but for reading what is not encrypted: the node's key
	FS     disk.FS             // default: the machine's
	Log    *slog.Logger        // default: discard

	CacheDir   string // default: cloud/cache in Dir
	CacheBytes int64  // default: no cache

	ReadOnly     bool            // never own the bucket
	SingleWriter bool            // own it though the store cannot keep two writers apart
	After        time.Duration   // how long chunks stay on the disk, when they are moved by schedule
	Lease, Grace time.Duration   // see [cloud.Config]
	Provider     prices.Provider // whose prices count; default: by the name of the endpoint

	Warden catalog.Warden // see [catalog.Config]; default: nobody

	Warn func(format string, args ...any) // is told what [Attach] finds wrong in the bucket; default: nobody but the log
}

// A state is what the directory remembers of its bucket.
type state struct {
	Store   format.ID           `json:"store"`
	Can     bucket.Capabilities `json:"can"`
	Wrapped []byte              `json:"key,omitempty"`     // the store's, for this node
	Own     bool                `json:"own"`               // the bucket was ours when it was last asked
	Ahead   bool                `json:"ahead,omitempty"`   // chunks of backups in the making have left the disk
	Leaving bool                `json:"leaving,omitempty"` // a move began: what stands in the bucket instead of our name is by us
	Moved   *moved              `json:"moved,omitempty"`
	Root    layout.Seq          `json:"root"` // of which the files here are; see catchup.go
}

const (
	tierDir   = "cloud"
	stateFile = "tier.json"
	maxState  = 1 << 20
)

// A Tier is an open datastore with its bucket. Its methods may be called
// concurrently.
type Tier struct {
	cfg   Config
	d     *catalog.Datastore
	store *cloud.Store
	cache *cache.Live

	taken chan struct{} // the bucket was taken over

	closing sync.Mutex             // one refresh
	work    sync.Mutex             // one of offload, collection, refresh, audit
	fresh   map[string]bool        // manifests that the bucket was told of since they were looked through; of who holds work
	unnamed map[chunks.Digest]bool // chunks that no manifest before these needs

	mu    sync.Mutex
	state state
	why   error // why we do not own the bucket; nil: we do, or did when it was last asked
	sure  bool  // it was asked since the start

	sought    search            // the last one that left chunks missing; of who holds work
	nowhere   int               // chunks that snapshots here need and nobody has; of mu
	caught    bool              // up, since the start: see catchup.go
	forgotten forgotten.Journal // of snapshots

	both    *pack.Set // on the disk and in the bucket, as the last offload left it; nil: not known
	between bool      // the store moves, or has moved, and this is its old bucket

	trouble  string // how the last work on the bucket failed; "": it did not
	troubled time.Time
}

func (c Config) withDefaults() (Config, error) {
	if c.FS == nil {
		c.FS = disk.OS{}
	}
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	c.Dir = path.Clean(c.Dir)
	c.CacheDir = cmp.Or(c.CacheDir, path.Join(c.Dir, tierDir, "cache"))
	if c.Dir == "." || c.Bucket == nil || c.Node == "" {
		return c, errors.New("cloud datastore: no directory, no bucket, or no name of the node")
	}
	if c.Provider.ID == "" {
		host, _, _, _, _ := c.Bucket.Place()
		c.Provider, _ = prices.Of(nil, host, c.Bucket.StorageClass())
	}
	return c, nil
}

// Open opens the datastore that [Create] or [Attach] made. A directory that was
// open before needs no answer of the bucket for it.
func Open(ctx context.Context, cfg Config) (*Tier, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	t := &Tier{cfg: cfg, taken: make(chan struct{}, 1), fresh: map[string]bool{}}
	t.forgotten.FS, t.forgotten.Path = cfg.FS, cfg.at("forgotten")
	if t.state, err = readState(cfg); err != nil {
		return nil, err
	}
	if err := t.arrive(); err != nil {
		return nil, err
	}
	t.why = t.unowned()
	if err := t.endRefresh(); err != nil {
		return nil, err
	}
	t.d, err = catalog.Open(ctx, catalog.Config{Dir: cfg.Dir, FS: cfg.FS, Log: cfg.Log, Above: t, Warden: cfg.Warden})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// unowned says why we do not own the bucket when the tier is opened.
func (t *Tier) unowned() error {
	switch {
	case t.cfg.ReadOnly || !t.state.Own:
		return cloud.ErrReadOnly
	case t.cfg.Key == nil:
		return cloud.ErrNoKey
	}
	return nil
}

// Over implements [catalog.Above].
func (t *Tier) Over(ctx context.Context, local *pack.Store) (catalog.Store, error) {
	t.cache = cache.NewLive(cache.Config{FS: t.cfg.FS, Dir: t.cfg.CacheDir, Log: t.cfg.Log})
	if err := t.cache.Resize(t.cfg.CacheBytes); err != nil {
		t.cfg.Log.Error("there is no cache", "err", err) // its disk may be dead; nothing is lost with it
	}
	var keys []age.Identity
	if t.cfg.Key != nil {
		keys = append(keys, t.cfg.Key)
	}
	store, err := cloud.Open(ctx, cloud.Config{
		Local: local, Bucket: t.cfg.Bucket.With(t.state.Can), FS: t.cfg.FS, Dir: path.Join(t.cfg.Dir, tierDir), Cache: t.cache,
		Node: t.cfg.Node, Keys: keys, Wrapped: t.state.Wrapped, Lease: t.cfg.Lease, Grace: t.cfg.Grace, Prices: t.cfg.Provider.Prices(), Stay: true, Log: t.cfg.Log,
	}, t.state.Store)
	if err != nil {
		return nil, errors.Join(err, t.cache.Close())
	}
	t.store = store
	return closing{store, t.cache.Close}, nil
}

// closing is a store that takes its cache with it.
type closing struct {
	*cloud.Store
	cache func() error
}

func (c closing) Close() error { return errors.Join(c.Store.Close(), c.cache()) }

// Writable implements [catalog.Above].
func (t *Tier) Writable() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.why
}

// Datastore returns the datastore. It is closed by Close.
func (t *Tier) Datastore() *catalog.Datastore { return t.d }

// Close closes the datastore. What waits for the bucket is found again.
func (t *Tier) Close() error { return t.d.Close() }

// Run keeps the bucket ours until ctx is done. While it cannot be reached, Run
// tries again; if somebody else has it, nothing may be written from then on.
func (t *Tier) Run(ctx context.Context) error {
	for wait := time.Second; ; wait = min(2*wait, 5*time.Minute) {
		err := t.Writable()
		if err == nil && t.work.TryLock() { // else who works sees to it
			err = t.own(ctx)
			t.work.Unlock()
		}
		if err == nil {
			wait = time.Second
			err = t.store.Run(ctx)
			t.disown(err)
		}
		if ctx.Err() != nil {
			return nil
		}
		if t.Writable() != nil {
			t.cfg.Log.Warn("the bucket is not ours: nothing is written to this datastore", "why", t.Writable())
			select {
			case <-ctx.Done():
				return nil
			case <-t.taken:
				continue
			}
		}
		t.ended(err)
		t.cfg.Log.Warn("the bucket is not kept", "err", err, "retry_in", wait)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// own makes sure that the bucket is ours, with a request only if it is not known
// since the start, and that what it names is known here. The caller holds work.
func (t *Tier) own(ctx context.Context) error {
	t.mu.Lock()
	why, sure, between, leaving := t.why, t.sure, t.between, t.state.Leaving
	t.mu.Unlock()
	switch {
	case why != nil:
		return why
	case between:
		return errBetween
	case sure:
		return t.catchUp(ctx)
	case leaving:
		if err := t.takeBack(ctx); err != nil {
			return err
		}
	}
	if err := t.acquire(ctx, cloud.AcquireOptions{SingleWriter: t.cfg.SingleWriter}); err != nil {
		return err
	}
	return t.catchUp(ctx)
}

// TakeOver makes the bucket ours though somebody else has it, or had it. Only
// an operator knows that the other one is gone for good. By force it also settles what
// was in doubt before: see [cloud.Store.GoOn].
func (t *Tier) TakeOver(ctx context.Context, force bool) error {
	if t.cfg.ReadOnly {
		return cloud.ErrReadOnly
	}
	t.work.Lock()
	defer t.work.Unlock()
	told := force && t.store.Stats().Doubt != "" // what is found only now, nobody has been told of
	if err := t.acquire(ctx, cloud.AcquireOptions{SingleWriter: t.cfg.SingleWriter, Force: force}); err != nil {
		return err
	}
	select {
	case t.taken <- struct{}{}:
	default:
	}
	_, err := t.refresh(ctx, true) // what the other one did since
	if err == nil && told {
		err = t.store.GoOn(ctx, false)
	}
	if err == nil { // chunks that snapshots here need and the other one deleted, before the cache forgets them
		if _, err := t.mirror(ctx); err != nil {
			t.cfg.Log.Warn("the bucket is ours, and what it does not have was not looked for yet: the next offload does", "err", err)
		}
	}
	return err
}

// Owner returns who owns the bucket, as the bucket says now.
func (t *Tier) Owner(ctx context.Context) (cloud.Owner, error) { return t.store.Owner(ctx) }

func (t *Tier) acquire(ctx context.Context, opt cloud.AcquireOptions) error {
	err := t.store.Acquire(ctx, opt)
	if err != nil {
		err = t.left(ctx, err)
		t.disown(err)
		return err
	}
	t.mu.Lock()
	t.why, t.sure, t.trouble = nil, true, ""
	before := t.state.Own && !t.state.Leaving
	if t.state.Leaving { // the move has come to nothing
		t.state.Moved = nil
	}
	t.state.Own, t.state.Leaving, t.between = true, false, false
	t.mu.Unlock()
	if before {
		return nil
	}
	return t.saveState()
}

// disown notes that the bucket is somebody else's, if that is what err says.
func (t *Tier) disown(err error) {
	if !errors.Is(err, cloud.ErrFenced) && !errors.Is(err, cloud.ErrOwned) {
		return
	}
	t.mu.Lock()
	if t.between || t.state.Leaving && errors.Is(err, cloud.ErrFenced) { // by ourselves: see MoveTo
		t.sure = false
		t.mu.Unlock()
		return
	}
	t.why, t.sure, t.state.Own = err, false, false
	t.mu.Unlock()
	if err := t.saveState(); err != nil {
		t.cfg.Log.Error("that the bucket is another node's could not be noted", "err", err)
	}
}

func (c Config) at(file string) string { return path.Join(c.Dir, tierDir, file) }

func readState(c Config) (s state, err error) {
	b, err := disk.ReadFile(c.FS, c.at(stateFile), maxState)
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		return s, fmt.Errorf("open cloud datastore %s: %w", c.Dir, err)
	}
	return s, nil
}

func (t *Tier) saveState() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cfg.writeState(t.state)
}

func (c Config) writeState(s state) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return disk.WriteFileAtomic(c.FS, c.at(stateFile), b, 0o600)
}

// Stats describes the tier.
type Stats struct {
	cloud.Stats
	Bucket   string `json:"bucket"`
	Store    string `json:"store"`
	ReadOnly string `json:"read-only,omitempty"`    // why nothing can be written
	Monthly  *Bill  `json:"monthly-cost,omitempty"` // of the bytes; nil: the prices are not known

	Queued   int64     `json:"queued-bytes"`             // on this disk, and not in the bucket, at most
	Oldest   time.Time `json:"queued-since,omitzero"`    // when an offload first saw what waits for longest
	Nowhere  int       `json:"nowhere,omitempty"`        // chunks of snapshots here that are neither on this disk nor in the bucket
	Trouble  string    `json:"last-error,omitempty"`     // of work on the bucket; none since it went well again
	Troubled time.Time `json:"last-error-time,omitzero"` // when that was
}

// Stats returns what is known without asking the bucket.
func (t *Tier) Stats() Stats {
	s := Stats{Stats: t.store.Stats(), Bucket: t.cfg.Bucket.String(), Store: t.store.ID(), Monthly: t.Monthly()}
	if err := t.Writable(); err != nil {
		s.ReadOnly = err.Error()
	}
	s.Queued, s.Oldest = t.queued()
	t.mu.Lock()
	s.Trouble, s.Troubled, s.Nowhere = t.trouble, t.troubled, t.nowhere
	t.mu.Unlock()
	if s.Behind != "" && s.Trouble == "" {
		s.Trouble, s.Troubled = cloud.ErrBehind.Error(), time.Now().UTC().Truncate(time.Second)
	}
	if s.Nowhere > 0 {
		s.Trouble, s.Troubled = strings.TrimPrefix(s.Trouble+"; "+Nowhere(s.Nowhere), "; "), time.Now().UTC().Truncate(time.Second)
	}
	if s.Doubt != "" {
		s.Trouble, s.Troubled = strings.TrimPrefix(s.Trouble+"; "+s.Doubt, "; "), time.Now().UTC().Truncate(time.Second)
	}
	return s
}

// Nowhere says of so many chunks what that means.
func Nowhere(chunks int) string {
	return fmt.Sprintf("%d chunks of snapshots that wait for the bucket are nowhere: these will not restore in full; `holdfast datastore verify NAME` tells which, `holdfast datastore heal NAME` looks at other sites", chunks)
}

// queued is what is only on this disk, but for packs in which nothing lives that the
// bucket has not.
func (t *Tier) queued() (bytes int64, since time.Time) {
	local := t.store.Local()
	sent := local.Condemned().Clone()
	t.mu.Lock()
	if t.both != nil {
		sent.Or(t.both)
	}
	t.mu.Unlock()
	for _, p := range local.Packs() {
		if sent.CountRow(p.Number) >= int(p.Entries) {
			continue
		}
		bytes += p.Bytes
		if at := t.store.Seen(p.Number); !at.IsZero() && (since.IsZero() || at.Before(since)) {
			since = at
		}
	}
	return bytes, since
}

// GivenUp returns how many chunks of a pack on the disk were given up already: most
// of them are in the bucket by now. The packs have the numbers of a [gc.Plan].
func (t *Tier) GivenUp() map[uint32]uint32 {
	given := map[uint32]uint32{}
	condemned := t.store.Condemned()
	for n := range condemned.Rows() {
		if n%2 == 0 { // the others are in the bucket
			given[n] = uint32(condemned.CountRow(n))
		}
	}
	return given
}

// ended notes how work on the bucket ended, for people who ask.
func (t *Tier) ended(err error) {
	t.disown(err)
	if errors.Is(err, context.Canceled) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.trouble, t.troubled = "", (time.Time{}); err != nil {
		t.trouble, t.troubled = err.Error(), time.Now().UTC().Truncate(time.Second)
	}
}

// Resize changes the bound of the cache, while it is used; with 0 there is none.
func (t *Tier) Resize(bytes int64) error { return t.cache.Resize(bytes) }
