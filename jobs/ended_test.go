package jobs

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Who asks for it is told of every end, also of that of a task which the process
// did not outlive.
func TestEndsAreTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		told := []string{}
		tell := func(i Info) { told = append(told, i.UPID.Type+" "+i.Status()) }
		m := open(t, Config{Ended: tell})
		for typ, err := range map[string]error{"gc": nil, "prune": errors.New("no")} {
			_, _ = m.Do(t.Context(), typ, "main", "root@pam", func(context.Context, *Task) error { return err })
		}
		slices.Sort(told)
		if want := []string{"gc OK", "prune no"}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
		if _, err := m.Start(t.Context(), "verify", "main", "root@pam", func(ctx context.Context, task *Task) error {
			task.Logf("reading")
			return until(ctx, task)
		}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		told = nil
		open(t, Config{Dir: killed(t, m.cfg.Dir), Ended: tell})
		if want := []string{"verify unknown"}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}

func TestMissedTimesAreTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var told []time.Time
		m := open(t, Config{})
		s, err := NewScheduler(SchedulerConfig{
			Manager: m, File: filepath.Join(t.TempDir(), "schedules"), Location: time.UTC,
			Missed: func(_ Schedule, first, last time.Time) { told = append(told, first, last) },
		})
		if err != nil {
			t.Fatal(err)
		}
		work := func(ctx context.Context, _ *Task) error { time.Sleep(90 * time.Minute); return nil }
		if err := s.Put(Schedule{Name: "x", Event: "hourly", Type: "gc", ID: "main", Auth: "root@pam", Work: work}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(2*time.Hour + 40*time.Minute) // runs at 1:00, is late at 2:00, runs at 2:30
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if len(told) != 2 || told[0].Hour() != 2 || !told[1].Equal(told[0]) {
			t.Errorf("told %v, want 2:00 once", told)
		}
	})
}
