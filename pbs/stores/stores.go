// Package stores is the set of datastores of a node, and the work on them.
//
// A [Set] opens every datastore that is set up ([settings.State]); one that
// cannot be opened is reported, tried again every minute, and stops none of
// the others. It makes and removes datastores, and runs garbage collection,
// verification and prunes as tasks with the names of PBS (PBS protocol notes
// §7.9), by hand and when it is time.
//
//	Open     opens all, before anybody is answered
//	Run      follows the settings
//	Close    closes all, when tasks and sessions have ended
//	Get      a datastore by name; Use the same, so that it is not closed meanwhile
//	Start…   begins work as a task and returns its name at once
//
// Who may do what is decided by those who call.
package stores

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/s3"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// Config says what a Set works with. The zero value of an optional field means
// its default.
type Config struct {
	Settings  settings.Store  // required
	Tasks     *jobs.Manager   // required
	Scheduler *jobs.Scheduler // required
	FS        disk.FS         // default: the machine's
	Clouds    *s3.Clients     // default: no datastore has a bucket
	Node      string          // our name, where a bucket says who owns it

	// Patience is how long Open waits for datastores; default 15 s. One that
	// takes longer is used when it is open, and holds up nobody.
	Patience time.Duration

	// Changed, if given, is called after a snapshot of a group in a datastore
	// has come, has gone, or had its manifest changed. It must not wait.
	Changed func(store string, ns catalog.Namespace, g catalog.Group)

	// Corrupt is told of chunks that a verification has found damaged or missing,
	// and must not wait; default: nobody is.
	Corrupt func(store string, damaged, missing int)

	Claim Claim // default: no other node may own our buckets

	// Agreed says why the cluster cannot say now what is still wanted; then nothing
	// is deleted in a bucket. Default: it always can.
	Agreed func(ctx context.Context) error

	// Away says why a datastore cannot be opened now though it is set up: its disk
	// is not there. Default: all are there.
	Away func(settings.Datastore) error

	Log *slog.Logger // default: discard

	// Warden, if given, returns who is asked before anything of a datastore is
	// removed.
	Warden func(store string) Warden
}

// A Warden keeps what may not be removed, beside the guard file of a datastore.
type Warden interface {
	catalog.Warden
	MayDestroy(ctx context.Context, t catalog.Tree) error // all of it
	MayLeave() error                                      // the node, with its data or without
}

// A Set is the datastores of a node. Its methods may be called concurrently.
type Set struct {
	cfg Config

	// changing is held by whoever opens or closes datastores, or changes their
	// settings; before mu.
	changing sync.Mutex
	seen     *settings.State // what the set was last made equal to
	puts     map[string]bool // schedules that were put

	opener opener

	mu     sync.Mutex
	stores map[string]*store
}

// A store is a datastore of the set.
type store struct {
	name, dir string
	d         *catalog.Datastore // nil: it is not open
	cloud     *running           // nil: it has no bucket
	as        string             // of what it was opened with
	err       error              // why it is not
	opening   bool               // it is being opened, which takes its place
	leaving   bool               // it is being removed or closed; nothing begins
	again     bool               // it is leaving to be opened anew
	released  bool               // it is leaving, and will come back
	reads     int                // of Use
	writes    int
	gc        GCStatus // of the last collection
	space     disk.Space
	asked     time.Time // when space was
	identity  string    // of what was opened; "": not known yet
}

// New returns a Set. It starts nothing and opens nothing.
func New(cfg Config) (*Set, error) {
	switch {
	case cfg.Settings == nil:
		return nil, errors.New("stores: no settings")
	case cfg.Tasks == nil || cfg.Scheduler == nil:
		return nil, errors.New("stores: no task manager, or no scheduler")
	}
	if cfg.FS == nil {
		cfg.FS = disk.OS{}
	}
	if cfg.Away == nil {
		cfg.Away = func(settings.Datastore) error { return nil }
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	cfg.Patience = cmp.Or(cfg.Patience, 15*time.Second)
	s := &Set{cfg: cfg, stores: map[string]*store{}, puts: map[string]bool{}}
	s.opener.init()
	return s, nil
}

// Open opens the datastores, side by side, and puts their schedules. That one
// cannot be opened is logged, and no error; one that is slow is opened while
// others are served.
func (s *Set) Open(ctx context.Context) error { return s.Sync(ctx) }

// How often Run looks for changes of the settings, and tries again what could
// not be opened.
const (
	lookEvery  = 2 * time.Second
	retryEvery = time.Minute
)

// Run follows the settings until ctx is done. The datastores stay open: work on
// them may go on for a while, and Close comes after it.
func (s *Set) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if s.changed() || s.free() || time.Since(last) >= retryEvery {
			last = time.Now()
			if err := s.Sync(ctx); err != nil && ctx.Err() == nil {
				s.cfg.Log.Warn("datastores do not follow the settings", "err", err)
			}
		}
	}
}

