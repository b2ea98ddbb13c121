package disk

import (
	"errors"
	"log/slog"
	"sync"
	"syscall"
)

// When says whether something is done.
type When int

// Auto leaves it to a measurement.
const (
	Auto When = iota
	Always
	Never
)

// A Prober tries what works in a directory the first time that somebody asks.
// It is safe for concurrent use.
type Prober struct {
	FS     FS
	Dir    string
	Direct When // whether to bypass the page cache, where that works
	Log    *slog.Logger

	// MakeRoom, if given, frees some space when the disk is too full to try
	// anything, and reports whether it could.
	MakeRoom func() bool

	once   sync.Once
	can    Abilities
	direct bool
}

func (p *Prober) ask() {
	p.once.Do(func() {
		can, err := Probe(p.FS, p.Dir)
		if errors.Is(err, syscall.ENOSPC) && p.MakeRoom != nil && p.MakeRoom() {
			can, err = Probe(p.FS, p.Dir)
		}
		if err != nil {
			p.Log.Warn("the file system could not be probed; only plain reads and writes are used", "dir", p.Dir, "err", err)
		}
		p.can = can
		p.direct = can.Direct && (p.Direct == Always || p.Direct == Auto && DirectPays(p.FS, p.Dir))
		p.Log.Debug("file system probed", "dir", p.Dir, "direct", p.direct, "punch", can.Punch, "clone", can.Clone)
	})
}

// Abilities returns what works.
func (p *Prober) Abilities() Abilities {
	p.ask()
	return p.can
}

// DirectFlag returns the flag for OpenFile to bypass the page cache with, 0
// where that does not work, does not pay or is not wanted.
func (p *Prober) DirectFlag() int {
	if p.ask(); p.direct {
		return Direct
	}
	return 0
}
