package jobs

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs/timing"
)

// set changes a schedule of the diary that was put.
func (d *diary) set(name string, change func(*Schedule)) {
	d.t.Helper()
	st, err := d.Status(name)
	if err != nil {
		d.t.Fatal(err)
	}
	change(&st.Schedule)
	if err := d.Put(st.Schedule); err != nil {
		d.t.Fatal(err)
	}
}

// share has a schedule of the diary be shared, as a Share decides.
func (d *diary) share(name string, with Share) {
	d.t.Helper()
	d.lock.Lock()
	d.shares = with
	d.lock.Unlock()
	d.set(name, func(s *Schedule) { s.Shared = true })
}

// why returns what a schedule does now, and the last note.
func (d *diary) why(name string) (now, last string) {
	d.t.Helper()
	w, err := d.Why(name)
	if err != nil {
		d.t.Fatal(err)
	}
	if n := len(w.Notes); n > 0 {
		last = w.Notes[n-1].Text
	}
	return w.Now, last
}

// What comes after another runs when that has run well, once each time, also if
// the process dies in between; not when it failed.
func TestAfter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newDiary(t, dir, "UTC", new(logBuffer))
		d.works(time.Minute, nil)
		d.put("a", "*:30", "")
		d.put("b", "", "")
		d.set("b", func(s *Schedule) { s.After = "a" })
		d.sleep(40*time.Minute, "a 01 00:30", "b 01 00:31")
		if now, last := d.why("b"); now != "it waits until a has run well" || last != "it ended: OK" {
			t.Errorf("%s; %s", now, last)
		}
		d.works(time.Minute, errors.New("no space"))
		d.sleep(time.Hour, "a 01 01:30")
		d.works(time.Minute, nil)
		d.sleep(time.Hour, "a 01 02:30", "b 01 02:31")

		d.Remove("b")
		d.put("b", "", "")
		d.set("b", func(s *Schedule) { s.After = "a" }) // counts from now
		d.sleep(50*time.Minute+30*time.Second, "a 01 03:30")
		d.stop() // while it runs, which is its end
		d = newDiary(t, dir, "UTC", new(logBuffer))
		d.works(time.Minute, nil)
		d.put("a", "*:30", "")
		d.put("b", "", "")
		d.set("b", func(s *Schedule) { s.After = "a" })
		d.sleep(65*time.Minute, "a 01 04:30", "b 01 04:31")
		for _, wrong := range []func(*Schedule){func(s *Schedule) { s.After, s.Event = "a", "daily" }, func(s *Schedule) { s.After = s.Name }} {
			st, _ := d.Status("b")
			wrong(&st.Schedule)
			if err := d.Put(st.Schedule); err == nil {
				t.Errorf("%+v is taken", st.Schedule)
			}
		}
	})
}

// Schedules that are staggered run at different times, each always at the same,
// and not more than a tenth of the period late.
func TestStagger(t *testing.T) {
	e, err := ParseEvent("hourly")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[time.Duration]bool{}
	for _, name := range []string{"a", "b", "c", "d"} {
		delay := timing.Stagger(name, e)
		if delay != timing.Stagger(name, e) || delay < 0 || delay >= 6*time.Minute {
			t.Errorf("%s is %s late", name, delay)
		}
		seen[delay] = true
	}
	if len(seen) < 3 {
		t.Errorf("delays %v", seen)
	}
	bubble(t, func(t *testing.T) {
		d := newDiary(t, t.TempDir(), "UTC", new(logBuffer))
		d.put("b", "hourly", "")
		d.set("b", func(s *Schedule) { s.Stagger = true })
		at := time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC).Add(timing.Stagger("b", e))
		if st, _ := d.Status("b"); !st.Next.Equal(at) {
			t.Errorf("next is %s, want %s", st.Next, at)
		}
		d.sleep(2*time.Hour-time.Second, at.Format("b 02 15:04"))
	})
}

// The zone of a schedule is its own, and its changes of the clock too.
func TestZoneOfASchedule(t *testing.T) {
	bubble(t, func(t *testing.T) {
		zone, err := time.LoadLocation("Asia/Kolkata")
		if err != nil {
			t.Fatal(err)
		}
		d := newDiary(t, t.TempDir(), "UTC", new(logBuffer))
		d.put("a", "07:00", "")
		d.set("a", func(s *Schedule) { s.Zone = zone })
		d.sleep(24*time.Hour, "a 01 01:30")
		if now, _ := d.why("a"); now != "it waits for 2000-01-02T07:00:00+05:30" {
			t.Error(now)
		}
	})
}

