package files

import (
	"errors"
	"io/fs"
	"maps"
	"sync"
)

// A Change is what a journal remembers of a file.
type Change struct {
	Name string
	Keep bool // the next root names it; else it forgets it
	Done bool // a root has
}

// Pending are the files that wait for the next root.
type Pending struct {
	Dir
	Note func(Change)
	Sync func() error // makes what was noted durable

	mu   sync.Mutex
	all  map[string]bool // true to keep, false to remove
	lost int
}

// Load takes in what a journal has remembered. A file that is not there was in a root
// before the journal lost its end: nobody could be told of it now.
func (p *Pending) Load(all map[string]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = maps.Clone(all)
	for name, keep := range all {
		if _, err := p.FS.Stat(p.path(name)); keep && errors.Is(err, fs.ErrNotExist) {
			delete(p.all, name)
			p.lost++
		}
	}
}

// Lost returns how many files were not there that should have waited.
func (p *Pending) Lost() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

// Waits reports whether a file waits, and if so, whether it is to be named.
func (p *Pending) Waits(name string) (keep, is bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	keep, is = p.all[name]
	return keep, is
}

// All returns what waits: true is to be named, false to be forgotten.
func (p *Pending) All() map[string]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.all)
}

// Add keeps a file for the next root, durably.
func (p *Pending) Add(name string, content []byte) error {
	if err := p.Put(name, content); err != nil {
		return err
	}
	return p.pend(name, true)
}

// Drop lets the next root forget a file.
func (p *Pending) Drop(name string) error {
	if err := p.pend(name, false); err != nil {
		return err
	}
	return p.Remove(name)
}

func (p *Pending) pend(name string, keep bool) error {
	p.mu.Lock()
	if p.all == nil {
		p.all = map[string]bool{}
	}
	p.all[name] = keep
	p.mu.Unlock()
	p.Note(Change{Name: name, Keep: keep})
	return p.Sync()
}

// Done drops what a root says now, unless it has been replaced since.
func (p *Pending) Done(said map[string]bool) error {
	var gone []string
	p.mu.Lock()
	for name, keep := range said {
		if p.all[name] == keep {
			delete(p.all, name)
			gone = append(gone, name)
			p.Note(Change{Name: name, Done: true})
		}
	}
	p.mu.Unlock()
	if err := p.Sync(); err != nil {
		return err
	}
	var failed []error
	for _, name := range gone {
		failed = append(failed, p.Remove(name))
	}
	return errors.Join(failed...)
}
