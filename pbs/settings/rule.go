package settings

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/jobs/timing"
)

// A JobRule says more of when a job runs than a Proxmox Backup Server can. A job
// without one runs at the times of its schedule, in the zone of the machine, and
// once for all that it missed.
type JobRule struct {
	Job      string `json:"job"`                // KIND:ID: "prune:daily", "gc:main"
	CatchUp  string `json:"catch-up,omitempty"` // once, skip
	After    string `json:"after,omitempty"`    // KIND:ID: run when that job has run well; the job has no schedule then
	Stagger  bool   `json:"stagger,omitempty"`  // later by a part of its period, always the same
	TimeZone string `json:"timezone,omitempty"` // of its schedule: "Europe/Vienna"
	Shared   bool   `json:"shared,omitempty"`   // other nodes have a job of this ID, and one of them runs it each time
	Weight   int    `json:"weight,omitempty"`   // of this node among them; default 1

	Overlap   string   `json:"overlap,omitempty"`    // forbid, queue, replace: of a time with the run before
	Window    []string `json:"window,omitempty"`     // when it may run by itself: "22-6", "sat,sun 0-24"; none: always
	WindowEnd string   `json:"window-end,omitempty"` // pause, finish, abort
	Paused    bool     `json:"paused,omitempty"`     // it runs only when somebody asks for it
}

// IsZero tells whether a rule says nothing.
func (r JobRule) IsZero() bool { return reflect.DeepEqual(r, JobRule{Job: r.Job}) }

// kinds are the kinds of jobs, and the types of their tasks.
var kinds = map[string]string{"prune": "prunejob", "verify": "verificationjob", "sync": "syncjob", "gc": "garbage_collection", "offload": "offloadjob", "export": "exportjob"}

// ParseJob reads KIND:ID, where pull and push are kinds of sync jobs.
func ParseJob(text string) (job string, err error) {
	kind, id, _ := strings.Cut(text, ":")
	if kind == "pull" || kind == "push" {
		kind = "sync"
	}
	if _, is := kinds[kind]; !is || id == "" {
		return "", fmt.Errorf("%.60q is no job, want KIND:ID with the kind pull, push, prune, verify, gc, offload or export", text)
	}
	return kind + ":" + id, nil
}

// ScheduleOf returns the name of the schedule of a job.
func ScheduleOf(job string) string {
	kind, id, _ := strings.Cut(job, ":")
	return kinds[kind] + ":" + id
}

// JobOf returns the job of a schedule, "" if it is that of none.
func JobOf(schedule string) string {
	typ, id, _ := strings.Cut(schedule, ":")
	for kind, t := range kinds {
		if t == typ {
			return kind + ":" + id
		}
	}
	return ""
}

// Rule returns the rule of a job.
func (s *State) Rule(job string) JobRule {
	i := slices.IndexFunc(s.JobRules, func(r JobRule) bool { return r.Job == job })
	if i < 0 {
		return JobRule{Job: job}
	}
	return s.JobRules[i]
}

// Place returns where a job works, and whether there is such a job.
func (s *State) Place(job string) (store, ns string, is bool) {
	kind, id, _ := strings.Cut(job, ":")
	switch kind {
	case "gc":
		_, is = s.Datastore(id)
		return id, "", is
	case "sync":
		j, is := s.SyncJob(id)
		return j.Store, string(j.NS), is
	case "offload":
		j, is := s.OffloadJob(id)
		return j.Store, string(j.NS), is
	case "export":
		j, is := s.ExportJob(id)
		return j.Store, string(j.NS), is
	case "prune":
		for _, j := range s.PruneJobs {
			if j.ID == id {
				return j.Store, string(j.NS), true
			}
		}
	case "verify":
		for _, j := range s.VerifyJobs {
			if j.ID == id {
				return j.Store, string(j.NS), true
			}
		}
	}
	return "", "", false
}

// MaxWeight is the greatest weight of a node among those that share a job.
const MaxWeight = 100

// destroys are the kinds of jobs that remove something: one that is stopped for the
// next one would never end.
var destroys = []string{"prune", "gc", "offload"}

// Check says what is wrong with a rule by itself.
func (r JobRule) Check() error {
	_, err := ParseJob(r.Job)
	if err != nil {
		return err
	}
	if _, err := timing.ParseCatchUp(r.CatchUp); err != nil {
		return fmt.Errorf("catch-up: %w", err)
	}
	if r.After != "" {
		if _, err := ParseJob(r.After); err != nil {
			return fmt.Errorf("after: %w", err)
		}
	}
	if _, err := time.LoadLocation(r.TimeZone); err != nil || r.TimeZone == "Local" {
		return fmt.Errorf("timezone: %q is no zone like Europe/Vienna or UTC", r.TimeZone)
	}
	if err := r.checkWindow(); err != nil {
		return err
	}
	switch {
	case r.After == r.Job:
		return errors.New("after: a job cannot come after itself")
	case r.Shared && (r.CatchUp == string(timing.Skip) || r.After != ""):
		return errors.New("shared: such a job has a time of its own, which is always made up for")
	case r.Weight < 0 || r.Weight > MaxWeight:
		return fmt.Errorf("weight: %d, want 1 to %d", r.Weight, MaxWeight)
	case r.Weight != 0 && !r.Shared:
		return errors.New("weight: it is for jobs that are shared")
	case r.Shared && r.TimeZone == "":
		return errors.New("shared: say in which timezone its schedule is meant, which all nodes have to agree on: --timezone UTC")
	}
	return nil
}

