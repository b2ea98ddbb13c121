package pulls

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/replication"
	"github.com/holdfast-mesh/holdfast/replication/swarm"
)

// healType is what tasks are called that heal a datastore.
const healType = "heal"

// healEvery is how often datastores are healed that are known to lack something:
// who has it may have been away before. The first time is soon after the start.
const (
	healEvery = 24 * time.Hour
	healFirst = 10 * time.Minute
)

// A Healing says how the last healing of a datastore went.
type Healing struct {
	UPID    jobs.UPID      `json:"upid"`
	At      time.Time      `json:"at"` // when it ended; zero: it runs
	Error   string         `json:"error,omitempty"`
	Lost    int            `json:"lost"`      // chunks that were damaged or missing
	Fetched int            `json:"fetched"`   // of these
	Whole   int            `json:"whole"`     // of these, which were whole after all
	Bytes   int64          `json:"bytes"`     // fetched
	From    map[string]int `json:"by-source"` // chunks that each source gave
	Hurt    int            `json:"snapshots"` // that lacked something
	AtRisk  []string       `json:"at-risk"`   // that still do, as NS:TYPE/ID/TIME
}

// healings are those of this process, by datastore.
type healings struct {
	mu   sync.Mutex
	last map[string]Healing
	runs map[string]bool
}

// Healing returns how the last healing of a datastore in this process went, nil
// if there was none.
func (p *Pulls) Healing(store string) *Healing {
	p.healings.mu.Lock()
	defer p.healings.mu.Unlock()
	h, is := p.healings.last[store]
	if !is {
		return nil
	}
	return &h
}

// StartHeal begins to heal a datastore: chunks that are damaged or missing are
// fetched from every node and datastore that has them. With full, it looks for
// missing chunks in all snapshots, not in those alone that failed their
// verification.
func (p *Pulls) StartHeal(store, auth string, full bool) (jobs.UPID, error) {
	_, done, err := p.cfg.Stores.Use(store, true)
	if err != nil {
		return jobs.UPID{}, err
	}
	done()
	h := &p.healings
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.runs[store] {
		return jobs.UPID{}, &hinted{fmt.Errorf("datastore '%s' is being healed", store), "`holdfast task list` names the task"}
	}
	u, err := p.cfg.Tasks.Start(context.Background(), healType, store, auth, func(ctx context.Context, t *jobs.Task) error {
		report, err := p.heal(ctx, t, store, full)
		p.healed(t.UPID(), store, report, err)
		return err
	})
	if err == nil {
		h.runs[store] = true
	}
	return u, err
}

// healed notes how a healing went.
func (p *Pulls) healed(u jobs.UPID, store string, r replication.HealReport, err error) {
	n := Healing{UPID: u, At: time.Now(), Lost: r.Lost, Fetched: r.Fetched, Whole: r.Whole, Bytes: r.Bytes, From: r.From, Hurt: r.Snapped, AtRisk: []string{}}
	for _, s := range r.AtRisk {
		n.AtRisk = append(n.AtRisk, s.String())
	}
	if err != nil {
		n.Error = err.Error()
	}
	h := &p.healings
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last[store] = n
	delete(h.runs, store)
}

// HealSoon heals a datastore in a task of its own, and waits for nothing. It is
// what a verification asks for that has found damage.
func (p *Pulls) HealSoon(store string) {
	if _, err := p.StartHeal(store, ownerOfRuns, false); err != nil {
		p.cfg.Log.Info("a datastore is not healed now", "store", store, "err", err)
	}
}

