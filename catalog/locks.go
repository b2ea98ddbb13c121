package catalog

import (
	"fmt"
	"sync"
)

// locks are those of groups and snapshots, by path. They are only tried: one
// that is taken is an error and not a wait (PBS protocol notes §9.5). No file
// locks are needed, for one process has the datastore open.
type locks struct {
	mu   sync.Mutex
	held map[string]int // readers, or -1
}

// exclusive takes what nobody holds; free gives it back.
func (l *locks) exclusive(what string) (free func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[what] != 0 {
		return nil, busy(what)
	}
	return l.take(what, -1), nil
}

// shared takes what nobody holds alone.
func (l *locks) shared(what string) (free func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[what] < 0 {
		return nil, busy(what)
	}
	return l.take(what, l.held[what]+1), nil
}

func (l *locks) take(what string, n int) (free func()) {
	if l.held == nil {
		l.held = map[string]int{}
	}
	l.held[what] = n
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.held[what]--; l.held[what] <= 0 {
			delete(l.held, what)
		}
	})
}

func busy(what string) error {
	return &opError{
		msg:  fmt.Sprintf("lock %s: %v", what, ErrBusy),
		cure: "wait until the backup, restore or verification that works on it has ended",
		err:  ErrBusy,
	}
}
