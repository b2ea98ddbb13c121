package pack

import (
	"sync"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// probe is what trying has told of the file system, asked for once.
type probe struct {
	once sync.Once
	can  disk.Abilities
	pays bool // O_DIRECT is worth it
}

// ask tries the file system below the store, the first time it is needed.
func (s *Store) ask() *probe {
	s.probe.once.Do(func() {
		can, err := disk.Probe(s.fs, s.dir)
		if err != nil {
			s.log.Warn("the file system could not be probed; only plain reads and writes are used", "store", s.dir, "err", err)
		}
		s.probe.can = can
		switch s.cfg.Direct {
		case DirectOn:
			s.probe.pays = can.Direct
		case DirectAuto:
			s.probe.pays = can.Direct && disk.DirectPays(s.fs, s.dir)
		}
		s.log.Debug("file system probed", "store", s.dir, "direct", s.probe.pays, "punch", can.Punch, "clone", can.Clone)
	})
	return &s.probe
}

// Abilities returns how the file system gives space back.
func (s *Store) Abilities() Abilities {
	p := s.ask()
	return Abilities{Punch: p.can.Punch, Clone: p.can.Clone}
}

func (s *Store) directFlag() int {
	if s.ask().pays {
		return disk.Direct
	}
	return 0
}