func (p *Pulls) heal(ctx context.Context, t *jobs.Task, store string, full bool) (replication.HealReport, error) {
	d, done, err := p.cfg.Stores.Use(store, true)
	if err != nil {
		return replication.HealReport{}, err
	}
	defer done()
	t.Logf("heal datastore %s", store)
	if ti, away, err := p.cfg.Stores.UseTier(store); err == nil { // first what is nearest
		if err := ti.Rescue(ctx); err != nil {
			t.Warnf("what this machine or the bucket still has of packs that are lost was not looked for: %v", err)
		}
		away()
	}
	sources := p.everywhere(ctx, store, t.Logf)
	defer func() {
		for _, s := range sources {
			s.Close()
		}
	}()
	if len(sources) == 0 {
		if hurt, err := p.hurt(ctx, store); err == nil && !hurt && !full {
			t.Logf("nothing of it is known to be damaged or missing")
			return replication.HealReport{}, nil
		}
		return replication.HealReport{}, &hinted{errors.New("there is nobody to ask for chunks"), "a copy at another site heals: see docs/replication.md; or back up the guests again, which brings what is missing"}
	}
	c := replication.HealConfig{Local: d, Full: full, UPID: t.UPID().String(), Printf: t.Logf, Log: p.cfg.Log.With("store", store)}
	for _, s := range sources {
		c.Sources = append(c.Sources, s)
	}
	if k := p.keeper(store, d); k != nil {
		c.Sums, c.Origin = k, p.askOrigin
	}
	report, err := replication.Heal(ctx, c)
	if ctx.Err() != nil {
		return report, context.Cause(ctx)
	}
	if err == nil && len(report.AtRisk) > 0 {
		err = &hinted{fmt.Errorf("%d snapshots lack chunks that nobody who answered has", len(report.AtRisk)), "the log names them; it is tried again every day, and a new backup of these guests brings what is missing"}
	}
	return report, err
}

// everywhere returns all datastores that this node may read but one of its own:
// whoever has a chunk may give it, whatever it belongs to there.
func (p *Pulls) everywhere(ctx context.Context, but string, note func(string, ...any)) (list []chunksOnly) {
	ask := map[string]Member{p.cfg.Self: {ID: p.cfg.Self, Name: p.nameOf(p.cfg.Self)}}
	for _, m := range p.cfg.Members() {
		ask[m.ID] = m
	}
	for m, stores := range p.askStores(ctx, ask, note) {
		for _, store := range stores {
			if m.ID == p.cfg.Self && store == but || len(list) == swarm.MaxSources {
				continue
			}
			c, err := p.client(m, store, p.in)
			if err != nil {
				note("%s:%s is not asked: %v", m.Name, store, err)
				continue
			}
			list = append(list, chunksOnly{c})
		}
	}
	return list
}

// heals has datastores healed every day that are known to lack something.
func (p *Pulls) heals(ctx context.Context) error {
	next := time.NewTimer(healFirst)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case store := <-p.left:
			if d, done, err := p.cfg.Stores.Use(store, true); err == nil {
				p.tidy(store, d)
				done()
			}
			continue
		case <-next.C:
			next.Reset(healEvery)
		}
		for _, s := range p.cfg.Settings.State().Datastores {
			if hurt, err := p.hurt(ctx, s.Name); hurt && ctx.Err() == nil {
				p.HealSoon(s.Name)
			} else if err != nil {
				p.cfg.Log.Debug("it is not known whether a datastore lacks something", "store", s.Name, "err", err)
			}
			p.sweep(ctx, s.Name)
		}
	}
}

// tidy removes what is left in a datastore of jobs that are no more.
func (p *Pulls) tidy(store string, d *catalog.Datastore) {
	state := p.cfg.Settings.State()
	err := replication.Tidy(d, func(id string) bool {
		j, is := state.SyncJob(id)
		return is && j.Store == store
	})
	if err != nil {
		p.cfg.Log.Warn("what jobs have left that were removed stays", "store", store, "err", err)
	}
}

// hurt tells whether a datastore is known to lack something.
func (p *Pulls) hurt(ctx context.Context, store string) (bool, error) {
	d, done, err := p.cfg.Stores.Use(store, true)
	if err != nil {
		return false, err
	}
	defer done()
	if d.Chunks().Quarantined().Len() > 0 {
		return true, nil
	}
	all, err := d.List(ctx, catalog.ListOptions{Depth: -1})
	return slices.ContainsFunc(all, func(i catalog.Info) bool { return i.Verification != nil && !i.Verification.OK() }), err
}