// checkWindow says what is wrong with when a job may run, and with what becomes of its
// runs.
func (r JobRule) checkWindow() error {
	overlap, err := timing.ParseOverlap(r.Overlap)
	if err != nil {
		return fmt.Errorf("overlap: %w", err)
	}
	if kind, _, _ := strings.Cut(r.Job, ":"); overlap == timing.Replace && slices.Contains(destroys, kind) {
		return fmt.Errorf("overlap: a %s job is never stopped for its next run, take forbid or queue", kind)
	}
	if _, err := timing.ParseWindows(r.Window); err != nil {
		return fmt.Errorf("window: %w", err)
	}
	if _, err := timing.ParseAtEnd(r.WindowEnd); err != nil {
		return fmt.Errorf("window-end: %w", err)
	}
	if r.WindowEnd != "" && len(r.Window) == 0 {
		return errors.New("window-end: there is no window")
	}
	return nil
}

// Scheduled are the jobs that have a time and are not disabled, KIND:ID.
func (s *State) Scheduled() (all []string) {
	add := func(kind, id string) {
		if job := kind + ":" + id; s.EventOf(job) != "" {
			all = append(all, job)
		}
	}
	for _, d := range s.Datastores {
		add("gc", d.Name)
	}
	for _, j := range s.PruneJobs {
		add("prune", j.ID)
	}
	for _, j := range s.VerifyJobs {
		add("verify", j.ID)
	}
	for _, j := range s.SyncJobs {
		add("sync", j.ID)
	}
	for _, j := range s.OffloadJobs {
		add("offload", j.ID)
	}
	for _, j := range s.ExportJobs {
		add("export", j.ID)
	}
	return all
}

// EventOf returns when a job runs, "" if it has no time, is disabled, or is not there.
func (s *State) EventOf(job string) string {
	kind, id, _ := strings.Cut(job, ":")
	event, off := "", false
	switch kind {
	case "gc":
		d, _ := s.Datastore(id)
		event = d.GCSchedule
	case "sync":
		j, _ := s.SyncJob(id)
		event, off = j.Schedule, j.Disable
	case "offload":
		j, _ := s.OffloadJob(id)
		event, off = j.Schedule, j.Disable
	case "export":
		j, _ := s.ExportJob(id)
		event, off = j.Schedule, j.Disable
	case "prune":
		for _, j := range s.PruneJobs {
			if j.ID == id {
				event, off = j.Schedule, j.Disable
			}
		}
	case "verify":
		for _, j := range s.VerifyJobs {
			if j.ID == id {
				event = j.Schedule
			}
		}
	}
	if off {
		return ""
	}
	return event
}

// Floats tells whether nodes can share a job, since what it works on is not one
// node's alone: a push, an export, and what works on a bucket.
func (s *State) Floats(job string) bool {
	kind, id, _ := strings.Cut(job, ":")
	store, _, _ := s.Place(job)
	switch kind {
	case "sync":
		j, _ := s.SyncJob(id)
		return j.Pushes()
	case "export":
		return true
	case "offload":
		j, _ := s.OffloadJob(id)
		store = j.To
	}
	d, _ := s.Datastore(store)
	return s.BucketOf(d) != "" && !d.Backend.ReadOnly
}

// Ready tells whether a job has a time, is not paused or disabled, and has what it
// needs: of nodes that share one, those take part for which it is ready.
func (s *State) Ready(job string) bool {
	if s.Rule(job).Paused || s.EventOf(job) == "" {
		return false
	}
	kind, id, _ := strings.Cut(job, ":")
	j, _ := s.SyncJob(id)
	_, is := s.Remote(j.Remote)
	return kind != "sync" || is || !j.Pushes()
}

// Timed returns a schedule as the rule of its job has it.
func (s *State) Timed(job string, sched jobs.Schedule) jobs.Schedule {
	r := s.Rule(job)
	sched.CatchUp, sched.Stagger = jobs.CatchUp(r.CatchUp), r.Stagger
	if r.After != "" && sched.Event == "" {
		after, _ := ParseJob(r.After) // was checked
		sched.After = ScheduleOf(after)
	}
	if zone, err := time.LoadLocation(r.TimeZone); err == nil && r.TimeZone != "" {
		sched.Zone = zone
	}
	sched.Overlap, sched.AtEnd, sched.Paused = timing.Overlap(r.Overlap), timing.AtEnd(r.WindowEnd), r.Paused
	sched.Windows, _ = timing.ParseWindows(r.Window) // was checked
	sched.Shared = r.Shared && sched.Event != "" && s.Floats(job)
	return sched
}

// dropRules drops the rules of jobs that are gone.
func (s *State) dropRules() {
	s.JobRules = slices.DeleteFunc(s.JobRules, func(r JobRule) bool {
		_, _, is := s.Place(r.Job)
		return !is
	})
}
