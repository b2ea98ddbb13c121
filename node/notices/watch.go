package notices

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/notify"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// A World is what is watched. A nil function is of something that there is not.
type World struct {
	Spaces  func() map[string]disk.Space                             // of the disks of the datastores that are open
	Quotas  func() map[string][]disk.Quota                           // likewise, of this user
	Newest  func(ctx context.Context, store string) ([]Group, error) // all groups
	Sites   func() []Site                                            // all other nodes
	Quorum  func() (there bool, why string)                          // of the ledger
	Breaker func() (open bool, why string)                           // of the guard
	Budgets func() []Budget                                          // of S3 clients
}

// A Group is a group of snapshots, and when its newest finished one was made.
type Group struct {
	Name   string // "vm/100", with its namespace in front
	Newest time.Time
}

// A Site is another node.
type Site struct {
	ID, Name, Site string
	Reached        bool
	Why            string // it is not
}

// How often is looked, and how long something has to be so until it is told.
const (
	lookEvery   = 30 * time.Second
	spaceEvery  = 5 * time.Minute
	staleEvery  = 30 * time.Minute
	goneAfter   = 5 * time.Minute
	quorumAfter = 2 * time.Minute
	goneHold    = time.Hour
)

// A watch is what was seen before.
type watch struct {
	*Notices
	gone         map[string]time.Time // nodes that are not reached, and since when
	told         map[string]bool      // of those
	noQuorum     time.Time            // since when; zero: there is one
	quorumTold   bool
	breaker      bool
	spaces, ages time.Time // when they were looked at
	bills        time.Time // likewise
}

// watch looks at the world until ctx is done.
func (n *Notices) watch(ctx context.Context) {
	w := &watch{Notices: n, gone: map[string]time.Time{}, told: map[string]bool{}}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.look(ctx, time.Now())
		}
	}
}

func (w *watch) look(ctx context.Context, now time.Time) {
	world := &w.cfg.World
	if world.Sites != nil {
		w.sites(world.Sites(), now)
	}
	if world.Quorum != nil {
		there, why := world.Quorum()
		w.quorum(there, why, now)
	}
	if world.Breaker != nil {
		open, why := world.Breaker()
		if open && !w.breaker {
			w.Tell(notify.Event{Type: typeBreaker, Severity: notify.Error, Title: "the guard of " + w.cfg.Name + " has stopped all deletion",
				Text: why + "\nLook at what was about to be deleted before you close the breaker.", Key: "breaker/" + why})
		}
		w.breaker = open
	}
	if now.Sub(w.spaces) >= spaceEvery {
		w.spaces = now
		w.space()
	}
	if world.Budgets != nil && now.Sub(w.bills) >= billsEvery {
		w.bills = now
		for _, b := range world.Budgets() {
			for _, e := range ofBudget(b) {
				w.Tell(e)
			}
		}
	}
	if world.Newest != nil && now.Sub(w.ages) >= staleEvery {
		w.ages = now
		w.stale(ctx, now)
	}
}

// space tells of disks and of quotas that are nearly used up.
func (w *watch) space() {
	tell := func(store, of string, s disk.Space) {
		for _, e := range ofSpace(store, of, s) {
			w.Tell(e)
		}
	}
	if w.cfg.World.Spaces != nil {
		for store, s := range w.cfg.World.Spaces() {
			tell(store, "", s)
		}
	}
	if w.cfg.World.Quotas != nil {
		for store, list := range w.cfg.World.Quotas() {
			for _, q := range list {
				tell(store, q.Of, q.Space)
			}
		}
	}
}

