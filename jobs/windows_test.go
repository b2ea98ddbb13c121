package jobs

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs/timing"
)

// windows reads when something may run.
func windows(t *testing.T, texts ...string) Windows {
	t.Helper()
	w, err := timing.ParseWindows(texts)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// A time outside of the window waits for it, untold; a run that has not ended when
// the window closes goes on in the next one, also in the next process, and what comes
// after it waits so long.
func TestWindow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dir := t.TempDir()
		start := func() *diary {
			d := newDiary(t, dir, "UTC", new(logBuffer))
			d.cfg.Missed = func(s Schedule, first, _ time.Time) { t.Errorf("%s is told as missed at %s", s.Name, first) }
			d.put("b", "", "")
			d.set("b", func(s *Schedule) { s.After = "a" })
			d.put("a", "12:00", "")
			d.set("a", func(s *Schedule) { s.Windows = windows(t, "22-2") })
			d.works(5*time.Hour, nil)
			return d
		}
		d := start()
		d.sleep(21 * time.Hour)
		if now, _ := d.why("a"); now != "it waits for 2000-01-01T22:00:00Z" {
			t.Error(now)
		}
		d.sleep(4*time.Hour+59*time.Minute, "a 01 22:00")
		d.works(time.Hour, nil)
		d.sleep(3 * time.Minute) // at two the window has closed
		now, last := d.why("a")
		if now != "it goes on when its window opens: 2000-01-02T22:00:00Z" || last != "it ended: WARNINGS: 1" {
			t.Errorf("%s; %s", now, last)
		}
		if st, _ := d.Status("a"); !st.Held {
			t.Error("it is not held")
		}
		if log := texts(t, d.m, *d.runs["a"].Task); !strings.Contains(strings.Join(log, "\n"), "WARN: stopped: its window has closed") {
			t.Errorf("the log: %q", log)
		}
		d.stop()
		d = start()
		d.works(time.Hour, nil)
		d.sleep(19 * time.Hour)
		d.sleep(3*time.Hour, "a 02 22:00", "b 02 23:00")
	})
}

// What somebody has asked for is not held by windows, nor stopped at their end; nor is
// what is to finish. What is aborted runs at its next time.
func TestEndOfWindow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDiary(t, t.TempDir(), "UTC", new(logBuffer))
		d.works(5*time.Hour, nil)
		for name, end := range map[string]AtEnd{"abort": timing.Abort, "finish": timing.Finish, "hand": timing.Pause} {
			d.put(name, "8:30", "")
			d.set(name, func(s *Schedule) { s.Windows, s.AtEnd = windows(t, "8-9", "20-21"), end })
		}
		if _, err := d.Trigger("hand", "op@pbs"); err != nil {
			t.Fatal(err)
		}
		d.sleep(8*time.Hour+29*time.Minute, "hand 01 00:00")
		d.set("hand", func(s *Schedule) { s.Event = "" })
		d.sleep(12*time.Hour, "abort 01 08:30", "finish 01 08:30")
		for name, want := range map[string]string{"abort": "WARNINGS: 1", "finish": "OK", "hand": "OK"} {
			if st, _ := d.Status(name); st.State != want {
				t.Errorf("%s ended as %s, want %s", name, st.State, want)
			}
		}
		if _, err := d.Begin("hand", "root@pam", "there is news"); err != nil { // 20:59 is within
			t.Fatal(err)
		}
		d.sleep(time.Hour, "hand 01 20:29")
		if _, last := d.why("hand"); last != "it ended: WARNINGS: 1" {
			t.Error(last)
		}
	})
}

// A time that comes while the run before goes on is missed, or waits for its end, or
// ends it.
func TestOverlap(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDiary(t, t.TempDir(), "UTC", new(logBuffer))
		missed := map[string]int{}
		d.cfg.Missed = func(s Schedule, _, _ time.Time) { missed[s.Name]++ }
		d.works(90*time.Minute, nil)
		for _, o := range []Overlap{timing.Forbid, timing.Queue, timing.Replace} {
			d.put(string(o), "hourly", "")
			d.set(string(o), func(s *Schedule) { s.Overlap = o })
		}
		d.sleep(3*time.Hour+time.Minute,
			"forbid 01 01:00", "queue 01 01:00", "replace 01 01:00", "replace 01 02:00", "forbid 01 02:30", "queue 01 02:30", "replace 01 03:00")
		if missed["forbid"] != 1 || missed["queue"] != 0 || missed["replace"] != 0 {
			t.Errorf("missed %v", missed)
		}
		if past := d.History("replace"); len(past) != 2 || past[0].State != "WARNINGS: 1" || !past[1].End.Equal(time.Date(2000, 1, 1, 3, 0, 0, 0, time.UTC)) {
			t.Errorf("the runs: %+v", past)
		}
	})
}

// What is paused runs when somebody asks for it, and not by itself; the times that
// passed are left out, and a word says so, also if the daemon was started again.
func TestPause(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dir := t.TempDir()
		pause := func(s *Schedule) { s.Paused = true }
		d := newDiary(t, dir, "UTC", new(logBuffer))
		d.cfg.Missed = func(s Schedule, _, _ time.Time) { t.Errorf("%s is told as missed", s.Name) }
		d.put("a", "*:30", "")
		d.put("b", "", "")
		d.set("b", func(s *Schedule) { s.After = "a" })
		d.sleep(time.Hour, "a 01 00:30", "b 01 00:30")
		d.set("a", pause)
		d.set("b", pause)
		d.sleep(2 * time.Hour)
		if now, last := d.why("a"); now != "it is paused, and runs only when somebody asks for it" || last != "it was paused" {
			t.Errorf("%s; %s", now, last)
		}
		if _, err := d.Trigger("a", "op@pbs"); err != nil {
			t.Fatal(err)
		}
		d.sleep(time.Hour, "a 01 03:00")
		d.stop()
		d = newDiary(t, dir, "UTC", new(logBuffer))
		d.cfg.Missed = func(s Schedule, _, _ time.Time) { t.Errorf("%s is told as missed", s.Name) }
		d.put("a", "*:30", "")
		d.put("b", "", "")
		d.set("b", func(s *Schedule) { s.After = "a" })
		d.sleep(10 * time.Minute)
		if _, last := d.why("a"); last != "it may run by itself again; its times from 2000-01-01T03:30:00Z on had passed while it was paused" {
			t.Error(last)
		}
		d.sleep(30*time.Minute, "a 01 04:30", "b 01 04:30")
	})
}

// What a run counted is kept with it, and survives the process.
func TestHistory(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newDiary(t, dir, "UTC", new(logBuffer))
		d.put("a", "hourly", "")
		n := int64(0)
		d.set("a", func(s *Schedule) {
			s.Work = func(ctx context.Context, task *Task) error {
				n++
				task.Count("bytes", n)
				time.Sleep(time.Minute)
				return nil
			}
		})
		d.sleep((maxPast + 3) * time.Hour)
		time.Sleep(10 * time.Minute)
		d.stop()
		d = newDiary(t, dir, "UTC", new(logBuffer))
		past := d.History("a")
		if len(past) != maxPast || past[0].Stats["bytes"] != 4 || past[maxPast-1].Stats["bytes"] != maxPast+3 || past[0].End.Sub(past[0].Task.Time()) != time.Minute {
			t.Errorf("%d runs, the first %+v", len(past), past[0])
		}
	})
}