func (s *Set) changed() bool {
	s.changing.Lock()
	defer s.changing.Unlock()
	return s.seen != s.cfg.Settings.State()
}

// free reports whether a datastore is to be opened anew, and nobody uses it any more.
func (s *Set) free() bool {
	return slices.ContainsFunc(s.all(), func(st *store) bool {
		s.mu.Lock()
		again := st.leaving && st.again
		s.mu.Unlock()
		r, w := s.at(st)
		return again && r+w == 0
	})
}

// Sync makes the set what the settings say, at once.
func (s *Set) Sync(ctx context.Context) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	return s.sync(ctx)
}

func (s *Set) sync(ctx context.Context) error {
	state := s.cfg.Settings.State()
	var errs []error
	for _, st := range s.surplus(state) {
		_, again := state.Datastore(st.name)
		short, cancel := context.WithTimeout(ctx, 2*settle)
		errs = append(errs, s.retire(short, st, settle, again))
		cancel()
	}
	var begun []<-chan struct{}
	for _, want := range state.Datastores {
		if s.lacks(want) {
			begun = append(begun, s.begin(want))
		}
	}
	errs = append(errs, s.await(ctx, begun), s.resize(state.Datastores), s.putSchedules(state))
	s.seen = state
	return errors.Join(errs...)
}

// surplus returns what is here and not, or not there, in the settings.
func (s *Set) surplus(state *settings.State) []*store {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*store
	for _, st := range s.stores {
		if want, ok := state.Datastore(st.name); !ok || want.Path != st.dir || s.version(want) != st.as {
			list = append(list, st)
		}
	}
	return list
}

func (s *Set) lacks(want settings.Datastore) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stores[want.Name]
	return st == nil || st.d == nil && !st.leaving && !st.opening
}

// retire closes a datastore that is not as in the settings any more. While
// somebody works on it, it only lets nobody else begin, and fails.
func (s *Set) retire(ctx context.Context, st *store, quiet time.Duration, again bool) error {
	s.leave(st, true)
	s.mu.Lock()
	st.again = again
	s.mu.Unlock()
	if err := s.idle(ctx, st, quiet, func(string) {}); err != nil {
		return err
	}
	s.drop(st)
	return s.shut(st)
}

func (s *Set) leave(st *store, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st.leaving, st.released = on, on && st.released
	if now := s.stores[st.name]; now != nil && now.dir == st.dir {
		now.leaving = on // it may have been opened meanwhile
	}
}

func (s *Set) drop(st *store) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stores[st.name] == st {
		delete(s.stores, st.name)
	}
}

func (s *Set) shut(st *store) error {
	if st.d == nil {
		return nil
	}
	st.cloud.stop()
	if err := st.d.Close(); err != nil {
		return fmt.Errorf("close datastore %s: %w", st.name, err)
	}
	return nil
}

// settle is how long a datastore must be without work before it is closed:
// whoever got it a moment ago has begun by then.
const settle = time.Second

