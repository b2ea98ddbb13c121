// Package elapsed knows for how long things have waited, whatever happens to the
// machine's clock.
//
// A wall clock jumps: a battery is empty, a time server is wrong, somebody types a
// year. What goes by it goes for good at that moment. A [Clock] goes by what the
// machine has run since its start instead, which nobody sets; it is told apart by
// the identity of that start, so that a process may end and another one go on.
// Only while the machine was off nothing but the wall clock tells the time, and
// so that is good for at most half of any wait ([Clock.Waited]).
package elapsed

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// A Reading is what a machine says of the time.
type Reading struct {
	Boot string        // which start of the machine; "" if it does not tell
	Up   time.Duration // since then, asleep too; it never goes back
	Wall time.Time
}

// A Mark is when something began to wait.
type Mark struct {
	Ran int64 `json:"ran"` // seconds that the machine ran, of a clock
	Off int64 `json:"off"` // seconds that it was off, by its wall clock
}

// state is what the file holds.
type state struct {
	Boot string          `json:"boot"`
	Up   int64           `json:"up"`   // seconds
	Wall int64           `json:"wall"` // Unix seconds
	Now  Mark            `json:"now"`
	Seen map[string]Mark `json:"seen"`
}

// maxFile bounds the file: a million of what waits.
const maxFile = 128 << 20

// Config says where the file of a clock is. All but Read is required.
type Config struct {
	FS   disk.FS
	Name string
	Of   string         // where the things lie: while that is not there, as of a disk that was pulled, nothing is written
	Read func() Reading // default: Machine
	May  func() bool    // whether the file may be written now
	Log  *slog.Logger
}

// A Clock knows since when each of some things waits. Its methods may be called
// concurrently.
type Clock struct {
	Config

	mu     sync.Mutex
	now    Mark
	last   Reading // at which now was
	seen   map[string]Mark
	onDisk bool // the file says of something that it waits
	closed bool
	timer  *time.Timer
}

// A clock writes itself down after so long, and then after twice, four times … as
// long: a machine whose power is cut loses at most half of what it ran. A disk that
// sleeps is not woken for it every hour.
const (
	firstKeep = 5 * time.Minute
	lastKeep  = 12 * time.Hour
)

// Open reads the file of a clock. One that is not there, or is damaged, says of
// nothing since when it waits: all begin anew, and nothing goes too early.
func Open(cfg Config) *Clock {
	if cfg.Read == nil {
		cfg.Read = Machine()
	}
	c := &Clock{Config: cfg, last: cfg.Read(), seen: map[string]Mark{}}
	c.load()
	return c
}

func (c *Clock) load() {
	var s state
	b, err := disk.ReadFile(c.FS, c.Name, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		c.Log.Warn("since when the trash waits cannot be read: all of it waits from now on", "file", c.Name, "err", err)
		return
	}
	c.now, c.onDisk = s.Now, len(s.Seen) > 0
	for id, m := range s.Seen {
		c.seen[id] = m
	}
	if up := int64(c.last.Up / time.Second); s.Boot != "" && s.Boot == c.last.Boot {
		c.now.Ran += max(0, up-s.Up)
	} else {
		c.now.Off += max(0, c.last.Wall.Unix()-s.Wall)
	}
}

// Start has the clock write itself down from time to time, until it is closed.
func (c *Clock) Start() { c.keepAfter(firstKeep) }

func (c *Clock) keepAfter(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.timer = time.AfterFunc(d, func() {
		c.Keep()
		c.keepAfter(min(2*d, lastKeep))
	})
}

// Close makes durable since when things wait, and ends the clock.
func (c *Clock) Close() {
	c.Keep()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed = true; c.timer != nil {
		c.timer.Stop()
	}
}

// at is the clock's time; the caller holds c.mu.
func (c *Clock) at() Mark {
	r := c.Read()
	if ran := int64((r.Up - c.last.Up) / time.Second); ran > 0 {
		c.now.Ran += ran
		c.last.Up += time.Duration(ran) * time.Second // what is less than a second is for the next time
	}
	c.last.Wall = r.Wall
	return c.now
}

// See has things begin to wait that did not yet.
func (c *Clock) See(ids ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.at()
	for _, id := range ids {
		if _, is := c.seen[id]; !is {
			c.seen[id] = now
		}
	}
}

// Ran is for how long the machine ran since it was seen that something waits, so
// that it waits for that time at least.
func (c *Clock) Ran(id string) time.Duration {
	ran, _ := c.since(id)
	return ran
}

// Waited is how much of a time something has waited: as long as the machine ran,
// and as long as it was off by its wall clock, but no more than half of the time
// in all. Of what was not seen yet it is nothing.
func (c *Clock) Waited(id string, of time.Duration) time.Duration {
	ran, off := c.since(id)
	return ran + min(off, of/2)
}

func (c *Clock) since(id string) (ran, off time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, is := c.seen[id]
	if !is {
		return 0, 0
	}
	now := c.at()
	return seconds(now.Ran - m.Ran), seconds(now.Off - m.Off)
}

// seconds makes a duration of whole seconds, of at most a century: nobody waits for
// longer, and more would overflow.
func seconds(n int64) time.Duration {
	const most = 100 * 365 * 24 * 3600
	return time.Duration(max(0, min(n, most))) * time.Second
}

// Only has all but these wait no longer.
func (c *Clock) Only(ids []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	sorted := slices.Sorted(slices.Values(ids))
	maps.DeleteFunc(c.seen, func(id string, _ Mark) bool {
		_, is := slices.BinarySearch(sorted, id)
		return !is
	})
}

// Drop has something wait no longer.
func (c *Clock) Drop(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.seen, id)
}

// Keep makes durable since when things wait. If that cannot be, they wait for
// longer, after the next start.
func (c *Clock) Keep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.seen) == 0 && !c.onDisk || !c.May() {
		return
	}
	if _, err := c.FS.Stat(c.Of); err != nil {
		return
	}
	now := c.at()
	b, err := json.Marshal(state{c.last.Boot, int64(c.last.Up / time.Second), c.last.Wall.Unix(), now, c.seen})
	if err == nil {
		err = disk.WriteFileAtomic(c.FS, c.Name, append(b, '\n'), 0o644)
	}
	if err != nil {
		c.Log.Warn("since when the trash waits could not be written down", "file", c.Name, "err", err)
		return
	}
	c.onDisk = len(c.seen) > 0
}
