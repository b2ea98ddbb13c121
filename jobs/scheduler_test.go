package jobs

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A diary is a scheduler under test: a wall clock that can be put forward and
// back, and a record of what ran when.
type diary struct {
	*Scheduler
	t    *testing.T
	m    *Manager
	stop func()

	lock   sync.Mutex
	shift  time.Duration // of the wall clock
	takes  time.Duration // how long the work takes
	fails  error         // how it ends
	shares Share         // of what is shared
	relief bool          // whether others could do it
	ran    []note
}

// A note is that something ran: "name 02 15:04", by the wall clock.
type note struct {
	at   time.Time
	text string
}

// jump puts the wall clock forward.
func (d *diary) jump(by time.Duration) {
	d.lock.Lock()
	defer d.lock.Unlock()
	d.shift += by
}

// works says how long the work takes and how it ends, from now on.
func (d *diary) works(takes time.Duration, fails error) {
	d.lock.Lock()
	defer d.lock.Unlock()
	d.takes, d.fails = takes, fails
}

// newDiary starts a scheduler over dir. It must be called in a bubble.
func newDiary(t *testing.T, dir, zone string, log *logBuffer) *diary {
	t.Helper()
	d := &diary{t: t, m: open(t, Config{Dir: filepath.Join(dir, "tasks")})}
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	d.Scheduler, err = NewScheduler(SchedulerConfig{Manager: d.m, File: filepath.Join(dir, "runs"), Location: loc, Log: log.logger(), Share: func(string) Share {
		d.lock.Lock()
		defer d.lock.Unlock()
		return d.shares
	}, Relief: func(string) bool {
		d.lock.Lock()
		defer d.lock.Unlock()
		return d.relief
	}})
	if err != nil {
		t.Fatal(err)
	}
	d.now = func() time.Time {
		d.lock.Lock()
		defer d.lock.Unlock()
		return wallClock().Add(d.shift)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- d.Run(ctx) }()
	stopped := false
	d.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := d.m.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(d.stop)
	return d
}

// put adds a schedule that writes to the diary.
func (d *diary) put(name, event string, rule CatchUp) {
	d.t.Helper()
	err := d.Put(Schedule{Name: name, Event: event, CatchUp: rule, Type: "prunejob", ID: name, Auth: "root@pam",
		Work: func(ctx context.Context, _ *Task) error {
			text := name + d.now().In(d.cfg.Location).Format(" 02 15:04")
			d.lock.Lock()
			d.ran = append(d.ran, note{time.Now(), text})
			takes, fails := d.takes, d.fails
			d.lock.Unlock()
			select {
			case <-time.After(takes):
				return fails
			case <-ctx.Done():
				return ctx.Err()
			}
		}})
	if err != nil {
		d.t.Fatal(err)
	}
}

// sleep lets time pass and checks what ran meanwhile.
func (d *diary) sleep(long time.Duration, want ...string) {
	d.t.Helper()
	time.Sleep(long)
	synctest.Wait()
	d.lock.Lock()
	defer d.lock.Unlock()
	slices.SortFunc(d.ran, func(a, b note) int { return cmp.Or(a.at.Compare(b.at), strings.Compare(a.text, b.text)) })
	var got []string
	for _, n := range d.ran {
		got = append(got, n.text)
	}
	if !slices.Equal(got, want) {
		d.t.Errorf("ran %q, want %q", got, want)
	}
	d.ran = nil
}

func TestSchedulerRunsOnTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDiary(t, t.TempDir(), "UTC", new(logBuffer))
		d.put("a", "*:0/20", "")
		d.put("b", "sun 2:30", CatchUpSkip)
		d.put("c", "", "")
		d.sleep(time.Hour, "a 01 00:20", "a 01 00:40", "a 01 01:00") // midnight itself was gone
		d.put("a", "*:0/30", "")
		d.sleep(time.Hour, "a 01 01:30", "a 01 02:00")
		d.Remove("a")
		d.Remove("never there")
		d.sleep(25*time.Hour, "b 02 02:30")
		d.put("b", "*:*:0/30", "")
		d.sleep(65*time.Second, "b 02 03:00", "b 02 03:01")
	})
}

func TestStatusOfASchedule(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newDiary(t, dir, "UTC", new(logBuffer))
		d.works(10*time.Second, errors.New("no space"))
		d.put("a", "hourly", "")
		st, err := d.Status("a")
		if err != nil || st.Running || st.Last != nil || !st.End.IsZero() || st.Next.Format("15:04") != "01:00" || st.Event != "hourly" {
			t.Errorf("before it ran: %+v, %v", st, err)
		}
		d.sleep(time.Hour+time.Second, "a 01 01:00")
		if st, _ = d.Status("a"); !st.Running || st.Last == nil || !st.End.IsZero() || st.State != "" || st.Next.Format("15:04") != "02:00" {
			t.Errorf("while it runs: %+v", st)
		}
		if _, err := d.Trigger("a", "b@pbs"); !errors.Is(err, ErrRunning) {
			t.Errorf("to run it at once again: %v, want %v", err, ErrRunning)
		}
		d.sleep(time.Minute)
		if st, _ = d.Status("a"); st.Running || st.End.Format("15:04:05") != "01:00:10" || st.State != "no space" {
			t.Errorf("after it ran: %+v", st)
		}
		d.works(10*time.Second, nil)
		u, err := d.Trigger("a", "b@pbs")
		if err != nil || u.AuthID != "b@pbs" || u.Type != "prunejob" {
			t.Errorf("to run it now: %v, %v", u, err)
		}
		if i := wait(t, d.m, u); i.State != OK {
			t.Errorf("it ended as %+v", i)
		}
		d.stop()

		d = newDiary(t, dir, "UTC", new(logBuffer))
		d.put("a", "hourly", "")
		if st, err = d.Status("a"); err != nil || st.Last == nil || *st.Last != u || st.State != "OK" || st.Next.Format("15:04") != "02:00" {
			t.Errorf("after a restart: %+v, %v", st, err)
		}
		_, err1 := d.Status("b")
		_, err2 := d.Trigger("b", "b@pbs")
		for _, err := range []error{err1, err2} {
			if !errors.Is(err, ErrNoJob) {
				t.Errorf("of a schedule that is none: %v, want %v", err, ErrNoJob)
			}
		}
	})
}

func TestTaskThatCannotStartIsTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var log logBuffer
		d := newDiary(t, t.TempDir(), "UTC", &log)
		d.m.cfg.Active = 1
		u, err := d.m.Start(t.Context(), "x", "", "y", until)
		if err != nil {
			t.Fatal(err)
		}
		d.put("a", "*:30", "")
		d.sleep(35 * time.Minute)
		if n := strings.Count(log.String(), "cannot be started"); n < 5 || n > 6 {
			t.Errorf("told %d times in 5 minutes, want once a minute:\n%s", n, log.String())
		}
		if st, _ := d.Status("a"); st.Running || st.Last != nil || st.Next.Format("15:04") != "00:30" {
			t.Errorf("status is %+v", st)
		}
		if err := d.m.Stop(t.Context(), u); err != nil {
			t.Fatal(err)
		}
		d.sleep(time.Minute, "a 01 00:36")
	})
}

func TestDamagedRunsAreSetAside(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":           "",
		"garbage":           "\x00\x00",
		"half of it":        `{"version":1,"runs":{"a":{"ev`,
		"another version":   `{"version":2,"runs":{}}`,
		"no runs":           `{"version":1}`,
		"a task that is no": `{"version":1,"runs":{"a":{"event":"x","base":"2000-01-01T00:00:00Z","task":"x"}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				dir := t.TempDir()
				write(t, text, dir, "runs")
				var log logBuffer
				d := newDiary(t, dir, "UTC", &log)
				d.put("a", "*:30", "")
				d.sleep(time.Hour, "a 01 00:30")
				if got := read(t, dir, "runs.damaged"); got != text || !strings.Contains(log.String(), "makes no sense") {
					t.Errorf("aside is %q, want %q; the log says:\n%s", got, text, log.String())
				}
			})
		})
	}
}

// That runs cannot be remembered stops no schedule.
func TestScheduleRunsWithoutItsFile(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dir := t.TempDir()
		var log logBuffer
		d := newDiary(t, dir, "UTC", &log)
		if err := os.Mkdir(filepath.Join(dir, "runs.new"), 0o700); err != nil {
			t.Fatal(err)
		}
		d.put("a", "*:30", "")
		d.sleep(2*time.Hour, "a 01 00:30", "a 01 01:30")
		if !strings.Contains(log.String(), "cannot be remembered") {
			t.Errorf("the log says nothing of it:\n%s", log.String())
		}
	})
}

func TestPutRefuses(t *testing.T) {
	m := open(t, Config{})
	s, err := NewScheduler(SchedulerConfig{Manager: m, File: filepath.Join(t.TempDir(), "runs")})
	if err != nil {
		t.Fatal(err)
	}
	good := Schedule{Name: "a", Event: "daily", Type: "prunejob", Auth: "root@pam", Work: nothing}
	for name, change := range map[string]func(*Schedule){
		"no name":        func(s *Schedule) { s.Name = "" },
		"a long name":    func(s *Schedule) { s.Name = strings.Repeat("x", maxWord+1) },
		"no work":        func(s *Schedule) { s.Work = nil },
		"a bad event":    func(s *Schedule) { s.Event = "dayly" },
		"a bad rule":     func(s *Schedule) { s.CatchUp = "twice" },
		"shared, alone":  func(s *Schedule) { s.Shared = true },
		"nobody":         func(s *Schedule) { s.Auth = "" },
		"a type of none": func(s *Schedule) { s.Type = "prune job" },
	} {
		bad := good
		change(&bad)
		if err := s.Put(bad); err == nil {
			t.Errorf("%s: fine, want an error", name)
		}
	}
	if err := s.Put(good); err != nil {
		t.Error(err)
	}
	if _, err := s.Status("a"); err != nil {
		t.Error(err)
	}
	for _, cfg := range []SchedulerConfig{{}, {Manager: m}, {File: "x"}, {Manager: m, File: os.DevNull + "/x/y"}} {
		if _, err := NewScheduler(cfg); err == nil {
			t.Errorf("a scheduler of %+v is fine, want an error", cfg)
		}
	}
}

func FuzzParseRuns(f *testing.F) {
	f.Add([]byte(`{"version":1,"runs":{"a":{"event":"daily","base":"2000-01-01T00:00:00Z","task":"UPID:a:00000001:00000001:00000001:00000001:x::y:","end":"2000-01-01T00:00:01Z","state":"OK"}}}`))
	f.Add([]byte(`{"version":1,"runs":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		runs, err := parseRuns(data)
		if err != nil {
			return
		}
		name := filepath.Join(t.TempDir(), "runs")
		if err := writeRuns(name, runs); err != nil {
			t.Fatal(err)
		}
		again, err := readRuns(name)
		one, _ := json.Marshal(runs)
		two, _ := json.Marshal(again)
		if err != nil || !bytes.Equal(one, two) {
			t.Fatalf("%q is read %s, written and read %s, %v", data, one, two, err)
		}
	})
}