// Why says of each run, and of each time without one, why it was so, also after a
// restart.
func TestWhy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newDiary(t, dir, "UTC", new(logBuffer))
		d.works(10*time.Minute, nil)
		d.put("a", "*:30", CatchUpSkip)
		d.put("hand", "", "")
		if now, last := d.why("hand"); !strings.HasPrefix(now, "it runs only when somebody asks") || last != "" {
			t.Errorf("%s; %s", now, last)
		}
		if _, err := d.Trigger("hand", "op@pbs"); err != nil {
			t.Fatal(err)
		}
		if now, last := d.why("hand"); now != "it runs, since 2000-01-01T00:00:00Z" || last != "it ran: op@pbs had asked for it" {
			t.Errorf("%s; %s", now, last)
		}
		d.sleep(time.Hour, "hand 01 00:00", "a 01 00:30")
		d.stop()
		time.Sleep(5 * time.Hour)
		d = newDiary(t, dir, "UTC", new(logBuffer))
		d.put("a", "*:30", CatchUpSkip)
		d.sleep(time.Minute)
		if now, last := d.why("a"); now != "it waits for 2000-01-01T06:30:00Z" || last != "it did not run: the daemon did not run then, or its clock was changed, and what was missed is not made up for" {
			t.Errorf("%s; %s", now, last)
		}
		w, _ := d.Why("a")
		var all []string
		for _, n := range w.Notes {
			all = append(all, n.Text)
		}
		if len(all) != 3 || all[0] != "it ran: its time had come" || all[1] != "it ended: OK" || w.Notes[0].Task == nil {
			t.Errorf("%q", all)
		}
		if _, err := d.Why("b"); !errors.Is(err, ErrNoJob) {
			t.Error(err)
		}
		for range 3 * maxNotes {
			d.sleep(time.Hour, d.now().Truncate(time.Hour).Add(30*time.Minute).Format("a 02 15:04"))
		}
		if w, _ := d.Why("a"); len(w.Notes) != maxNotes {
			t.Errorf("%d notes", len(w.Notes))
		}
	})
}

// A shared schedule runs when the share lets it; what is done elsewhere is noted,
// what nobody did is missed.
func TestShare(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDiary(t, t.TempDir(), "UTC", new(logBuffer))
		var missed, until []time.Time
		d.cfg.Missed = func(_ Schedule, first, last time.Time) { missed, until = append(missed, first), append(until, last) }
		turn := "mine"
		d.put("a", "*:30", "")
		d.share("a", func(ctx context.Context, slot, until time.Time, run func(context.Context, time.Time) error) error {
			if slot.Format("04") != "30" || until.Sub(slot) != time.Hour {
				t.Errorf("slot %s until %s", slot, until)
			}
			switch turn {
			case "mine":
				return run(ctx, slot.Add(-time.Hour))
			case "lost": // to another, which did it
				lost, cancel := context.WithCancel(ctx)
				cancel()
				_ = run(lost, slot.Add(-time.Hour))
			case "after two":
				return run(ctx, slot.Add(-3*time.Hour))
			case "nobody":
				time.Sleep(time.Until(until))
				return errors.New("no leader")
			}
			return &Elsewhere{"dc", "done"}
		})
		d.works(time.Minute, nil)
		d.sleep(time.Hour, "a 01 00:30")
		if _, last := d.why("a"); last != "it ended: OK" {
			t.Error(last)
		}
		turn = "other"
		d.sleep(time.Hour)
		if now, last := d.why("a"); last != "it did not run here: node dc had it: done" || now != "it waits for 2000-01-01T02:30:00Z" {
			t.Errorf("%s; %s", now, last)
		}
		turn = "lost"
		d.sleep(time.Hour, "a 01 02:30")
		if _, last := d.why("a"); last != "it did not run here: node dc had it: done" || len(missed) > 0 {
			t.Errorf("%s; missed %v", last, missed)
		}
		turn = "nobody"
		d.sleep(45 * time.Minute)
		if now, _ := d.why("a"); now != "it is being decided which node runs it" {
			t.Error(now)
		}
		turn = "mine"
		d.sleep(time.Hour, "a 01 04:30")
		synctest.Wait()
		if len(missed) != 1 || missed[0].Format("15:04") != "03:30" {
			t.Errorf("missed %v", missed)
		}
		turn = "after two"
		d.sleep(time.Hour, "a 01 05:30")
		if len(missed) != 2 || missed[1].Format("15:04") != "03:30" || until[1].Format("15:04") != "04:30" {
			t.Errorf("two that nobody had: missed %v until %v", missed, until)
		}
		d.share("a", func(context.Context, time.Time, time.Time, func(context.Context, time.Time) error) error {
			return &Elsewhere{"dc", "running"}
		})
		if _, err := d.Trigger("a", "op@pbs"); err == nil || !strings.Contains(err.Error(), "node dc had it: running") {
			t.Errorf("by hand, while it runs elsewhere: %v", err)
		}
		st, _ := d.Status("a")
		st.CatchUp = CatchUpSkip
		if err := d.Put(st.Schedule); err == nil {
			t.Error("what is shared may be skipped")
		}
	})
}

// A run of a shared schedule that is late counts as that of its slot: a time that came
// meanwhile is told when nobody can have it. Once it was forgotten.
func TestShareLate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDiary(t, t.TempDir(), "UTC", new(logBuffer))
		var told []string
		d.cfg.Missed = func(_ Schedule, first, last time.Time) {
			told = append(told, first.Format("15:04")+"-"+last.Format("15:04"))
		}
		d.put("a", "*:30", "")
		d.share("a", func(ctx context.Context, slot, until time.Time, run func(context.Context, time.Time) error) error {
			if slot.Hour() > 0 {
				return errors.New("no leader")
			}
			time.Sleep(65 * time.Minute) // its turn comes when the next slot has come
			return run(ctx, slot.Add(-time.Hour))
		})
		d.works(70*time.Minute, nil) // to after the one after that
		d.sleep(4*time.Hour, "a 01 01:35")
		if len(told) == 0 || told[0] != "01:30-02:30" {
			t.Errorf("told %q", told)
		}
	})
}
