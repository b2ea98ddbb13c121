package settings

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs"
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
}

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

// Check says what is wrong with a rule by itself.
func (r JobRule) Check() error {
	_, err := ParseJob(r.Job)
	if err != nil {
		return err
	}
	if _, err := jobs.ParseCatchUp(r.CatchUp); err != nil {
		return err
	}
	if r.After != "" {
		if _, err := ParseJob(r.After); err != nil {
			return fmt.Errorf("after: %w", err)
		}
	}
	if _, err := time.LoadLocation(r.TimeZone); err != nil || r.TimeZone == "Local" {
		return fmt.Errorf("timezone: %q is no zone like Europe/Vienna or UTC", r.TimeZone)
	}
	switch {
	case r.After == r.Job:
		return errors.New("after: a job cannot come after itself")
	case r.Shared && !strings.HasPrefix(r.Job, "sync:"):
		return errors.New("shared: only push jobs can be shared by nodes")
	case r.Shared && (r.CatchUp == string(jobs.CatchUpSkip) || r.After != ""):
		return errors.New("shared: such a job has a time of its own, which is always made up for")
	case r.Shared && r.TimeZone == "":
		return errors.New("shared: say in which timezone its schedule is meant, which all nodes have to agree on: --timezone UTC")
	}
	return nil
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
	return sched
}

// dropRules drops the rules of jobs that are gone.
func (s *State) dropRules() {
	s.JobRules = slices.DeleteFunc(s.JobRules, func(r JobRule) bool {
		_, _, is := s.Place(r.Job)
		return !is
	})
}
