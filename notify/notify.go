package notify

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// A Target is where messages are sent. Send returns when the other side has
// accepted the message, and when ctx ends.
type Target interface {
	Send(ctx context.Context, m Message) error
}

// A Recipient is a target with a name, and how often it wants to hear.
type Recipient struct {
	Name   string
	Target Target

	// Interval is the least time between two messages with nothing worse than a
	// warning in them, so that they are digests of that time; default: a minute,
	// which is also what lies between two messages with errors.
	Interval time.Duration
}

// Rules say who hears of what.
type Rules struct {
	Recipients []Recipient
	Matchers   []Matcher
}

func (r Rules) recipient(name string) (Recipient, bool) {
	i := slices.IndexFunc(r.Recipients, func(x Recipient) bool { return x.Name == name })
	if i < 0 {
		return Recipient{}, false
	}
	return r.Recipients[i], true
}

// A Claimer tells apart the nodes that see the same event.
type Claimer interface {
	// Claim tells whether it is this node that tells of the event with a key
	// until a time. An error means that nobody knows; it is asked again.
	Claim(ctx context.Context, key string, until time.Time) (mine bool, err error)
}

// Config says how a [Notifier] behaves.
type Config struct {
	File    string       // required; where the queue is
	From    string       // required; who tells: the name of the node
	Rules   func() Rules // required; the newest; it must not wait
	Claimer Claimer      // default: this node tells of everything that it sees
	Log     *slog.Logger // default: discard
}

// The times of messages.
const (
	gather     = 10 * time.Second // from an event to its message, so that what comes together is told together
	settle     = time.Second      // from an event to the file's sync
	pause      = time.Minute      // between two messages to a target, at least
	retryFirst = 30 * time.Second // after a target could not be reached
	retryMost  = 30 * time.Minute
	sendTime   = time.Minute      // that a target has to accept a message
	claimAgain = 30 * time.Second // after nobody knew whose an event is
	claimTime  = 10 * time.Minute // then it is told: rather twice than never
	tidyEvery  = time.Minute
)

// A Notifier tells people of events. Its methods may be called from any
// goroutine.
type Notifier struct {
	cfg  Config
	wake chan struct{} // 1: something has changed

	mu       sync.Mutex
	queue    *queue
	states   map[string]*state // by target
	claimAt  time.Time         // not before
	claiming bool
	written  error // why the last change was not written down
}

// A state is how a target stands.
type state struct {
	sending bool
	last    time.Time // of the last message that it accepted, or of the start
	retry   time.Time // not before
	fails   int       // in a row
	err     error     // of the last try
	tried   time.Time
	sent    int // messages since the start
}

// New reads what waits from before. It tells nobody before [Notifier.Run], and
// has to be closed.
func New(cfg Config) (*Notifier, error) {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	switch {
	case cfg.File == "":
		return nil, errors.New("notify: no file for the queue")
	case cfg.From == "":
		return nil, errors.New("notify: nobody tells")
	case cfg.Rules == nil:
		return nil, errors.New("notify: no rules")
	}
	q, err := openQueue(cfg.File)
	if err != nil {
		return nil, fmt.Errorf("open the queue of notifications: %w", err)
	}
	return &Notifier{cfg: cfg, queue: q, wake: make(chan struct{}, 1), states: map[string]*state{}}, nil
}

// Close closes the queue of a Notifier that does not run. What is told after that
// is written down all the same: the last tasks end with the daemon.
func (n *Notifier) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.queue.close()
}

// Tell takes an event over, and waits for no target: when it returns, the event
// survives the end of the process, and within seconds that of the machine. An
// event that nobody is to hear of is forgotten.
func (n *Notifier) Tell(e Event) {
	now := time.Now()
	e = e.tidy(now)
	if e.Shared && (n.cfg.Claimer == nil || e.Key == "") {
		e.Shared = false
	}
	to := targetsOf(n.cfg.Rules().Matchers, e)
	n.mu.Lock()
	defer n.mu.Unlock()
	if until, was := n.queue.told[e.Key]; e.Key != "" && was && until.After(now) {
		return
	}
	if len(to) == 0 {
		return
	}
	n.do(record{Put: &entry{N: n.queue.next, Event: e, To: to}})
	n.poke()
}

