// Package pack keeps chunks in pack files in a directory: the datastore's own
// disk.
//
// A pack is an append-only file of about 64 MiB: header, entries, and once it
// is sealed a footer that lists them. Each entry says what it is and where it
// must lie, so the index is derived data: it is rebuilt from footers, and a
// footer from entries. docs/pack-format.md has the layout to the byte.
//
// What is durable when: a chunk after [Store.Commit] has returned, and with it
// everything put before. A crash at any instruction loses nothing committed
// and needs no hand; what was not committed is there whole or not at all.
//
// This package stores; it never decides what may be forgotten. That is the
// duty of package gc, through [Store.Condemn] and [Store.Reclaim].
package pack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
	"github.com/holdfast-mesh/holdfast/chunks/pack/index"
	"github.com/holdfast-mesh/holdfast/chunks/pack/state"
	"github.com/holdfast-mesh/holdfast/chunks/pack/writer"
)

const (
	maxLanes   = 16
	maxHandles = 256 // pack files open for reading
)

var errClosed = errors.New("store is closed")

// Config says how a [Store] works. The zero value of an optional field means
// its default.
type Config struct {
	FS      disk.FS      // default: the machine's
	Dir     string       // required: what [Init] made
	Lanes   int          // packs written at the same time, 1 to 16; default 2
	Readers int          // files read at the same time by scrubs and batches; default: twice the processors, at least 4
	Direct  disk.When    // whether packs are written and scrubbed with O_DIRECT; default: where a probe says that it pays
	Reserve int64        // bytes of the disk never filled with chunks; default 1 % of it, 16 MiB to 1 GiB
	Log     *slog.Logger // default: discard

	// AcceptLoss opens a copy of a store that lacks packs which the original
	// had; what they held is missing from then on.
	AcceptLoss bool
}

func (c Config) withDefaults() (Config, error) {
	if c.FS == nil {
		c.FS = disk.OS{}
	}
	c.Lanes = cmp.Or(c.Lanes, 2)
	c.Readers = cmp.Or(c.Readers, max(4, 2*runtime.NumCPU()))
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	switch {
	case c.Dir == "":
		return c, errors.New("pack: no directory")
	case c.Lanes < 1 || c.Lanes > maxLanes:
		return c, fmt.Errorf("pack: lanes is %d, want 1 to %d", c.Lanes, maxLanes)
	case c.Readers < 1 || c.Readers > 64:
		return c, fmt.Errorf("pack: readers is %d, want 1 to 64", c.Readers)
	case c.Reserve < 0:
		return c, fmt.Errorf("pack: reserve is %d bytes, want 0 or more", c.Reserve)
	}
	return c, nil
}

// A Store is an open store. Its methods may be called concurrently.
type Store struct {
	cfg   Config
	fs    disk.FS
	dir   string
	id    identity.Identity
	log   *slog.Logger
	lock  io.Closer
	idx   *index.Index
	packs *state.State
	ident string // tells this directory from a copy of it
	probe *disk.Prober

	generation atomic.Uint64
	failures   atomic.Uint64
	reported   atomic.Uint64         // failures that a Commit of this store has told
	why        atomic.Pointer[error] // the last failure
	closed     atomic.Bool

	lanes   []lane
	env     writer.Env
	claims  *writer.Claims
	room    *writer.Room
	handles *disk.Handles

	openMu sync.RWMutex

	open     map[*state.Pack]*writer.Writer // every writer that is not closed
	resume   []*state.Pack                  // packs of an earlier process to go on with
	held     state.Held                     // what the index may claim to cover while entries move
	sealing  sync.WaitGroup
	sealSlot chan struct{}

	flushing  chan struct{} // holds a token while the index is flushed
	flush     sync.WaitGroup
	unflushed atomic.Bool // the last flush failed

	suspect atomic.Bool // something could not be read or is damaged: the next start must look at everything

	health state.Record
	lost   map[uint32]loss // by pack, while Open works
}

// Open opens the store in cfg.Dir, and repairs what a crash has left. After a
// clean [Store.Close] it takes some milliseconds however large the store is.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	id, err := identity.Read(cfg.FS, cfg.Dir)
	if err != nil {
		return nil, err
	}
	lock, err := cfg.FS.Lock(path.Join(cfg.Dir, identity.LockFile))
	if errors.Is(err, disk.ErrLocked) {
		return nil, &identity.OpenError{Dir: cfg.Dir, Err: identity.ErrLocked, Cure: "a store has one user at a time; if the daemon runs, use it instead of the path"}
	}
	if err != nil {
		return nil, &identity.OpenError{Dir: cfg.Dir, Err: chunks.NoSpace(err)}
	}
	s := &Store{
		cfg: cfg, fs: cfg.FS, dir: cfg.Dir, id: id, log: cfg.Log, lock: lock,
		lanes: make([]lane, cfg.Lanes), open: map[*state.Pack]*writer.Writer{}, lost: map[uint32]loss{},
		sealSlot: make(chan struct{}, cfg.Lanes), flushing: make(chan struct{}, 1),
	}
	s.env = writer.Env{
		FS: cfg.FS, Log: cfg.Log, Failed: s.packFailed,
	}
	s.handles = disk.NewHandles(cfg.FS, maxHandles)
	s.claims = writer.NewClaims()
	s.probe = &disk.Prober{FS: cfg.FS, Dir: cfg.Dir, Direct: cfg.Direct, Log: cfg.Log, MakeRoom: s.GiveUpReserve}
	s.room = writer.NewRoom(cfg.FS, cfg.Dir, cfg.Reserve)
	if err := s.load(ctx); err != nil {
		s.release()
		if refused := (*identity.OpenError)(nil); errors.As(err, &refused) {
			return nil, err // it names the store
		}
		return nil, fmt.Errorf("open store %s: %w", cfg.Dir, chunks.NoSpace(err))
	}
	return s, nil
}

