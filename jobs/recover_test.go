package jobs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What was running when the process was killed is unknown, as of its last
// line, and its log is there.
func TestTasksOfAKilledProcess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := open(t, Config{})
		done := do(t, m, "prune", "store1", nothing)
		u, err := m.Start(t.Context(), "backup", "store1:vm/100", "a@pbs!tok", func(ctx context.Context, task *Task) error {
			time.Sleep(5 * time.Second)
			task.Logf("uploading")
			return until(ctx, task)
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		dir := killed(t, m.cfg.Dir)
		for round := range 2 { // adopted, then read from the index
			m := open(t, Config{Dir: dir})
			i, err := m.Status(u)
			if err != nil || i.State != Unknown || i.Status() != "unknown" || i.End.Unix() != u.Start+5 {
				t.Errorf("round %d: the killed task is %+v, %v", round, i, err)
			}
			if p, err := m.Log(u, 1, 0); err != nil || p.Active || p.Total != 1 || !strings.HasSuffix(p.Lines[0].Text, ": uploading") {
				t.Errorf("round %d: its log is %+v, %v", round, p, err)
			}
			if i, err := m.Status(done.UPID); err != nil || i.State != OK {
				t.Errorf("round %d: the other is %+v, %v", round, i, err)
			}
			if err := m.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Without an index, or with one that is damaged anywhere, nothing is lost as
// long as the logs are there.
func TestIndexIsDerived(t *testing.T) {
	m := open(t, Config{})
	for _, work := range []func(context.Context, *Task) error{
		nothing,
		func(_ context.Context, t *Task) error { t.Warnf("x"); return nil },
		func(context.Context, *Task) error { return errors.New("no: space") },
	} {
		do(t, m, "prune", "a-b/c d", work)
	}
	if err := m.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	want, _ := m.List(Filter{})
	index := read(t, m.cfg.Dir, indexName)
	for name, damaged := range map[string]string{
		"as it was":                    index,
		"empty":                        "",
		"garbage":                      strings.Repeat("\x00\xff\n x\n", 100),
		"a torn last line":             index[:len(index)-4],
		"a last line without its end":  index[:len(index)-1],
		"zeros at the end":             index + strings.Repeat("\x00", 4096),
		"zeros at the start":           strings.Repeat("\x00", 4096) + index,
		"every line twice":             index + index,
		"times that are none":          strings.ReplaceAll(index, ": ", ": x"),
		"results that are none":        strings.ReplaceAll(index, "OK", "fine"),
		"one line of a million":        strings.Repeat("x", 1_000_000) + "\n" + index,
		"the lines in the wrong order": strings.Join([]string{strings.Split(index, "\n")[2], strings.Split(index, "\n")[0], ""}, "\n"),
	} {
		t.Run(name, func(t *testing.T) {
			dir := killed(t, m.cfg.Dir)
			write(t, damaged, dir, indexName)
			m := open(t, Config{Dir: dir})
			if got, _ := m.List(Filter{}); !reflect.DeepEqual(got, want) {
				t.Errorf("tasks are %+v, want %+v", got, want)
			}
			if got := read(t, dir, indexName); got != index {
				t.Errorf("the index is %q, want %q", got, index)
			}
		})
	}
	t.Run("gone", func(t *testing.T) {
		dir := killed(t, m.cfg.Dir)
		if err := os.Remove(filepath.Join(dir, indexName)); err != nil {
			t.Fatal(err)
		}
		if got, _ := open(t, Config{Dir: dir}).List(Filter{}); !reflect.DeepEqual(got, want) {
			t.Errorf("tasks are %+v, want %+v", got, want)
		}
	})
}

func TestDamagedLogs(t *testing.T) {
	m := open(t, Config{})
	i := do(t, m, "prune", "store1", nothing)
	if err := m.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	name := logName(i.UPID)
	log, index := read(t, m.cfg.Dir, name), read(t, m.cfg.Dir, indexName)
	for _, row := range []struct{ name, log, index, want string }{
		{"a log without an end", log[:strings.LastIndex(log, at[4:5])], "", "unknown"},
		{"a log of its name alone", i.UPID.String(), "", "unknown"},
		{"a log that ends in the far future", strings.Replace(log, "\n20", "\n99", 1), "", "OK"},
		{"a log that ends before it begins", strings.Replace(log, "\n20", "\n19", 1), "", "OK"},
		{"an empty log", "", "", ""},
		{"a log of zeros", strings.Repeat("\x00", 100), "", ""},
		{"a log of another task", strings.Replace(log, "UPID:pbs3:", "UPID:pbs3:F", 1), "", ""},
		{"a log of another task, known", strings.Replace(log, ":prune:", ":verify:", 1), index, "OK"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := killed(t, m.cfg.Dir)
			write(t, row.log, dir, name)
			write(t, row.index, dir, indexName)
			m := open(t, Config{Dir: dir})
			j, err := m.Status(i.UPID)
			if row.want == "" {
				if !errors.Is(err, ErrNoTask) {
					t.Errorf("it is %+v, %v, want nothing of it", j, err)
				}
				return
			}
			if err != nil || j.Status() != row.want || j.End.Before(i.UPID.Time()) || j.End.After(time.Now()) {
				t.Errorf("it is %+v, %v, want %q", j, err, row.want)
			}
			if _, err := m.Log(i.UPID, 0, 0); row.index != "" && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a log of another task was shown: %v", err)
			}
		})
	}
}

// A disk that takes nothing stops no task: garbage collection may be the one
// that frees it.
func TestTaskRunsWithoutItsLog(t *testing.T) {
	var out logBuffer
	m := open(t, Config{Log: out.logger()})
	if err := os.RemoveAll(m.cfg.Dir); err != nil {
		t.Fatal(err)
	}
	write(t, "", m.cfg.Dir)
	i := do(t, m, "garbage_collection", "store1", func(_ context.Context, task *Task) error {
		task.Logf("freeing")
		return nil
	})
	if i.State != OK {
		t.Errorf("ended as %+v", i)
	}
	if _, err := m.Log(i.UPID, 0, 0); err == nil {
		t.Error("there is a log, want none")
	}
	if n := strings.Count(out.String(), "task log cannot be written"); n != 1 {
		t.Errorf("the loss was told %d times, want once:\n%s", n, out.String())
	}
	if err := os.Remove(m.cfg.Dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(m.cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	j := do(t, m, "garbage_collection", "store1", nothing)
	again := open(t, Config{Dir: killed(t, m.cfg.Dir)})
	if _, err := again.Status(j.UPID); err != nil || len(texts(t, again, j.UPID)) != 1 {
		t.Errorf("with the disk back: %v", err)
	}
}

func TestWhatIsSurplusGoes(t *testing.T) {
	m := open(t, Config{Keep: Keep{Tasks: 10}})
	gc := do(t, m, "garbage_collection", "store1", nothing)
	for range 60 {
		do(t, m, "reader", "store1:vm/1", nothing)
	}
	tasks, total := m.List(Filter{})
	if total < 10 || total > 11 || tasks[total-1].UPID != gc.UPID {
		t.Errorf("%d tasks are left, the oldest %+v, want 10 or 11 and the one garbage collection", total, tasks[total-1])
	}
	if n := len(logs(t, m.cfg.Dir)); n != total {
		t.Errorf("%d logs are left, want %d", n, total)
	}
	if n := strings.Count(read(t, m.cfg.Dir, indexName), "\n"); n != total {
		t.Errorf("%d lines are left in the index, want %d", n, total)
	}
	if err := m.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	small := open(t, Config{Dir: m.cfg.Dir, Keep: Keep{Tasks: 3}})
	if _, total := small.List(Filter{}); total != 3 || len(logs(t, m.cfg.Dir)) != 3 {
		t.Errorf("%d tasks after a restart with fewer to keep, want 3", total)
	}
}

func FuzzParseIndex(f *testing.F) {
	f.Add("UPID:pbs1:000004F3:0039E469:00000000:5CA78B83:prune:store1:root@pam: 5CA78B84 OK\n")
	f.Add("UPID:a:00000001:00000001:00000001:00000001:x::y: 0 WARNINGS: 3\nUPID:a:00000001:00000001:00000001:00000001:x::y: FFFFFFFF ERROR: a: b\n")
	f.Add("\x00\x00\nx\nUPID:a:00000001:00000001:00000001:00000001:x::y: 0 unknown")
	f.Fuzz(func(t *testing.T, text string) {
		tasks, _, err := parseIndex(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		for _, i := range tasks {
			out.WriteString(i.entry())
		}
		again, damaged, err := parseIndex(strings.NewReader(out.String()))
		if err != nil || damaged > 0 || !reflect.DeepEqual(again, tasks) {
			t.Fatalf("%q is read %+v, written %q, and read %+v (%d damaged)", text, tasks, out.String(), again, damaged)
		}
	})
}
