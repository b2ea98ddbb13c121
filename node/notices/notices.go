// Package notices turns what happens on a node into notifications: tasks that
// end, slots that are missed, disks that fill up, sites that are gone. Who hears
// of it is said in the settings; how it gets there is package notify's.
package notices

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/notify"
	"github.com/holdfast-mesh/holdfast/pbs/api/notifications"
	"github.com/holdfast-mesh/holdfast/pbs/secrets"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// Config says what is told, and by whom.
type Config struct {
	File       string // required; the queue of what is to be told
	Name, Site string // required; of the node
	Settings   settings.Store
	Secrets    *secrets.Secrets
	World      World          // what is watched
	Claimer    notify.Claimer // nil: there is no other node
	Log        *slog.Logger   // default: discard
}

// Notices tell people. Methods may be called from any goroutine.
type Notices struct {
	*notify.Notifier
	cfg Config

	mu   sync.Mutex
	from *settings.State // what rules were made of
	with any
	now  notify.Rules
}

// New opens the queue. The Notices have to be closed.
func New(cfg Config) (*Notices, error) {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if cfg.Settings == nil || cfg.Secrets == nil {
		return nil, errors.New("notices: no settings, or no secrets")
	}
	n := &Notices{cfg: cfg}
	var err error
	n.Notifier, err = notify.New(notify.Config{File: cfg.File, From: cfg.Name, Rules: n.rules, Claimer: cfg.Claimer, Log: cfg.Log})
	return n, err
}

// Run tells people, and watches what does not tell by itself, until ctx is done.
func (n *Notices) Run(ctx context.Context) error {
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { n.watch(ctx) })
	return n.Notifier.Run(ctx)
}

// rules are those of the newest settings. What cannot be used is left out, and
// said once.
func (n *Notices) rules() notify.Rules {
	n.mu.Lock()
	defer n.mu.Unlock()
	state, with := n.cfg.Settings.State(), n.cfg.Secrets.Version()
	if n.from == state && n.with == with {
		return n.now
	}
	n.from, n.with, n.now = state, with, notify.Rules{}
	for _, t := range state.NotifyTargets {
		if t.Disable {
			continue
		}
		r, err := recipient(t, n.secrets(t.Name))
		if err != nil {
			n.cfg.Log.Error("a target of notifications is of no use", "target", t.Name, "err", err)
			continue
		}
		n.now.Recipients = append(n.now.Recipients, r)
	}
	for _, m := range state.NotifyMatchers {
		if m.Disable {
			continue
		}
		made, err := matcher(m)
		if err != nil {
			n.cfg.Log.Error("a matcher of notifications is of no use", "matcher", m.Name, "err", err)
			continue
		}
		n.now.Matchers = append(n.now.Matchers, made)
	}
	return n.now
}

func (n *Notices) secrets(target string) map[string]string {
	have := map[string]string{"": n.cfg.Secrets.Get(notifications.SecretOf(target))}
	maps.Copy(have, n.cfg.Secrets.Below(notifications.SecretOf(target)+"/"))
	return have
}

// Tell adds to an event who tells, and tells it.
func (n *Notices) Tell(e notify.Event) {
	fields := map[string]string{"hostname": n.cfg.Name, "site": n.cfg.Site}
	maps.Copy(fields, e.Fields)
	e.Fields = fields
	n.Notifier.Tell(e)
}

// TaskEnded tells that a task has ended.
func (n *Notices) TaskEnded(i jobs.Info) {
	if e, is := ofTask(i); is {
		n.Tell(e)
	}
}

// Missed tells that a schedule has not run when it was due.
func (n *Notices) Missed(s jobs.Schedule, first, last time.Time) {
	n.Tell(ofMissed(s, first, last, time.Now()))
}

// Corrupt tells that chunks of a datastore are damaged or missing.
func (n *Notices) Corrupt(store string, damaged, missing int) {
	n.Tell(ofCorrupt(store, damaged, missing))
}

// CheckTarget says what is wrong with a target.
func (n *Notices) CheckTarget(t settings.NotifyTarget, secrets map[string]string) error {
	_, err := recipient(t, secrets)
	return err
}

// CheckMatcher says what is wrong with a matcher.
func (n *Notices) CheckMatcher(m settings.NotifyMatcher) error {
	_, err := matcher(m)
	return err
}

// Deliveries say how all targets stand.
func (n *Notices) Deliveries() any {
	if all := n.Status(); all != nil {
		return all
	}
	return []notify.Status{}
}

// Types are those of events.
func (n *Notices) Types() []string { return Types() }
