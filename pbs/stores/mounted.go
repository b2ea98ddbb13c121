package stores

import (
	"errors"
	"net/http"

	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
	"github.com/holdfast-mesh/holdfast/pbs/stores/away"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// errOther is a directory with another datastore than the one that was opened.
var errOther = errors.New("another datastore lies there now")

// mounted fails if what was opened is not what lies in its directory now: its disk was
// taken away, or another one mounted over it. Work would find nothing there, and what
// it writes would be lost. It is looked at each time: that costs reading a small file, and
// what does not know that the disk is gone says that a namespace or a snapshot is.
func (s *Set) mounted(st *store) error {
	s.mu.Lock()
	dir, known := st.dir, st.identity
	s.mu.Unlock()
	id, err := identity.Read(s.cfg.FS, dir) // not with the lock held: a disk may hang
	if err == nil && known != "" && id.ID.String() != known {
		err = errOther
	}
	if err != nil {
		return upgrade.Errorf(http.StatusServiceUnavailable, "%w", away.Error(st.name, dir, err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.identity = id.ID.String()
	return nil
}
