package sessions

import (
	"net/http"
	"sync"

	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// A kind is one of the two kinds of session.
type kind int

const (
	backupKind kind = iota
	readerKind
)

var kindNames = [...]string{"backup", "reader"}

// count knows how many sessions run, and what they may take.
type count struct {
	limit [2]int   // by kind
	cost  [2]int64 // bytes of memory, at most
	total int64    // of all of them

	mu sync.Mutex

	running map[string]*[2]int // by datastore
	sum     [2]int
	held    int64
}

func (c *count) init(cfg Config, backup, reader int64) {
	c.limit = [2]int{cfg.Backups, cfg.Readers}
	c.cost = [2]int64{backup, reader}
	c.total = cfg.Memory
	c.running = map[string]*[2]int{}
}

// enter counts a session until leave is called, or refuses it. The first is
// always let in, however little memory there is.
func (c *count) enter(k kind, store string) (leave func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.sum[k] >= c.limit[k]:
		return nil, upgrade.Errorf(http.StatusServiceUnavailable,
			"%d %s sessions are running, which is as many as this server takes: try again when one has ended", c.sum[k], kindNames[k])
	case c.held > 0 && c.held+c.cost[k] > c.total:
		return nil, upgrade.Errorf(http.StatusServiceUnavailable,
			"no memory is left for another %s session: %d backups and %d readers are running, which may take %d MiB of %d: try again when one has ended",
			kindNames[k], c.sum[backupKind], c.sum[readerKind], c.held>>20, c.total>>20)
	}
	n := c.running[store]
	if n == nil {
		n = &[2]int{}
		c.running[store] = n
	}
	n[k]++
	c.sum[k]++
	c.held += c.cost[k]
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		n[k]--
		c.sum[k]--
		c.held -= c.cost[k]
		if *n == [2]int{} {
			delete(c.running, store)
		}
	}), nil
}

// Active returns how many backup and reader sessions of a datastore are
// running; of all, for "".
func (s *Server) Active(store string) (backups, readers int) {
	c := &s.count
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.sum
	if store != "" {
		n = [2]int{}
		if of := c.running[store]; of != nil {
			n = *of
		}
	}
	return n[backupKind], n[readerKind]
}
