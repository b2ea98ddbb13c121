package plans

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/jobs/timing"
	"github.com/holdfast-mesh/holdfast/mesh/facts"
	"github.com/holdfast-mesh/holdfast/pbs/api/rules"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// A Site is a node whose jobs are planned.
type Site struct {
	Node, Site string
	State      *settings.State
	Zone       *time.Location // of schedules that do not say which they are meant in
	Resolve    func(remote string) (node string, is bool)
	Took       func(job string) time.Duration // the last run; 0: not known
}

// Calendar lists when the jobs of all nodes are due, in order, each with its flow, how
// long it took last, and which others that work on the same datastore it overlaps. Of
// what nodes share there is one line for each.
func Calendar(all []Site, from, until time.Time) []rules.Slot {
	var list []rules.Slot
	var uses [][]string
	for _, s := range all {
		for _, job := range s.State.Scheduled() {
			flow, on := s.flow(job)
			for _, at := range s.times(job, from, until) {
				list = append(list, rules.Slot{At: at.Unix(), Node: s.Node, Site: s.Site, Job: job, Flow: flow, Took: int64(s.Took(job) / time.Second), Shared: s.State.Rule(job).Shared})
				uses = append(uses, on)
				list[len(list)-1].Store, list[len(list)-1].NS, _ = s.State.Place(job)
			}
		}
	}
	order := make([]int, len(list))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(list[a].At, list[b].At), cmp.Compare(list[a].Node, list[b].Node), cmp.Compare(list[a].Job, list[b].Job))
	})
	sorted := make([]rules.Slot, 0, len(list))
	for n, i := range order {
		for _, before := range order[:n] {
			a, b := list[before], &list[i]
			if a.At+max(a.Took, least) > b.At && (a.Node != b.Node || a.Job != b.Job) && common(uses[before], uses[i]) {
				b.Overlaps = append(b.Overlaps, a.Node+"/"+a.Job)
			}
		}
		sorted = append(sorted, list[i])
	}
	return sorted
}

// least is how many seconds a run is taken for whose length is not known.
const least = 60

func common(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

// maxTimes are shown of a job.
const maxTimes = 200

// times are those at which a job is due.
func (s Site) times(job string, from, until time.Time) (all []time.Time) {
	sched := s.State.Timed(job, jobs.Schedule{Event: s.State.EventOf(job)})
	event, err := jobs.ParseEvent(sched.Event)
	if err != nil || sched.Paused {
		return nil
	}
	rule := timing.Rule{Event: event, Windows: sched.Windows}
	if sched.Stagger {
		rule.Delay = timing.Stagger(settings.ScheduleOf(job), event)
	}
	zone := cmp.Or(sched.Zone, s.Zone, time.UTC)
	for base := from.Add(-rule.Delay - time.Second).In(zone); len(all) < maxTimes; {
		slot, due, ok := rule.Next(base)
		if !ok || !due.Before(until) {
			return all
		}
		if n := len(all); n == 0 || !all[n-1].Equal(due) { // several wait for one window
			all = append(all, due)
		}
		base = slot
	}
	return all
}

// flow says from where to where a job moves data, and which datastores it works on.
func (s Site) flow(job string) (text string, on []string) {
	kind, id, _ := strings.Cut(job, ":")
	store, ns, _ := s.State.Place(job)
	here := s.Node + "/" + store
	on = []string{here}
	if ns != "" {
		store += ":" + ns
	}
	here = s.Node + "/" + store
	switch kind {
	case "sync":
		j, _ := s.State.SyncJob(id)
		there := cmp.Or(j.Remote, s.Node)
		if node, is := s.Resolve(j.Remote); is {
			there = node
		}
		on = append(on, there+"/"+j.RemoteStore)
		there += "/" + j.RemoteStore
		if j.RemoteNS != "" {
			there += ":" + string(j.RemoteNS)
		}
		if j.Pushes() {
			return here + " → " + there, on
		}
		return there + " → " + here, on
	case "offload":
		j, _ := s.State.OffloadJob(id)
		return here + " → " + s.Node + "/" + j.To, append(on, s.Node+"/"+j.To)
	case "export":
		j, _ := s.State.ExportJob(id)
		return here + " → " + j.Path, on
	}
	return here, on
}

// Took returns how long the last run of a job took, by what its node has said of its
// runs; 0 if it has not.
func Took(said []facts.Run, state *settings.State, job string) time.Duration {
	kind, id, _ := strings.Cut(job, ":")
	typ, _, _ := strings.Cut(settings.ScheduleOf(job), ":")
	store, ns, _ := state.Place(job)
	is := func(of string) bool { return strings.HasSuffix(of, ":"+id) }
	switch kind {
	case "gc":
		is = func(of string) bool { return of == id }
	case "prune":
		is = func(of string) bool { return of == store && ns == "" || of == store+":"+ns }
	}
	for _, r := range said { // the newest first
		if u, err := jobs.ParseUPID(r.ID); err == nil && r.Of == typ && is(r.Job) && !r.Ended.IsZero() {
			return r.Ended.Sub(u.Time())
		}
	}
	return 0
}
