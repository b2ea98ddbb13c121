package stores

import (
	"errors"
	"fmt"

	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

const (
	pruneType  = "prunejob"
	verifyType = "verificationjob"
)

// PruneSchedule and VerifySchedule return how the schedule of a job stands.
func (s *Set) PruneSchedule(id string) (jobs.ScheduleStatus, error) {
	return s.cfg.Scheduler.Status(pruneType + ":" + id)
}

// VerifySchedule does so for a verification job.
func (s *Set) VerifySchedule(id string) (jobs.ScheduleStatus, error) {
	return s.cfg.Scheduler.Status(verifyType + ":" + id)
}

// RunPruneJob runs a job now. Its task is that of whoever asks.
func (s *Set) RunPruneJob(id, auth string) (jobs.UPID, error) {
	return s.cfg.Scheduler.Trigger(pruneType+":"+id, auth)
}

// RunVerifyJob does so for a verification job.
func (s *Set) RunVerifyJob(id, auth string) (jobs.UPID, error) {
	return s.cfg.Scheduler.Trigger(verifyType+":"+id, auth)
}

// putSchedules makes the scheduler follow the settings. One that makes no
// sense is reported, and stops none of the others.
func (s *Set) putSchedules(state *settings.State) error {
	var errs []error
	puts := map[string]bool{}
	put := func(sched jobs.Schedule) {
		puts[sched.Name] = true
		if err := s.cfg.Scheduler.Put(sched); err != nil {
			errs = append(errs, fmt.Errorf("schedule %s: %w", sched.Name, err))
		}
	}
	for _, sched := range s.schedules(state) {
		put(sched)
	}
	for name := range s.puts {
		if !puts[name] {
			s.cfg.Scheduler.Remove(name)
		}
	}
	s.puts = puts
	return errors.Join(errs...)
}

// schedules returns what is to be done, and when. Those without a time run
// when somebody asks.
func (s *Set) schedules(state *settings.State) []jobs.Schedule {
	var list []jobs.Schedule
	for _, d := range state.Datastores {
		list = append(list, state.Timed("gc:"+d.Name, jobs.Schedule{
			Name: gcSchedule(d.Name), Event: d.GCSchedule, Type: gcType, ID: d.Name, Auth: root, Work: s.claimed(d.Name, s.collect(d.Name)),
		}))
	}
	list = append(list, s.cloudSchedules(state)...)
	for _, j := range state.PruneJobs {
		sched := jobs.Schedule{
			Name: pruneType + ":" + j.ID, Event: j.Schedule, Type: pruneType, ID: j.Store, Auth: root, Work: s.pruneJob(j),
		}
		if j.NS != "" {
			sched.ID += ":" + string(j.NS)
		}
		if j.Disable {
			sched.Event = ""
		}
		if sched = state.Timed("prune:"+j.ID, sched); j.Disable {
			sched.After = ""
		}
		list = append(list, sched)
	}
	for _, j := range state.VerifyJobs {
		list = append(list, state.Timed("verify:"+j.ID, jobs.Schedule{
			Name: verifyType + ":" + j.ID, Event: j.Schedule, Type: verifyType, ID: j.Store + ":" + j.ID, Auth: root, Work: s.verifyJob(j),
		}))
	}
	return list
}