// release lets go of what Open took.
func (s *Store) release() error {
	var errs []error
	s.handles.Close()
	if s.idx != nil {
		errs = append(errs, s.idx.Close())
	}
	if s.packs != nil {
		errs = append(errs, s.packs.Close())
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

// Close makes everything durable and leaves the store such that the next Open
// need not look at its packs. The store must not be used any more.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return errClosed
	}
	err := s.commitAll()
	s.sealing.Wait()
	for _, w := range s.writers() {
		err = errors.Join(err, w.Close())
	}
	err = errors.Join(err, s.unreported())
	s.flush.Wait()
	if err == nil {
		err = s.flushIndexLocked(context.Background(), 0)
	}
	if err == nil {
		err = s.syncJournal()
	}
	if err == nil && !s.suspect.Load() {
		err = identity.MarkClean(s.fs, s.dir, identity.Generations{Index: s.idx.Generation(), Store: s.generation.Load()})
	}
	if err = errors.Join(err, s.release()); err != nil {
		return fmt.Errorf("close store %s: %w", s.dir, chunks.NoSpace(err))
	}
	return nil
}

// Health returns what Open found and did, and which packs are missing now.
func (s *Store) Health() Health { return s.health.Now() }

// String names the store for messages.
func (s *Store) String() string { return "pack store " + s.dir }

// Identity returns what holdfast-store.json says.
func (s *Store) Identity() identity.Identity { return s.id }

// Abilities returns how the file system gives space back.
func (s *Store) Abilities() Abilities {
	can := s.probe.Abilities()
	return Abilities{Punch: can.Punch, Clone: can.Clone}
}

// Generation changes whenever a chunk that snapshots may name has got another
// place, so that sets of entries computed before no longer hold.
func (s *Store) Generation() uint64 { return s.generation.Load() }

// Failures counts the packs that failed while they were written. After one,
// chunks put since the last successful Commit may be gone.
func (s *Store) Failures() uint64 { return s.failures.Load() }

// Len returns the number of chunks that the index knows, condemned ones
// included.
func (s *Store) Len() int { return s.idx.Len() }

// IndexHeap returns the bytes of memory that the index holds beside its mapped
// files.
func (s *Store) IndexHeap() int64 { return s.idx.Heap() }

// Commit returns when every chunk put before the call is durable. All callers
// share the work.
func (s *Store) Commit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := s.commitAll()
	if failed := s.unreported(); err == nil {
		err = failed
	}
	if err == nil {
		s.maybeFlush()
	}
	return err
}

// packFailed is told of every pack that failed while it was written.
func (s *Store) packFailed(err error) {
	s.why.Store(&err)
	s.failures.Add(1)
}

// unreported is an error if a pack failed of which no Commit has told yet.
func (s *Store) unreported() error {
	if n := s.failures.Load(); s.reported.Swap(n) != n {
		return fmt.Errorf("commit %s: a pack failed since the last commit; put the chunks again: %w", s, *s.why.Load())
	}
	return nil
}

// commitAll syncs every open pack.
func (s *Store) commitAll() error {
	var g errgroup.Group
	for _, w := range s.writers() {
		g.Go(func() error {
			durable, err := w.Commit()
			if err == nil {
				s.packs.Committed(w.Pack(), durable)
				return nil
			}
			if errors.Is(err, writer.ErrClosed) {
				return nil // sealed meanwhile, and durable
			}
			s.retire(w)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := s.packs.Flush(); err != nil {
		s.log.Warn("state journal could not be written", "store", s.dir, "err", err)
	}
	return nil
}

// writerOf returns the writer of an open pack, nil for every other.
func (s *Store) writerOf(p *state.Pack) *writer.Writer {
	if p.Sealed.Load() || p.Retired.Load() {
		return nil
	}
	s.openMu.RLock()
	defer s.openMu.RUnlock()
	return s.open[p]
}

func (s *Store) writers() []*writer.Writer {
	s.openMu.Lock()
	defer s.openMu.Unlock()
	all := make([]*writer.Writer, 0, len(s.open))
	for _, w := range s.open {
		all = append(all, w)
	}
	return all
}

// path returns the name of p's file.
func (s *Store) path(p *state.Pack) string { return path.Join(s.shard(p.ID), p.Name()) }

// shard is the directory of a pack.
func (s *Store) shard(id ID) string { return path.Join(s.dir, identity.PacksDir, id.String()[:2]) }
