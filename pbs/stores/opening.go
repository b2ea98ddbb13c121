package stores

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// errOpening is why a datastore cannot be used yet: its disk or its bucket is
// slow, or its index has to be made anew.
var errOpening = errors.New("it is being opened: try again in a moment, the log says when it is ready")

// opener opens datastores side by side. None waits for another, except for its
// turn, and nobody waits for one whose disk hangs.
type opener struct {
	turns chan struct{}
	life  context.Context // of the Set
	end   context.CancelFunc
	work  sync.WaitGroup
}

// side is how many datastores are opened side by side. One that hangs keeps its
// turn, so there are more of them than disks can use.
const side = 16

// init makes it ready, for the first time or after close.
func (o *opener) init() {
	o.turns = make(chan struct{}, side)
	o.life, o.end = context.WithCancel(context.Background())
}

// close has what is still being opened give up, and waits for it until ctx ends.
func (o *opener) close(ctx context.Context) error {
	o.end()
	done := make(chan struct{})
	go func() { o.work.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.New("a datastore is still being opened: its disk hangs")
	}
}

// begin begins to open a datastore; done is closed when it is open, or the
// reason why it cannot be is noted. Until then nobody can use it.
func (s *Set) begin(want settings.Datastore) (done <-chan struct{}) {
	place := &store{name: want.Name, dir: want.Path, as: s.version(want), opening: true, err: errOpening}
	s.mu.Lock()
	before := s.stores[want.Name]
	if before != nil {
		place.err = before.err // until that is known to have changed
	}
	s.stores[want.Name] = place
	s.mu.Unlock()
	finished, turns, life := make(chan struct{}), s.opener.turns, s.opener.life
	s.opener.work.Go(func() {
		defer close(finished)
		select {
		case turns <- struct{}{}:
			defer func() { <-turns }()
		case <-life.Done():
			return
		}
		s.open(life, want, place, before)
	})
	return finished
}

// open opens a datastore and puts it where place is, or notes why it cannot. If
// place has gone meanwhile, nobody wants the datastore any more.
func (s *Set) open(ctx context.Context, want settings.Datastore, place, before *store) {
	start := time.Now()
	st := &store{name: want.Name, dir: want.Path, as: place.as}
	d, err := s.openOne(ctx, st, want)
	if st.err = err; err == nil {
		st.d = d
		st.gc = s.readGC(d)
		if s.cfg.Changed != nil {
			d.Watch(func(ns catalog.Namespace, g catalog.Group) { s.cfg.Changed(want.Name, ns, g) })
		}
	}
	log := s.cfg.Log.With("store", want.Name, "dir", want.Path)
	s.mu.Lock()
	wanted := s.stores[want.Name] == place
	if wanted {
		st.leaving = place.leaving
		s.stores[want.Name] = st
	}
	s.mu.Unlock()
	switch {
	case !wanted:
		if err := s.shut(st); err != nil {
			log.Warn("datastore was opened too late, and cannot be closed", "err", err)
		}
	case err == nil:
		log.Info("datastore is open", "took", time.Since(start))
	case ctx.Err() != nil: // all ends
	case errors.Is(err, ErrAway):
		log.Info("datastore is not open", "err", err)
	case before == nil || before.err.Error() != err.Error(): // not again every minute
		log.Error("datastore cannot be opened", "err", err)
	}
}

// await waits until what was begun is done, for as long as others may have to
// wait for it. What is left goes on, and holds up nobody.
func (s *Set) await(ctx context.Context, begun []<-chan struct{}) error {
	late := time.NewTimer(s.cfg.Patience)
	defer late.Stop()
	for i, done := range begun {
		select {
		case <-done:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-late.C:
			s.cfg.Log.Warn("datastores are slow to open: the others are served meanwhile", "waiting", len(begun)-i)
			return nil
		}
	}
	return nil
}
