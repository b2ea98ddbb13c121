package jobs

import (
	"errors"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs/stall"
)

// ErrStalled ends the work of a [Share] that has taken three times as long as any of the
// last runs, and half an hour at least, and got nowhere for 20 minutes, where another
// node could do it. Work that does not end then goes on as a task, without its slot, and
// its schedule does not run here before it has ended.
var ErrStalled = errors.New("stalled: it got nowhere for 20 minutes, and is left to another node")

// await waits for the end of a run that is shared, or until it has stalled.
func (s *Scheduler) await(e *entry, u UPID, end <-chan Info) (i Info, stalled bool) {
	t := s.cfg.Manager.running(u)
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for began := time.Now(); ; {
		select {
		case i = <-end:
			return i, stalled
		case now := <-look.C:
			switch {
			case stalled: // it was asked, and does not listen
				if !s.hang(e, u) {
					i = <-end // just now
				}
				return i, true
			case t != nil && t.signs.Quiet(now) >= stall.After && now.Sub(began) >= stall.Deadline(s.took(e)) && s.cfg.Relief != nil && s.cfg.Relief(e.Name):
				stalled = true
				t.Logf("it got nowhere for %s, and another node can do it: stopping", stall.After)
				t.cancel(ErrStalled)
			}
		}
	}
}

// hang notes that the task of an entry goes on without its slot; false if it has ended.
func (s *Scheduler) hang(e *entry, u UPID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.runs[e.Name]
	e.hung = r.Task == nil || *r.Task != u || r.End.IsZero()
	return e.hung
}

// took is how long the last runs of an entry took.
func (s *Scheduler) took(e *entry) (all []time.Duration) {
	for _, r := range s.History(e.Name) {
		all = append(all, r.End.Sub(r.Task.Time()))
	}
	return all
}
