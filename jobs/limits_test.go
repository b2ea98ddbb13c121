package jobs

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestLimitOfAType(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := open(t, Config{Limits: map[string]int{"verify": 2}})
		var now, most atomic.Int32
		work := func(ctx context.Context, task *Task) error {
			n := now.Add(1)
			defer now.Add(-1)
			most.Store(max(most.Load(), n))
			select {
			case <-time.After(time.Minute):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		var started []UPID
		for range 6 {
			u, err := m.Start(t.Context(), "verify", "", "a@pbs", work)
			if err != nil {
				t.Fatal(err)
			}
			started = append(started, u)
		}
		if i := do(t, m, "prune", "", nothing); i.State != OK {
			t.Errorf("another type waits for verify: %+v", i)
		}
		synctest.Wait()
		waiting := started[slices.IndexFunc(started, func(u UPID) bool {
			i, _ := m.Status(u)
			return strings.HasPrefix(i.Doing, "waiting")
		})]
		if err := m.Stop(t.Context(), waiting); err != nil {
			t.Fatal(err)
		}
		if i, _ := m.Status(waiting); i.Message != "stopped on request" {
			t.Errorf("what was stopped while it waited ended as %+v", i)
		}
		began, ok := time.Now(), 0
		for _, u := range started {
			if wait(t, m, u).State == OK {
				ok++
			}
		}
		if ok != 5 || most.Load() != 2 || time.Since(began) != 3*time.Minute {
			t.Errorf("%d of 5 done, %d at once, in %v, want 2 at once in 3 minutes", ok, most.Load(), time.Since(began))
		}
		log := strings.Join(texts(t, m, started[0]), "|") + strings.Join(texts(t, m, started[5]), "|") + strings.Join(texts(t, m, started[4]), "|")
		if !strings.Contains(log, "waiting: 2 tasks of type verify run") || !strings.Contains(log, "waited ") {
			t.Errorf("no log says that its task waited: %s", log)
		}
	})
}

func TestRefusals(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := open(t, Config{Active: 2})
		for range 2 {
			if _, err := m.Start(t.Context(), "prune", "", "a@pbs", until); err != nil {
				t.Fatal(err)
			}
		}
		_, err := m.Start(t.Context(), "prune", "", "a@pbs", nothing)
		if h, ok := errors.AsType[hinter](err); !errors.Is(err, ErrTooMany) || !ok || h.Hint() == "" {
			t.Errorf("the third of two: %v, want %v with a hint", err, ErrTooMany)
		}
		if _, err := m.Start(t.Context(), "a type", "", "a@pbs", nothing); err == nil {
			t.Error("a type with a blank was taken")
		}
		if _, err := m.Do(t.Context(), "prune", "", "", nothing); err == nil {
			t.Error("a task of nobody was taken")
		}
		nobody := UPID{Node: "pbs3", Type: "x", AuthID: "y"}
		_, err1 := m.Status(nobody)
		_, err2 := m.Log(nobody, 0, 0)
		_, err3 := m.Wait(t.Context(), nobody)
		for _, err := range []error{err1, err2, err3, m.Stop(t.Context(), nobody), m.WriteLog(&bytes.Buffer{}, nobody)} {
			if !errors.Is(err, ErrNoTask) {
				t.Errorf("of a task that never was: %v, want %v", err, ErrNoTask)
			}
		}
		if n := len(logs(t, m.cfg.Dir)); n != 2 {
			t.Errorf("%d logs, want those of the 2 tasks that run", n)
		}
		if err := m.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Start(t.Context(), "prune", "", "a@pbs", nothing); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v, want %v", err, ErrClosed)
		}
		done, _ := m.List(Filter{})
		for _, i := range done {
			if i.Message != "the node is shutting down" {
				t.Errorf("Close ended a task as %+v", i)
			}
		}
	})
}

func TestCloseSaysWhoIsDeaf(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := open(t, Config{})
		u, _ := m.Start(t.Context(), "prune", "", "a@pbs", func(context.Context, *Task) error {
			time.Sleep(time.Hour)
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := m.Close(ctx); !errors.Is(err, ErrRunning) || !strings.Contains(err.Error(), u.String()) {
			t.Errorf("close: %v, want %v and the name of the task", err, ErrRunning)
		}
		if _, err := New(m.cfg); err == nil {
			t.Error("the directory was given away while a task runs")
		}
		if err := m.Close(t.Context()); err != nil {
			t.Errorf("a second close: %v", err)
		}
		if i := wait(t, m, u); i.State != OK {
			t.Errorf("ended as %+v", i)
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	dir := t.TempDir()
	for name, cfg := range map[string]Config{
		"no directory":            {},
		"a limit of nothing":      {Dir: dir, Limits: map[string]int{"verify": 0}},
		"a node that is none":     {Dir: dir, Node: "a b"},
		"fewer than no task":      {Dir: dir, Active: -1},
		"logs of no size":         {Dir: dir, LogBytes: 1},
		"too many tasks to keep":  {Dir: dir, Keep: Keep{Tasks: 1 << 20}},
		"a time before now":       {Dir: dir, Keep: Keep{Age: -1}},
		"a directory that is one": {Dir: filepath.Join(os.DevNull, "x")},
	} {
		if m, err := New(cfg); err == nil {
			t.Errorf("%s: fine, want an error", name)
			_ = m.Close(t.Context())
		}
	}
	m := open(t, Config{Dir: dir})
	if _, err := New(m.cfg); err == nil || !strings.Contains(err.Error(), "locked by another process") {
		t.Errorf("a second manager in the same directory: %v", err)
	}
}
