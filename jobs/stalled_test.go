package jobs

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// hour runs work of a schedule that is shared at the full hour, and returns what the
// share is told of it and when after that, 0 for not yet, an hour later.
func hour(t *testing.T, d *diary, relief bool, work func(context.Context, *Task) error) (after time.Duration, told error) {
	t.Helper()
	d.put("a", "hourly", "")
	d.lock.Lock()
	d.relief = relief
	d.lock.Unlock()
	d.share("a", func(ctx context.Context, slot, _ time.Time, run func(context.Context, time.Time) error) error {
		err := run(ctx, time.Time{})
		d.lock.Lock()
		defer d.lock.Unlock()
		if after == 0 {
			told, after = err, time.Since(slot)
		}
		return err
	})
	d.set("a", func(s *Schedule) { s.Work = work })
	time.Sleep(119 * time.Minute)
	d.lock.Lock()
	defer d.lock.Unlock()
	return after, told
}

// What gets nowhere for 20 minutes, and takes half an hour, is stopped where another
// node could do it, and the share is told so. A run that hung had its slot until its
// daemon ended.
func TestStalled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDiary(t, t.TempDir(), "UTC", new(logBuffer))
		after, told := hour(t, d, true, func(ctx context.Context, task *Task) error {
			for range 10 {
				time.Sleep(time.Minute)
				task.Progress(0, task.UPID().ID+time.Now().String())
			}
			<-ctx.Done()
			return ctx.Err()
		})
		if !errors.Is(told, ErrStalled) || after < 30*time.Minute || after > 32*time.Minute {
			t.Errorf("after %s the share is told %v", after, told)
		}
		if st, _ := d.Status("a"); st.Running || !strings.Contains(st.State, "it got nowhere for 20 minutes") {
			t.Errorf("it stands so: %+v", st)
		}
	})
}

// What does not end when it is asked to loses its slot all the same, as on a file
// system that hangs; it runs here no more before it has ended.
func TestStalledForGood(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDiary(t, t.TempDir(), "UTC", new(logBuffer))
		var ran atomic.Int32
		hang := make(chan struct{})
		after, told := hour(t, d, true, func(context.Context, *Task) error {
			ran.Add(1)
			<-hang
			return nil
		})
		if !errors.Is(told, ErrStalled) || after < 30*time.Minute || after > 32*time.Minute {
			t.Errorf("after %s the share is told %v", after, told)
		}
		time.Sleep(2 * time.Hour)
		if st, _ := d.Status("a"); ran.Load() != 1 || !st.Running {
			t.Errorf("it ran %d times, and stands so: %+v", ran.Load(), st)
		}
		close(hang)
		time.Sleep(2 * time.Hour)
		if st, _ := d.Status("a"); ran.Load() < 2 || st.Running {
			t.Errorf("it ran %d times, and stands so: %+v", ran.Load(), st)
		}
	})
}

// What no other node could do, what gets on slowly, and what takes no longer than it
// always did, is left alone.
func TestNotStalled(t *testing.T) {
	slow := func(ctx context.Context, task *Task) error {
		var bytes atomic.Int64
		task.Watch(bytes.Load)
		for range 5 {
			time.Sleep(11 * time.Minute)
			bytes.Add(1)
		}
		return ctx.Err()
	}
	still := func(ctx context.Context, _ *Task) error {
		select {
		case <-ctx.Done():
		case <-time.After(55 * time.Minute):
		}
		return ctx.Err()
	}
	for name, c := range map[string]struct {
		relief bool
		before time.Duration // of the run before
		work   func(context.Context, *Task) error
	}{"alone": {false, 0, still}, "slow": {true, 0, slow}, "long": {true, 25 * time.Minute, still}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				d := newDiary(t, t.TempDir(), "UTC", new(logBuffer))
				if c.before > 0 {
					hour(t, d, c.relief, func(context.Context, *Task) error { time.Sleep(c.before); return nil })
				}
				if after, told := hour(t, d, c.relief, c.work); told != nil || after != 55*time.Minute {
					t.Errorf("after %s the share is told %v", after, told)
				}
			})
		})
	}
}
