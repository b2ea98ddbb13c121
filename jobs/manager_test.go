package jobs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs/tasklog"
)

type cured struct{ error }

func (cured) Hint() string { return "buy a disk" }

func TestHowTasksEnd(t *testing.T) {
	for _, row := range []struct {
		name   string
		work   func(context.Context, *Task) error
		state  State
		status string
		log    string // lines, with "|" between them
	}{
		{"well", func(_ context.Context, t *Task) error { t.Logf("did %d", 1); return nil },
			OK, "OK", "did 1|TASK OK"},
		{"with warnings", func(_ context.Context, t *Task) error { t.Warnf("a"); t.Logf("b"); t.Warnf("c"); return nil },
			Warning, "WARNINGS: 2", "WARN: a|b|WARN: c|TASK WARNINGS: 2"},
		{"badly", func(_ context.Context, t *Task) error { t.Warnf("a"); return errors.New("no space") },
			Failed, "no space", "WARN: a|TASK ERROR: no space"},
		{"badly, with a cure", func(context.Context, *Task) error { return fmt.Errorf("write: %w", cured{errors.New("no space")}) },
			Failed, "write: no space", "hint: buy a disk|TASK ERROR: write: no space"},
		{"with many errors", func(context.Context, *Task) error { return errors.Join(errors.New("a\r\n"), errors.New("b\x1b")) },
			Failed, "a; b", "TASK ERROR: a; b"},
		{"with an error that says OK", func(context.Context, *Task) error { return errors.New("OK") },
			Failed, "OK", "TASK ERROR: OK"},
		{"with an error that says nothing", func(context.Context, *Task) error { return errors.New(" ") },
			Failed, "failed, and did not say why", "TASK ERROR: failed, and did not say why"},
		{"with a line that looks like the end", func(_ context.Context, t *Task) error { t.Logf("x\nTASK OK\n"); return errors.New("no") },
			Failed, "no", "x| TASK OK|TASK ERROR: no"},
		{"by leaving the goroutine", func(context.Context, *Task) error { runtime.Goexit(); return nil },
			Failed, "the work left its goroutine without returning", "TASK ERROR: the work left its goroutine without returning"},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := open(t, Config{})
			i := do(t, m, "prune", "store1", row.work)
			if i.State != row.state || i.Status() != row.status {
				t.Errorf("ended as %s %q, want %s %q", i.State, i.Status(), row.state, row.status)
			}
			if got := strings.Join(texts(t, m, i.UPID), "|"); got != row.log {
				t.Errorf("log is %q, want %q", got, row.log)
			}
			again := open(t, Config{Dir: killed(t, m.cfg.Dir)})
			if j, err := again.Status(i.UPID); err != nil || j.Status() != row.status || j.State != row.state || !j.End.Equal(i.End) {
				t.Errorf("after a restart it ended as %+v, %v, want %+v", j, err, i)
			}
		})
	}
}

func TestPanicEndsTheTaskOnly(t *testing.T) {
	m := open(t, Config{})
	i := do(t, m, "prune", "store1", func(context.Context, *Task) error {
		panic("assignment to entry in nil map")
	})
	if i.State != Failed || i.Message != "panic: assignment to entry in nil map" {
		t.Errorf("ended as %s %q", i.State, i.Message)
	}
	log := strings.Join(texts(t, m, i.UPID), "\n")
	if !strings.Contains(log, "manager_test.go:") || !strings.HasSuffix(log, "TASK ERROR: "+i.Message) {
		t.Errorf("the log has no stack, or no end:\n%s", log)
	}
}

func TestLongMessagesAreCut(t *testing.T) {
	m := open(t, Config{})
	i := do(t, m, "prune", "store1", func(_ context.Context, task *Task) error {
		task.Logf("%s", strings.Repeat("x\n", 10*maxLines))
		return errors.New(strings.Repeat("ü", maxMessage))
	})
	if len(i.Message) > maxMessage+len(tasklog.CutMark) || !strings.HasSuffix(i.Message, "ü"+tasklog.CutMark) {
		t.Errorf("message has %d bytes: %.40q…", len(i.Message), i.Message)
	}
	if lines := texts(t, m, i.UPID); len(lines) != maxLines+2 || lines[maxLines] != tasklog.CutMark {
		t.Errorf("log has %d lines, want %d", len(lines), maxLines+2)
	}
}

func TestLogEndsAtItsLimit(t *testing.T) {
	m := open(t, Config{LogBytes: 64 << 10})
	line := strings.Repeat("x", tasklog.MaxLine)
	i := do(t, m, "prune", "store1", func(_ context.Context, task *Task) error {
		for range 100 {
			task.Logf("%s", line)
		}
		return nil
	})
	if i.State != OK {
		t.Errorf("ended as %+v", i)
	}
	lines := texts(t, m, i.UPID)
	if n := len(lines); lines[n-1] != "TASK OK" || !strings.Contains(lines[n-2], "log is full") || lines[n-3] != line {
		t.Errorf("the log ends with %.200q", lines[len(lines)-3:])
	}
	if info, err := os.Stat(filepath.Join(m.cfg.Dir, logName(i.UPID))); err != nil || info.Size() > 65<<10 {
		t.Errorf("log has %d bytes, %v", info.Size(), err)
	}
}

