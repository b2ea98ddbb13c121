package gc

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// Config says what a [Collector] works on. The zero value of every optional
// field means the default written beside it.
type Config struct {
	Store Store         // required
	Roots Roots         // required
	FS    disk.FS       // required
	Dir   string        // required: a directory of the collector's own, made if absent
	TTL   time.Duration // how long an idle lease keeps its pins; default 1 hour
	Log   *slog.Logger  // default: discard
}

func (c Config) withDefaults() (Config, error) {
	c.TTL = cmp.Or(c.TTL, time.Hour)
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	switch {
	case c.Store == nil:
		return c, errors.New("garbage collector: no store")
	case c.Roots == nil:
		return c, errors.New("garbage collector: no roots")
	case c.FS == nil || c.Dir == "":
		return c, errors.New("garbage collector: no directory")
	case c.TTL < time.Second:
		return c, fmt.Errorf("garbage collector: leases of %s, want at least a second", c.TTL)
	}
	return c, nil
}

// A Collector hands out leases on the chunks of a store and collects what
// nobody needs. It starts nothing by itself. Its methods may be called
// concurrently.
//
// Locks are taken in the order gate, records.mu, Collector.mu, Session.mu.
type Collector struct {
	cfg     Config
	records *records
	cache   *cache
	anew    anew

	// gate is what makes "look up and pin" and "decide and condemn" exclude
	// each other: shared by lookups, exclusive for sweeps and switchovers.
	gate sync.RWMutex

	mu sync.Mutex

	sessions map[LeaseID]*Session
	running  bool
	late     *pack.Set // pins released since the running collection began; nil outside of begin to sweep
}

// New opens the lease journal in cfg.Dir and returns a collector. Leases that
// a crash left behind keep their pins until they expire, are resumed or
// closed; see [Collector.Leases].
func New(cfg Config) (*Collector, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Collector{cfg: cfg, cache: &cache{fs: cfg.FS, dir: path.Join(cfg.Dir, "marks")}, sessions: map[LeaseID]*Session{}}
	err = c.load()
	if reserved, ok := cfg.Store.(reserver); ok && errors.Is(chunks.NoSpace(err), chunks.ErrNoSpace) && reserved.GiveUpReserve() {
		err = c.load()
	}
	if err != nil {
		return nil, fmt.Errorf("open leases of %s: %w", cfg.Store, err)
	}
	return c, nil
}

// A reserver has set space aside for a full disk, on which garbage must be
// collected all the same.
type reserver interface{ GiveUpReserve() bool }

// load makes the collector's directory if need be, and reads the leases.
func (c *Collector) load() error {
	if err := disk.MkdirAll(c.cfg.FS, c.cache.dir, 0o750); err != nil {
		return fmt.Errorf("make directory %s: %w", c.cache.dir, err)
	}
	c.anew = anew{fs: c.cfg.FS, name: path.Join(c.cfg.Dir, "anew")}
	if err := c.anew.load(); err != nil {
		return fmt.Errorf("open the list of chunks that were stored anew: %w", err)
	}
	err := c.recover()
	if err != nil {
		err = errors.Join(err, c.anew.close())
	}
	return err
}

// openLeases replays the journal. One that is damaged is set aside and a new one
// begun: that loses pins of sessions that a crash has ended anyhow, and if one
// of them is resumed, Finish looks at everything again.
func (c *Collector) openLeases() (*ledger, *disk.Journal, error) {
	name, book := path.Join(c.cfg.Dir, "leases"), newLedger()
	log, err := disk.OpenJournal(c.cfg.FS, name, book.apply)
	if damaged := (*disk.JournalError)(nil); errors.As(err, &damaged) {
		aside := fmt.Sprintf("%s.damaged-%d", name, time.Now().UnixNano())
		c.cfg.Log.Error("journal of leases is damaged; set aside", "as", aside, "err", err)
		if err := c.cfg.FS.Rename(name, aside); err != nil {
			return nil, nil, fmt.Errorf("set damaged journal aside: %w", err)
		}
		book = newLedger()
		log, err = disk.OpenJournal(c.cfg.FS, name, book.apply)
	}
	return book, log, err
}

// recover reads the journal. The wall clock is believed once, here: it can
// end a lease early, which costs an upload, or be seen to run backwards,
// which counts as renewal; from here on time is monotonic.
func (c *Collector) recover() error {
	book, log, err := c.openLeases()
	if err != nil {
		return err
	}
	c.records = &records{log: log, state: c.encodeLeases, slog: c.cfg.Log}
	if len(book.leases) == 0 {
		return nil
	}
	packs, err := c.cfg.Store.Measure(&pack.Set{})
	if err != nil {
		return errors.Join(err, log.Close())
	}
	now := time.Now()
	for id, l := range book.leases {
		idle := max(0, now.Sub(l.renewed))
		if idle > c.cfg.TTL {
			log.Append(encodeClosed(id))
			continue
		}
		last := now.Add(-idle)
		c.sessions[id] = &Session{
			c: c, id: id, kind: l.kind, owner: l.owner, created: l.created, failures: c.cfg.Store.Failures(),
			pins: l.set(packs), used: last, noted: last, recorded: true, orphan: true,
		}
	}
	return nil
}

// Close makes the pins of all leases durable and closes the journal. Leases
// still open are found again by the next New, as after a crash.
func (c *Collector) Close() error {
	c.mu.Lock()
	open := len(c.sessions)
	c.mu.Unlock()
	if open > 0 {
		if err := c.records.rewrite(); err != nil {
			c.cfg.Log.Warn("leases were not saved", "err", err)
		}
	}
	if err := errors.Join(c.records.log.Close(), c.anew.close()); err != nil {
		return fmt.Errorf("close leases of %s: %w", c.cfg.Store, err)
	}
	return nil
}
