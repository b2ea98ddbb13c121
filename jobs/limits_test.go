package jobs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// So many jobs run at once on one datastore; the next waits, and can be stopped.
func TestTurns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := open(t, Config{Turns: PerStore(4, 2)})
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
			u, err := m.Start(t.Context(), "verificationjob", "main:daily", "a@pbs", work)
			if err != nil {
				t.Fatal(err)
			}
			started = append(started, u)
		}
		for typ, id := range map[string]string{"prunejob": "main", "garbage_collection": "main", "verificationjob": "other:daily", "verify": "main:vm/100/6A000000", "syncjob": "r:x:main::pull"} {
			if i := do(t, m, typ, id, nothing); i.State != OK {
				t.Errorf("%s of %s waits for verifications of main: %+v", typ, id, i)
			}
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
		if !strings.Contains(log, "waiting: 2 verifications of datastore main run, and no more may") || !strings.Contains(log, "waited ") {
			t.Errorf("no log says that its task waited: %s", log)
		}
	})
}

func TestPerStore(t *testing.T) {
	turns := PerStore(3, 1)
	for _, tt := range []struct{ typ, id, want string }{
		{"syncjob", "office:there:main:ns:job", "copies of datastore main 3"},
		{"offloadjob", "cloud:main:up", "copies of datastore cloud 3"},
		{"exportjob", "main:usb", "copies of datastore main 3"},
		{"verificationjob", "main:daily", "verifications of datastore main 1"},
		{"verify", "main", "verifications of datastore main 1"},
		{"verify", "main:ns/a/ns/b", "verifications of datastore main 1"},
		{"verify", "main:ns/a/vm/100/6A0000FF", " 0"}, // has just been made
		{"verify_group", "main:/vm/100", " 0"},
		{"prunejob", "main", " 0"},
		{"garbage_collection", "main", " 0"},
		{"backup", "main:vm/100", " 0"},
	} {
		word, n := turns(UPID{Type: tt.typ, ID: tt.id})
		if got := fmt.Sprint(word, " ", n); got != tt.want {
			t.Errorf("%s of %s: %q, want %q", tt.typ, tt.id, got, tt.want)
		}
	}
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
