package stores

import (
	"errors"
	"net/http"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// errOther is a directory with another datastore than the one that was opened.
var errOther = errors.New("another datastore lies there now")

// mounted fails if what was opened is not what lies in its directory now: its disk was
// taken away, or another one mounted over it. Work would find nothing there, and what
// it writes would be lost. It is looked at once a second at most.
func (s *Set) mounted(st *store) error {
	s.mu.Lock()
	dir, known, seen := st.dir, st.identity, st.seen
	s.mu.Unlock()
	if time.Since(seen) < time.Second {
		return nil
	}
	id, err := identity.Read(s.cfg.FS, dir) // not with the lock held: a disk may hang
	if err == nil && known != "" && id.ID.String() != known {
		err = errOther
	}
	if err != nil {
		return upgrade.Errorf(http.StatusServiceUnavailable, "datastore '%s' is not in %s any more: is its disk mounted? (%w)", st.name, dir, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.identity, st.seen = id.ID.String(), time.Now()
	return nil
}
