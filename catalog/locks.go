package catalog

import (
	"fmt"

	"github.com/holdfast-mesh/holdfast/catalog/trylock"
)

// locks are those of groups and snapshots, by path. They are only tried: one
// that is taken is an error and not a wait (PBS protocol notes §9.5). No file
// locks are needed, for one process has the datastore open.
type locks struct{ held trylock.Set }

func (l *locks) exclusive(what string) (free func(), err error) {
	return taken(what)(l.held.Exclusive(what))
}
func (l *locks) shared(what string) (free func(), err error) { return taken(what)(l.held.Shared(what)) }

func taken(what string) func(free func(), ok bool) (func(), error) {
	return func(free func(), ok bool) (func(), error) {
		if ok {
			return free, nil
		}
		return nil, &opError{fmt.Sprintf("lock %s: %v", what, ErrBusy), "wait until the backup, restore or verification that works on it has ended", ErrBusy}
	}
}