func TestRunningTaskIsSeen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := open(t, Config{})
		u, err := m.Start(t.Context(), "prune", "store1", "a@pbs", func(ctx context.Context, task *Task) error {
			if task.UPID().Type != "prune" {
				t.Errorf("the work sees the name %v", task.UPID())
			}
			task.Logf("begin")
			task.Warnf("hm")
			task.Progress(0.25, "host/a")
			return until(ctx, task)
		})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		i, err := m.Status(u)
		if err != nil || i.State != Running || i.Status() != "" || i.Progress != 0.25 || i.Doing != "host/a" || i.Warnings != 1 || !i.End.IsZero() {
			t.Errorf("status is %+v, %v", i, err)
		}
		p, err := m.Log(u, 2, 500)
		if err != nil || !p.Active || p.Total != 2 || len(p.Lines) != 1 || p.Lines[0] != (tasklog.Line{N: 2, Text: "2000-01-01T00:00:00+00:00: WARN: hm"}) {
			t.Errorf("log is %+v, %v", p, err)
		}
		time.Sleep(90 * time.Second)
		if err := m.Stop(t.Context(), u); err != nil {
			t.Error(err)
		}
		p, err = m.Log(u, 3, 500)
		if want := "2000-01-01T00:01:30+00:00: TASK ERROR: stopped on request"; err != nil || p.Active || p.Total != 4 || p.Lines[1].Text != want {
			t.Errorf("log is %+v, %v, want it to end with %q", p, err, want)
		}
		if i, _ = m.Status(u); i.State != Failed || i.End.Unix()-u.Start != 90 || i.Doing != "" {
			t.Errorf("status is %+v", i)
		}
		if err := m.Stop(t.Context(), u); err != nil {
			t.Errorf("a second stop: %v", err)
		}
		var b bytes.Buffer
		if err := m.WriteLog(&b, u); err != nil || strings.Count(b.String(), "\n") != 4 || !strings.HasSuffix(b.String(), "TASK ERROR: stopped on request\n") {
			t.Errorf("the log to download is %q, %v", &b, err)
		}
	})
}

func TestStopWaitsNotForEver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := open(t, Config{StopWait: 7 * time.Second})
		u, _ := m.Start(t.Context(), "prune", "", "a@pbs", func(context.Context, *Task) error {
			time.Sleep(time.Minute) // deaf
			return nil
		})
		began := time.Now()
		if err := m.Stop(t.Context(), u); !errors.Is(err, ErrRunning) || time.Since(began) != 7*time.Second {
			t.Errorf("stop: %v after %v, want %v after 7 s", err, time.Since(began), ErrRunning)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := m.Stop(ctx, u); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stop with a second to go: %v", err)
		}
		if _, err := m.Wait(ctx, u); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait with no time to go: %v", err)
		}
		if i := wait(t, m, u); i.State != OK || time.Since(began) != time.Minute {
			t.Errorf("ended as %+v after %v; what was done to the end is done", i, time.Since(began))
		}
	})
}

// A connection is a caller that waits; a request is one that does not.
func TestStartOutlivesItsCallerAndDoDoesNot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := open(t, Config{})
		ctx, hangUp := context.WithCancel(t.Context())
		u, err := m.Start(ctx, "prune", "", "a@pbs", until)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, hangUp)
		boom := errors.New("connection reset")
		v, err := m.Do(ctx, "backup", "", "a@pbs", func(ctx context.Context, _ *Task) error {
			<-ctx.Done()
			return boom
		})
		if err != boom {
			t.Errorf("Do returned %v, want what the work returned", err)
		}
		if i, err := m.Status(v); err != nil || i.Message != "connection reset" {
			t.Errorf("it ended as %+v, %v", i, err)
		}
		if i, err := m.Status(u); err != nil || i.State != Running {
			t.Errorf("the other is %+v, %v, want it to run", i, err)
		}
	})
}

func TestMessageSaysWhyTheContextEnded(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(ErrShutdown)
	for _, row := range []struct {
		err  error
		want string
	}{
		{ctx.Err(), "the node is shutting down"},
		{fmt.Errorf("read chunk: %w", ctx.Err()), "the node is shutting down: read chunk: context canceled"},
		{context.Cause(ctx), "the node is shutting down"},
		{errors.New("read chunk: no such file"), "read chunk: no such file"},
	} {
		if got := message(ctx, row.err); got != row.want {
			t.Errorf("message of %v is %q, want %q", row.err, got, row.want)
		}
	}
}

// Lines of many goroutines come out whole.
func TestTasksAtOnce(t *testing.T) {
	m := open(t, Config{})
	var started []UPID
	for range 20 {
		u, err := m.Start(t.Context(), "backup", "s:vm/1", "a@pbs", func(_ context.Context, task *Task) error {
			done := make(chan struct{})
			for g := range 4 {
				go func() {
					for n := range 25 {
						task.Logf("%d-%d", g, n)
						task.Progress(float64(n)/25, "x")
					}
					done <- struct{}{}
				}()
			}
			for range 4 {
				<-done
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		started = append(started, u)
	}
	for _, u := range started {
		if _, err := m.Log(u, 1, 10); err != nil {
			t.Error(err)
		}
		m.List(Filter{Running: true})
		wait(t, m, u)
		lines := texts(t, m, u)
		last := lines[len(lines)-1]
		slices.Sort(lines)
		if distinct := slices.Compact(lines); len(distinct) != 101 || last != "TASK OK" {
			t.Errorf("%d different lines, the last %q, want 100 and TASK OK", len(distinct), last)
		}
	}
	if _, total := m.List(Filter{}); total != 20 {
		t.Errorf("%d tasks, want 20", total)
	}
}