// sites tells of nodes that have been gone for a while, and of their return.
func (w *watch) sites(all []Site, now time.Time) {
	known := map[string]bool{}
	for _, s := range all {
		known[s.ID] = true
		fields := map[string]string{"site": s.Site, "hostname": s.Name}
		switch since, was := w.gone[s.ID]; {
		case s.Reached && w.told[s.ID]:
			w.Tell(notify.Event{Type: typeUnreachable, Severity: notify.Notice, Fields: fields, Title: fmt.Sprintf("%s at %s is reached again", s.Name, s.Site),
				Text: fmt.Sprintf("It was gone for %s.", now.Sub(since).Round(time.Minute)), Key: "back/" + s.ID, Hold: goneHold, Shared: true})
			delete(w.told, s.ID)
			delete(w.gone, s.ID)
		case s.Reached:
			delete(w.gone, s.ID)
		case !was:
			w.gone[s.ID] = now
		case now.Sub(since) >= goneAfter && !w.told[s.ID]:
			w.told[s.ID] = true
			w.Tell(notify.Event{Type: typeUnreachable, Severity: notify.Error, Fields: fields, Title: fmt.Sprintf("%s at %s is not reached", s.Name, s.Site),
				Text: fmt.Sprintf("%s has not reached it since %s. %s\nBackups and restores at other sites go on; copies wait until it is back.", w.cfg.Name, since.UTC().Format(time.DateTime+"Z"), s.Why),
				Key:  "gone/" + s.ID, Hold: goneHold, Shared: true})
		}
	}
	for id := range w.gone {
		if !known[id] { // it was removed
			delete(w.gone, id)
			delete(w.told, id)
		}
	}
}

func (w *watch) quorum(there bool, why string, now time.Time) {
	switch {
	case there:
		w.noQuorum, w.quorumTold = time.Time{}, false
	case w.noQuorum.IsZero():
		w.noQuorum = now
	case now.Sub(w.noQuorum) >= quorumAfter && !w.quorumTold:
		w.quorumTold = true
		w.Tell(notify.Event{Type: typeQuorum, Severity: notify.Error, Title: "the mesh has no quorum, seen from " + w.cfg.Name,
			Text: why + "\nBackups, restores, prune, verify and garbage collection go on. Accounts, settings and members cannot be changed until enough nodes are back: see holdfast status.",
			Key:  "quorum", Hold: goneHold, Shared: true})
	}
}

// stale tells of groups whose newest snapshot is older than is expected of its
// datastore.
func (w *watch) stale(ctx context.Context, now time.Time) {
	for _, d := range w.cfg.Settings.State().Datastores {
		age, err := settings.ParseAge(d.ExpectedAge)
		if d.ExpectedAge == "" || err != nil || age == 0 {
			continue
		}
		groups, err := w.cfg.World.Newest(ctx, d.Name)
		if err != nil {
			w.cfg.Log.Warn("ages of snapshots are not known", "datastore", d.Name, "err", err)
			continue
		}
		for _, g := range groups {
			if now.Sub(g.Newest) > age {
				w.Tell(ofStale(d.Name, g, age, now))
			}
		}
	}
}

func ofStale(store string, g Group, age time.Duration, now time.Time) notify.Event {
	last := "It has no finished snapshot."
	if !g.Newest.IsZero() {
		last = fmt.Sprintf("Its newest snapshot is of %s, %s ago; a new one is expected every %s.", g.Newest.UTC().Format(time.DateTime+"Z"), now.Sub(g.Newest).Round(time.Minute), age)
	}
	return notify.Event{Type: typeStale, Severity: notify.Error, Fields: map[string]string{"datastore": store}, Title: fmt.Sprintf("%s in datastore %s has no new snapshot", g.Name, store),
		Text: last + "\nIs its backup job still there, and does it run?", Key: "stale/" + store + "/" + g.Name}
}

func ofCorrupt(store string, damaged, missing int) notify.Event {
	return notify.Event{Type: typeCorrupt, Severity: notify.Error, Fields: map[string]string{"datastore": store},
		Title: fmt.Sprintf("datastore %s: damaged chunks: %d, missing: %d", store, damaged, missing),
		Text:  "Snapshots that need them are named in the log of the verification. Check the disk; chunks that another site holds are copied back from there.",
	}
}
