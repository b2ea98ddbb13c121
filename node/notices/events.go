package notices

import (
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/notify"
)

// The types of events that tasks do not have.
const (
	typeMissed      = "missed-slot"
	typeCapacity    = "capacity"
	typeCorrupt     = "corrupt-chunk"
	typeUnreachable = "site-unreachable"
	typeStale       = "stale-snapshot"
	typeQuorum      = "quorum-lost"
	typeBreaker     = "guard-breaker"
)

// runs are the types of tasks that are told of when they end, and what their
// events are called. Backups and restores tell those who began them.
var runs = map[string]string{
	"garbage_collection": "gc", "prune": "prune", "prunejob": "prune", "prunejobs": "prune",
	"verify": "verify", "verify_group": "verify", "verify_snapshot": "verify", "verificationjob": "verify",
	"sync": "sync", "syncjob": "sync", "pull": "sync", "push": "sync",
	"heal": "heal", "offload": "offload", "offloadjob": "offload", "exportjob": "export", "audit": "audit", "export": "export", "s3-doctor": typeDoctor,
}

// Types are those of all events.
func Types() []string {
	return []string{"audit", typeBudget, typeCapacity, typeCorrupt, typeDoctor, "export", "gc", typeBreaker, "heal", typeMissed, "offload", "prune", typeQuorum, typeUnreachable, typeStale, "sync", "verify"}
}

// ofTask returns the event of a task that has ended; false: nobody is told.
func ofTask(i jobs.Info) (notify.Event, bool) {
	typ, is := runs[i.UPID.Type]
	if !is || i.State == jobs.Running {
		return notify.Event{}, false
	}
	e := notify.Event{Type: typ, Severity: notify.Info, Time: i.End, Fields: map[string]string{}}
	what := typ + " of " + i.UPID.ID
	switch i.UPID.Type {
	case "verificationjob", "syncjob", "offloadjob", "exportjob":
		store, job := jobOf(i.UPID.Type, i.UPID.ID)
		e.Fields["job-id"] = job
		what = typ + " job " + job
		if store != "" {
			e.Fields["datastore"] = store
		}
	default:
		if store, _, _ := strings.Cut(i.UPID.ID, ":"); store != "" {
			e.Fields["datastore"] = store
		}
	}
	switch i.State {
	case jobs.OK:
		e.Title = what + " is done"
	case jobs.Warning:
		e.Severity, e.Title = notify.Warning, fmt.Sprintf("%s is done, with %d warnings", what, i.Warnings)
	case jobs.Unknown:
		e.Severity, e.Title = notify.Error, what+" did not end: the daemon did before"
	default:
		e.Severity, e.Title = notify.Error, what+" failed: "+i.Message
	}
	began := time.Unix(i.UPID.Start, 0).UTC()
	e.Text = fmt.Sprintf("%s\n\nIt began %s and took %s.\nIts log: holdfast task log '%s'", e.Title,
		began.Format(time.DateTime+"Z"), i.End.Sub(began).Round(time.Second), i.UPID)
	return e, true
}

// jobOf reads the ID of a job's task: "JOB", or words with colons of which the last is
// the job, and the first a datastore; of a sync job it is the third, and of an offload
// the second, since they begin with the other side.
func jobOf(typ, id string) (store, job string) {
	words := strings.Split(id, ":")
	if at := map[string]int{"syncjob": 2, "offloadjob": 1}[typ]; at < len(words)-1 {
		store = words[at]
	}
	return store, words[len(words)-1]
}

// ofMissed returns the event of a schedule that did not run in time.
func ofMissed(s jobs.Schedule, due, last, now time.Time) notify.Event {
	e := notify.Event{
		Type: typeMissed, Severity: notify.Warning, Time: now, Fields: map[string]string{},
		Title: fmt.Sprintf("%s did not run at %s", s.Name, due.Format("2006-01-02 15:04 MST")),
		Text:  "The node was down or asleep then, or the run before took too long. ",
		Key:   fmt.Sprintf("missed/%s/%d", s.Name, due.Unix()),
	}
	if _, job, is := strings.Cut(s.Name, ":"); is {
		e.Fields["job-id"] = job
	}
	if store, _, _ := strings.Cut(s.ID, ":"); store != "" {
		e.Fields["datastore"] = store
	}
	if last.After(due) {
		e.Text += fmt.Sprintf("Neither did it run later, up to %s. ", last.Format("2006-01-02 15:04 MST"))
	}
	if s.CatchUp == jobs.CatchUpSkip {
		e.Text += "It runs again when it is due the next time."
	} else {
		e.Text += "It runs now."
	}
	return e
}

// full are the parts of a disk that is used at which people are told.
var full = []struct {
	percent  int
	severity notify.Severity
}{{90, notify.Error}, {85, notify.Warning}}

// ofSpace returns an event for each of bytes and inodes that is nearly used up, of the
// disk of a datastore, or of a quota there.
func ofSpace(store, of string, s disk.Space) (all []notify.Event) {
	for _, m := range []struct {
		what       string
		used, free int64
	}{{"bytes", s.Used(), s.FreeBytes}, {"inodes", s.TotalInodes - s.FreeInodes, s.FreeInodes}} {
		if m.used <= 0 {
			continue
		}
		used := int(float64(m.used) / (float64(m.used) + float64(m.free)) * 100) // as df(1) has it
		for _, f := range full {
			if used < f.percent {
				continue
			}
			e := notify.Event{
				Type: typeCapacity, Severity: f.severity, Fields: map[string]string{"datastore": store},
				Title: fmt.Sprintf("datastore %s: %d %% of the %s of its disk are used", store, used, m.what),
				Text:  fmt.Sprintf("%s are left. Prune snapshots and collect garbage, or enlarge the disk: below 1 %% backups are refused.", amount(m.what, m.free)),
				Key:   fmt.Sprintf("capacity/%s/%s/%d", store, m.what, f.percent),
			}
			if of != "" {
				e.Title = fmt.Sprintf("datastore %s: %d %% of the %s of the quota of its %s are used", store, used, m.what, of)
				e.Text = fmt.Sprintf("%s are left, whatever the disk has. Prune snapshots and collect garbage, or raise the quota: see `repquota -a`.", amount(m.what, m.free))
				e.Key = fmt.Sprintf("capacity/%s/quota/%s/%s/%d", store, of, m.what, f.percent)
			}
			all = append(all, e)
			break
		}
	}
	return all
}

func amount(what string, n int64) string {
	if what == "bytes" {
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%d %s", n, what)
}