// do changes the queue. A disk that is full is no reason to be silent.
func (n *Notifier) do(r record) {
	err := n.queue.do(r)
	if err != nil && n.written == nil {
		n.cfg.Log.Error("notifications cannot be written down: those that wait are lost when the daemon ends", "err", err)
	}
	n.written = err
}

func (n *Notifier) poke() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// Run tells the targets until ctx is done. Messages that are on their way then
// are cut off, and told again by the next Run.
func (n *Notifier) Run(ctx context.Context) error {
	var sending sync.WaitGroup
	defer sending.Wait()
	next := time.Now()
	for {
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-n.wake: // many events are one pass, and one sync of the file
			timer.Stop()
			if soon := time.Now().Add(settle); soon.Before(next) {
				next = soon
			}
		case <-timer.C:
			next = time.Now().Add(n.pass(ctx, &sending))
		}
	}
}

// pass sends what is due, and returns how long to wait for the next pass.
func (n *Notifier) pass(ctx context.Context, sending *sync.WaitGroup) time.Duration {
	rules, now := n.cfg.Rules(), time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := errors.Join(n.queue.sync(), n.queue.tidyUp(now)); err != nil && n.written == nil {
		n.written = err
		n.cfg.Log.Error("the queue of notifications is not on disk", "err", err)
	}
	wait := tidyEvery
	for _, name := range n.queue.targets() {
		r, is := rules.recipient(name)
		if !is {
			n.cfg.Log.Warn("a target of notifications is gone, with what waited for it", "target", name)
			n.do(record{Sent: &sent{name, n.queue.next}})
			continue
		}
		entries := n.queue.waiting(name)
		s := n.state(name)
		if s.sending || len(entries) == 0 && len(n.queue.tallies[name]) == 0 {
			continue
		}
		if at := s.due(r, entries); at.After(now) {
			wait = min(wait, at.Sub(now))
			continue
		}
		s.sending = true
		m, upTo := n.message(name, entries)
		sending.Go(func() { n.send(ctx, r, m, upTo) })
	}
	if list := n.queue.unclaimed(); len(list) > 0 && !n.claiming {
		if n.claimAt.After(now) {
			return min(wait, n.claimAt.Sub(now))
		}
		n.claiming = true
		sending.Go(func() { n.claim(ctx, list) })
	}
	return wait
}

func (n *Notifier) state(name string) *state {
	if n.states[name] == nil {
		n.states[name] = &state{}
	}
	return n.states[name]
}

// due returns when a target is sent what waits for it.
func (s *state) due(r Recipient, entries []*entry) time.Time {
	at, interval := s.retry, max(r.Interval, pause)
	for i, e := range entries {
		if first := e.Event.Time.Add(gather); i == 0 && first.After(at) {
			at = first
		}
		if rank(e.Event.Severity) >= rank(Error) {
			interval = pause
		}
	}
	if next := s.last.Add(interval); !s.last.IsZero() && next.After(at) {
		at = next
	}
	return at
}

// message makes the message of what waits for a target.
func (n *Notifier) message(target string, entries []*entry) (m Message, upTo uint64) {
	events := make([]Event, len(entries))
	for i, e := range entries {
		events[i], upTo = e.Event, e.N
	}
	tallies := slices.Clone(n.queue.tallies[target])
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d\x00%v\x00%v", n.cfg.From, target, upTo, events, tallies))
	return digest(hex.EncodeToString(sum[:12]), n.cfg.From, events, tallies), upTo
}

