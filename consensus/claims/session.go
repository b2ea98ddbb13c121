package claims

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
)

// A word is what this node has heard of another's session, as the leader.
type word struct {
	epoch uint64
	at    time.Time
}

// Run keeps the session of this node, if it has one, and ends those of others
// while this node leads, until ctx is done. Work that still runs then is told.
func (c *Claims) Run(ctx context.Context) error {
	var tasks sync.WaitGroup
	every := func(d time.Duration, do func()) {
		tasks.Go(func() {
			tick := time.NewTicker(d)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
					do()
				}
			}
		})
	}
	every(c.cfg.Times.Alive, func() { c.say(ctx) })
	every(c.cfg.Times.Alive, func() { c.endLater(ctx) })
	every(c.cfg.Times.Alive/4, func() { c.judge(time.Now()) })
	every(c.cfg.Times.Alive/4, func() { c.expire(ctx, time.Now()) })
	tasks.Wait()
	if s := c.current(); s != nil {
		c.drop(s, fmt.Errorf("%w: the node ends", ErrLost))
	}
	return nil
}

func (c *Claims) current() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session
}

// open returns the session of this node, and opens one if there is none.
func (c *Claims) open(ctx context.Context) (*session, error) {
	select {
	case c.opening <- struct{}{}:
		defer func() { <-c.opening }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if s := c.current(); s != nil {
		return s, nil
	}
	was, _ := ledger.Sessions.Get(c.cfg.Client.Ledger.View(), c.self.NodeID())
	// A clock that was set back must not make an epoch that was there before.
	epoch := max(was.Body.Epoch+1, uint64(max(0, time.Now().UnixMilli())))
	asked := time.Now()
	if _, err := c.cfg.Client.Do(ctx, "node", "", ledger.KindSession, ledger.OpenSession{Epoch: epoch}); err != nil {
		return nil, fmt.Errorf("open a session: %w", err)
	}
	s := &session{epoch: epoch, acked: asked}
	s.ctx, s.lose = context.WithCancelCause(context.Background())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session = s
	return s, nil
}

// drop ends a session here. Those that wait for its context are told why.
func (c *Claims) drop(s *session, why error) {
	c.mu.Lock()
	if c.session == s {
		c.session = nil
	}
	c.mu.Unlock()
	s.lose(why)
}

// say tells the leader that this node lives.
func (c *Claims) say(ctx context.Context) {
	s := c.current()
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Times.Alive)
	defer cancel()
	sent := time.Now()
	answer, err := c.cfg.Ask(ctx, binary.BigEndian.AppendUint64(nil, s.epoch))
	switch {
	case err != nil:
		c.cfg.Log.Debug("the leader has not heard that this node lives", "err", err)
	case len(answer) != 1 || answer[0] != 1:
		c.drop(s, fmt.Errorf("%w: the leader has ended the session", ErrLost))
	default:
		c.mu.Lock()
		s.acked = sent
		c.mu.Unlock()
	}
}

// judge drops the session of this node if it was not answered for too long. The
// monotonic clock may stand still while a machine sleeps, and the other one may
// be set: what says more counts.
func (c *Claims) judge(now time.Time) {
	s := c.current()
	if s == nil {
		return
	}
	c.mu.Lock()
	silent := max(now.Sub(s.acked), now.Round(0).Sub(s.acked.Round(0)))
	c.mu.Unlock()
	if silent >= c.cfg.Times.Stop {
		c.drop(s, fmt.Errorf("%w: no leader has answered for %s", ErrLost, silent.Round(time.Second)))
	}
}

// Answer answers what [Config.Ask] of another node has asked this one, which
// leads: 1 if its session is open, else 0. It is an error if it does not lead.
func (c *Claims) Answer(node string, question []byte) ([]byte, error) {
	if len(question) != 8 {
		return nil, fmt.Errorf("a word of %d bytes", len(question))
	}
	if !c.cfg.Leads() {
		return nil, errors.New("this node does not lead")
	}
	epoch := binary.BigEndian.Uint64(question)
	row, is := ledger.Sessions.Get(c.cfg.Client.Ledger.View(), node)
	if is && row.Body.Epoch > epoch || is && row.Body.Epoch == epoch && !row.Body.Open {
		return []byte{0}, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard[node] = word{epoch, time.Now()}
	return []byte{1}, nil // one that is not here yet is on its way
}

// expire ends the sessions that this node, which leads, has not heard of for too
// long. A new leader gives everybody the whole time.
func (c *Claims) expire(ctx context.Context, now time.Time) {
	for _, s := range c.silent(now) {
		_, err := c.cfg.Client.Do(ctx, "node", "", ledger.KindExpire, s)
		if err != nil && ctx.Err() == nil {
			c.cfg.Log.Debug("a session was not ended", "node", s.Node.NodeID(), "err", err)
			continue
		}
		c.cfg.Log.Info("a node was not heard of, and its session was ended; others may do its work", "node", s.Node.NodeID())
	}
}

func (c *Claims) silent(now time.Time) (list []ledger.ExpireSession) {
	leads, v := c.cfg.Leads(), c.cfg.Client.Ledger.View()
	c.mu.Lock()
	defer c.mu.Unlock()
	if leads != c.led {
		c.led = leads
		clear(c.heard)
	}
	if !leads {
		return nil
	}
	for id, row := range ledger.Sessions.All(v) {
		if !row.Body.Open {
			continue
		}
		w, known := c.heard[id]
		if !known || w.epoch < row.Body.Epoch {
			c.heard[id] = word{row.Body.Epoch, now}
			continue
		}
		if key, err := authority.ParseNodeID(id); err == nil && now.Sub(w.at) >= c.cfg.Times.TTL {
			list = append(list, ledger.ExpireSession{Node: key, Epoch: row.Body.Epoch})
		}
	}
	return list
}

// endLater says what became of runs whose end could not be said.
func (c *Claims) endLater(ctx context.Context) {
	c.mu.Lock()
	list := c.unended
	c.unended = nil
	s := c.session
	c.mu.Unlock()
	for i, e := range list {
		if s == nil || s.epoch != e.epoch {
			continue // its session has ended, and with it the claim
		}
		err := c.end(ctx, e)
		var refused *ledger.Error
		if err != nil && !errors.As(err, &refused) {
			c.mu.Lock()
			c.unended = append(c.unended, list[i:]...)
			c.mu.Unlock()
			return
		}
	}
}
