// Package vanish decides what becomes of snapshots that a source does not have
// any more.
//
// That something is absent is no order: a source may be half mounted, rebuilt,
// or in the hands of somebody who wants the copies gone. A snapshot goes only
// if its source has signed that it pruned it, if it was absent in several
// complete passes over some days, if the retention of this site does not keep
// it, and if not too much goes at once (consensus notes §6.4). What goes waits
// in the trash. The guard of the datastore has the last word.
package vanish

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// Rules say how long a snapshot must be absent, and how much may go in one
// pass. The zero value of a field means its default.
type Rules struct {
	Passes int           // complete passes in which it was absent; default 3
	Over   time.Duration // how long; default 48 h
	Groups int           // of which anything goes in one pass; default 5
	Share  int           // of all snapshots in the scope of the job one in so many; default 10
	Least  int           // snapshots that may go however few there are; default 3
}

// Default returns the rules with defaults in the place of zeros.
func (r Rules) Default() Rules {
	def := func(n *int, d int) {
		if *n == 0 {
			*n = d
		}
	}
	def(&r.Passes, 3)
	def(&r.Groups, 5)
	def(&r.Share, 10)
	def(&r.Least, 3)
	if r.Over == 0 {
		r.Over = 48 * time.Hour
	}
	return r
}

// Absent says in how many passes a snapshot was absent, and for how long.
type Absent struct {
	Passes int           `json:"passes"`
	For    time.Duration `json:"for"`
}

// Waits says why a snapshot that was pruned at its source stays for now, ""
// if it need not.
func (r Rules) Waits(a Absent) string {
	switch r = r.Default(); {
	case a.Passes < r.Passes:
		return fmt.Sprintf("it was absent in %d complete passes, and must be in %d", a.Passes, r.Passes)
	case a.For < r.Over:
		return fmt.Sprintf("it has been absent for %s, and must be for %s", a.For.Round(time.Minute), r.Over)
	}
	return ""
}

// A Breaker counts what goes in one pass: whoever empties the source must not
// empty its copies.
type Breaker struct {
	Rules
	Total int // snapshots here in the job's scope

	gone   int
	groups map[string]bool
}

// Trips says why nothing more of a group may go in this pass, "" if it may.
func (b *Breaker) Trips(group string) string {
	r := b.Rules.Default()
	if b.gone >= max(b.Total/r.Share, r.Least) || !b.groups[group] && len(b.groups) >= r.Groups {
		return "more vanished than one pass may remove; look at the source before you run the job again"
	}
	return ""
}

// Gone counts a snapshot that went.
func (b *Breaker) Gone(group string) {
	if b.groups == nil {
		b.groups = map[string]bool{}
	}
	b.gone++
	b.groups[group] = true
}

// A Memory keeps, over the passes of one job, what was absent. It is a file,
// and not safe for concurrent use.
type Memory struct {
	fs   disk.FS
	name string
	Last time.Time         `json:"last"`
	Rows map[string]Absent `json:"absent"`
}

// maxMemory bounds the file.
const maxMemory = 64 << 20

// Open reads the memory in a file; without one nothing was ever absent. One
// that is damaged begins anew, which only makes things stay longer.
func Open(fsys disk.FS, name string) (*Memory, error) {
	m := &Memory{fs: fsys, name: name}
	b, err := disk.ReadFile(fsys, name, maxMemory)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil && json.Unmarshal(b, m) != nil {
		m.Last, m.Rows = time.Time{}, nil
	}
	if m.Rows == nil {
		m.Rows = map[string]Absent{}
	}
	return m, nil
}

// What one pass adds to the time of an absence is at most dayOf, and passes
// that follow each other sooner than apart count as one: a clock that jumps, or
// a job that is run by hand again and again, must not make a day of a minute.
const (
	dayOf = 24 * time.Hour
	apart = time.Hour
)

// After returns what a complete pass, in which something was absent, would make of
// the rows, and whether it counts. What is there again was never absent.
func (m *Memory) After(now time.Time, absent []string) (rows map[string]Absent, counts bool) {
	gap := now.Sub(m.Last)
	counts = m.Last.IsZero() || gap >= apart || gap < 0
	if gap < 0 {
		gap = 0 // the clock went back
	}
	rows = make(map[string]Absent, len(absent))
	for _, key := range absent {
		a, known := m.Rows[key]
		switch {
		case !known:
			a = Absent{Passes: 1}
		case counts:
			a = Absent{a.Passes + 1, a.For + min(gap, dayOf)}
		}
		rows[key] = a
	}
	return rows, counts
}

// Pass notes what was absent in a complete pass, durably.
func (m *Memory) Pass(now time.Time, absent []string) (err error) {
	var counts bool
	if m.Rows, counts = m.After(now, absent); counts {
		m.Last = now
	}
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := disk.MkdirAll(m.fs, path.Dir(m.name), 0o755); err != nil {
		return err
	}
	return disk.WriteFileAtomic(m.fs, m.name, b, 0o644)
}