// send sends a message and notes what became of it.
func (n *Notifier) send(ctx context.Context, r Recipient, m Message, upTo uint64) {
	defer n.poke()
	err := attempt(ctx, r.Target, m)
	n.mu.Lock()
	defer n.mu.Unlock()
	s, now := n.state(r.Name), time.Now()
	s.sending, s.err, s.tried = false, err, now
	if err == nil {
		n.do(record{Sent: &sent{r.Name, upTo}})
		s.fails, s.retry, s.last = 0, time.Time{}, now
		s.sent++
		return
	}
	if ctx.Err() != nil {
		return
	}
	s.retry = now.Add(min(retryFirst<<min(s.fails, 10), retryMost))
	s.fails++
	n.cfg.Log.Warn("notification is not delivered; it waits", "target", r.Name, "events", m.Count, "tries", s.fails, "next", s.retry.UTC().Format(time.RFC3339), "err", err)
}

// attempt sends within the time that a target has, and takes a panic of a
// target's library for a failure.
func attempt(ctx context.Context, t Target, m Message) (err error) {
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the target has a bug: %v", p)
		}
	}()
	return t.Send(ctx, m)
}

// claim finds out which of the events that others see too are this node's.
func (n *Notifier) claim(ctx context.Context, list []entry) {
	defer n.poke()
	for _, e := range list {
		mine, err := n.cfg.Claimer.Claim(ctx, e.Event.Key, e.Event.Time.Add(e.Event.Hold))
		if ctx.Err() != nil {
			break
		}
		n.claimed(e, mine, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.claiming = false
}

func (n *Notifier) claimed(e entry, mine bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		if time.Since(e.Event.Time) < claimTime {
			n.claimAt = time.Now().Add(claimAgain)
			return
		}
		n.cfg.Log.Warn("nobody knows who tells of an event; this node does, and others may too", "event", e.Event.Key, "err", err)
		mine = true
	}
	if mine {
		e.Event.Shared = false
		n.do(record{Put: &entry{N: n.queue.next, Event: e.Event, To: e.To}})
	}
	n.do(record{Drop: e.N})
}

// Test sends a message to a target at once and says what became of it.
func (n *Notifier) Test(ctx context.Context, target string) error {
	r, is := n.cfg.Rules().recipient(target)
	if !is {
		return fmt.Errorf("there is no target %q, or it is disabled", target)
	}
	now := time.Now().UTC().Truncate(time.Second)
	e := Event{Type: "test", Severity: Info, Time: now, Title: "Test of notifications from " + n.cfg.From,
		Text: "If you can read this, " + n.cfg.From + " can tell you what happens to your backups by way of " + target + "."}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00test\x00%d", n.cfg.From, target, time.Now().UnixNano()))
	if err := attempt(ctx, r.Target, digest(hex.EncodeToString(sum[:12]), n.cfg.From, []Event{e}, nil)); err != nil {
		return fmt.Errorf("send a test to %s: %w", target, err)
	}
	return nil
}

// Status is how a target stands.
type Status struct {
	Target  string    `json:"target"`
	Waiting int       `json:"waiting"`             // events that it has not heard of
	Sent    int       `json:"sent"`                // messages since the daemon started
	Tried   time.Time `json:"tried,omitzero"`      // the last message
	Error   string    `json:"error,omitempty"`     // why it was not accepted
	Next    time.Time `json:"next-retry,omitzero"` // when it is tried again
}

// Status says how all targets stand.
func (n *Notifier) Status() (all []Status) {
	rules := n.cfg.Rules()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range rules.Recipients {
		s := n.state(r.Name)
		st := Status{Target: r.Name, Waiting: len(n.queue.waiting(r.Name)), Sent: s.sent, Tried: s.tried.UTC().Truncate(time.Second), Next: s.retry.UTC().Truncate(time.Second)}
		for _, t := range n.queue.tallies[r.Name] {
			st.Waiting += t.Count
		}
		if s.err != nil {
			st.Error = s.err.Error()
		}
		all = append(all, st)
	}
	return all
}
