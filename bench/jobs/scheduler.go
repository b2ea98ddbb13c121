package main

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs"
)

// The row scheduler: so many nodes with so many jobs each, of which each runs every
// ten minutes, spread over them. Real jobs run some times a day.
const (
	nodes   = 50
	each    = 100
	watched = 2 * time.Minute
)

// scheduler runs the schedulers of all nodes in this process and divides its time.
func scheduler(ctx context.Context, b *bench) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var ran atomic.Int64
	var running sync.WaitGroup
	for node := range nodes {
		m, err := jobs.New(jobs.Config{Dir: filepath.Join(b.dir, fmt.Sprint("tasks", node)), Node: "bench"})
		if err != nil {
			return err
		}
		defer m.Close(context.Background()) // its tasks take no time
		s, err := jobs.NewScheduler(jobs.SchedulerConfig{Manager: m, File: filepath.Join(b.dir, fmt.Sprint("runs", node))})
		if err != nil {
			return err
		}
		for job := range each {
			second := (job*nodes + node) * 7 % 600
			err := s.Put(jobs.Schedule{
				Name: fmt.Sprintf("syncjob:%d", job), Event: fmt.Sprintf("*:%d/10:%d", second/60, second%60), Type: "syncjob", ID: fmt.Sprint(job), Auth: "root@pam",
				Work: func(context.Context, *jobs.Task) error { ran.Add(1); return nil },
			})
			if err != nil {
				return err
			}
		}
		running.Go(func() { _ = s.Run(ctx) }) // it ends with ctx, without an error
	}
	began, before := time.Now(), cpu()
	defer time.AfterFunc(watched, cancel).Stop()
	running.Wait()
	share := (cpu() - before).Seconds() / time.Since(began).Seconds() / nodes
	if ran.Load() == 0 {
		return fmt.Errorf("nothing ran")
	}
	fmt.Printf("%d nodes with %d jobs each: %d runs in %s, with their logs and records\n", nodes, each, ran.Load(), time.Since(began).Round(time.Second))
	b.say("scheduler: processor time of a node", 100*share, "% of one", "<= 1", share <= 0.01)
	return nil
}

// cpu is how long this process has had processors.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // it takes no arguments that could be wrong
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