// idle waits until nobody has worked on a datastore that is leaving for a
// while.
func (s *Set) idle(ctx context.Context, st *store, quiet time.Duration, tell func(string)) error {
	tick := time.NewTicker(settle / 50)
	defer tick.Stop()
	since, told := time.Now(), ""
	for {
		r, w := s.at(st)
		if r+w > 0 {
			since = time.Now()
			if text := fmt.Sprintf("waiting for %d readers and %d writers", r, w); text != told {
				told = text
				tell(text)
			}
		}
		if st.d == nil || time.Since(since) >= quiet {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("datastore %s is in use: %w", st.name, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// Active returns how many work on a datastore.
func (s *Set) Active(name string) (readers, writers int, err error) {
	s.mu.Lock()
	st, err := s.find(name)
	s.mu.Unlock()
	if err != nil {
		return 0, 0, err
	}
	readers, writers = s.at(st)
	return readers, writers, nil
}

func (s *Set) at(st *store) (readers, writers int) {
	s.mu.Lock()
	reads, writes := st.reads, st.writes
	s.mu.Unlock()
	if st.d != nil {
		readers, writers = st.d.Active()
	}
	return readers + reads, writers + writes
}

// openingTime is how long Close waits for what is still being opened.
const openingTime = 5 * time.Second

// Close closes all datastores when nobody works on them, at most after a
// minute. What is still worked on then stays open; the next start finds it as
// after a crash.
func (s *Set) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s.changing.Lock()
	defer s.changing.Unlock()
	short, stop := context.WithTimeout(ctx, openingTime)
	defer stop()
	errs := []error{s.opener.close(short)}
	s.opener.init()
	var work errgroup.Group
	var mu sync.Mutex
	for _, st := range s.all() {
		work.Go(func() error {
			err := s.retire(ctx, st, settle/50, true) // nobody comes any more
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
			return nil
		})
	}
	work.Wait()
	return errors.Join(errs...)
}

func (s *Set) all() []*store {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.stores))
}

// Names returns the names of all datastores that are set up, in order, also of
// those that are not open.
func (s *Set) Names() []string {
	state := s.cfg.Settings.State()
	names := make([]string, len(state.Datastores))
	for i, d := range state.Datastores {
		names[i] = d.Name
	}
	return names
}

// Get returns the datastore of that name. The error is an answer for the
// client. Who is going to take a while uses Use.
func (s *Set) Get(name string) (*catalog.Datastore, error) {
	s.mu.Lock()
	st, err := s.find(name)
	s.mu.Unlock()
	if err == nil {
		err = s.mounted(st)
	}
	if err != nil {
		return nil, err
	}
	return st.d, nil
}

func (s *Set) find(name string) (*store, error) {
	switch st := s.stores[name]; {
	case st == nil:
		return nil, upgrade.Errorf(http.StatusBadRequest, "no such datastore '%s'", name)
	case st.leaving && st.released:
		return nil, upgrade.Errorf(http.StatusBadRequest, "datastore '%s' is being taken out", name)
	case st.leaving && st.again:
		return nil, upgrade.Errorf(http.StatusServiceUnavailable, "datastore '%s' is being opened again, try again", name)
	case st.leaving:
		return nil, upgrade.Errorf(http.StatusBadRequest, "datastore '%s' is being deleted", name)
	case st.opening && st.err == errOpening:
		return nil, upgrade.Errorf(http.StatusServiceUnavailable, "datastore '%s' is not available: %w", name, st.err)
	case st.d == nil:
		return nil, upgrade.Errorf(http.StatusBadRequest, "datastore '%s' is not available: %w", name, st.err)
	default:
		return st, nil
	}
}

// Use is Get for work that takes a while: the datastore is not closed until
// done is called. It fails if the datastore is in a state of maintenance in
// which it cannot be read or, with write, written, or its disk is gone.
func (s *Set) Use(name string, write bool) (d *catalog.Datastore, done func(), err error) {
	st, done, err := s.use(name, write)
	if err != nil {
		return nil, nil, err
	}
	if err := s.mounted(st); err != nil {
		done()
		return nil, nil, err
	}
	return st.d, done, nil
}

func (s *Set) use(name string, write bool) (st *store, done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st, err = s.find(name); err != nil {
		return nil, nil, err
	}
	if err := upgrade.InService(name, st.d, write); err != nil {
		return nil, nil, err
	}
	count := &st.reads
	if write {
		count = &st.writes
	}
	*count++
	return st, sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		*count--
	}), nil
}

// Room returns how full the disk of a datastore is, as it was at most a second
// ago.
func (s *Set) Room(name string) (disk.Space, error) {
	s.mu.Lock()
	st, err := s.find(name)
	if err != nil {
		s.mu.Unlock()
		return disk.Space{}, err
	}
	known, at := st.space, st.asked
	s.mu.Unlock()
	if time.Since(at) < time.Second {
		return known, nil
	}
	space, err := s.cfg.FS.Space(st.dir)
	if err != nil {
		return disk.Space{}, fmt.Errorf("ask how full the disk of datastore %s is: %w", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.space, st.asked = space, time.Now()
	return space, nil
}
