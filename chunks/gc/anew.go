package gc

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// anew knows the encrypted chunks that were stored again in the place of a copy
// that was damaged or lost. Their bytes are others than before, since each
// encryption of a chunk is another: whoever has noted what they were must look
// again. They lie in a journal that begins with the first of them.
type anew struct {
	fs   disk.FS
	name string

	mu  sync.Mutex
	set map[chunks.Digest]bool
	log *disk.Journal // nil while there are none
}

// load reads the journal if there is one. What cannot be read is set aside: then
// a pull says that bytes are not those which were signed, and nothing is lost.
func (a *anew) load() error {
	a.set = map[chunks.Digest]bool{}
	if _, err := a.fs.Stat(a.name); err != nil {
		return nil
	}
	err := a.open()
	if damaged := (*disk.JournalError)(nil); errors.As(err, &damaged) {
		if err = a.fs.Rename(a.name, fmt.Sprintf("%s.damaged-%d", a.name, time.Now().UnixNano())); err == nil {
			err = a.open()
		}
	}
	return err
}

func (a *anew) open() (err error) {
	a.log, err = disk.OpenJournal(a.fs, a.name, func(record []byte) error {
		var d chunks.Digest
		if len(record) != len(d) {
			return fmt.Errorf("a digest of %d bytes", len(record))
		}
		copy(d[:], record)
		a.set[d] = true
		return nil
	})
	return err
}

// note adds a chunk. It is durable after the next sync.
func (a *anew) note(d chunks.Digest) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.log == nil {
		if err := a.open(); err != nil {
			return fmt.Errorf("note a chunk that is stored anew: %w", err)
		}
	}
	if !a.set[d] {
		a.set[d] = true
		a.log.Append(d[:])
	}
	return nil
}

func (a *anew) journal() *disk.Journal {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.log
}

func (a *anew) sync() error {
	if log := a.journal(); log != nil {
		return log.Sync()
	}
	return nil
}

func (a *anew) close() error {
	if log := a.journal(); log != nil {
		return log.Close()
	}
	return nil
}

// StoredAnew returns those of ds that are encrypted and were stored again after
// their first copy was damaged or lost, so that their bytes are others.
func (c *Collector) StoredAnew(ds []chunks.Digest) (some []chunks.Digest) {
	c.anew.mu.Lock()
	defer c.anew.mu.Unlock()
	if len(c.anew.set) == 0 {
		return nil
	}
	for _, d := range ds {
		if c.anew.set[d] {
			some = append(some, d)
		}
	}
	return some
}

// replaces notes that a chunk which is not known is about to be stored in the
// place of one that is denied.
func (s *Session) replaces(d chunks.Digest, b chunks.Blob) error {
	if kind, err := b.Kind(); err != nil || !kind.IsEncrypted() {
		return nil // its name says what it is
	}
	denied := false
	s.c.cfg.Store.LocateMany([]chunks.Digest{d}, func(_ int, _ pack.Ref, held bool) { denied = held })
	if !denied {
		return nil
	}
	return s.c.anew.note(d)
}
