package jobs

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// order names tasks by their IDs, in the order of a list.
func order(tasks []Info) string {
	var ids []string
	for _, i := range tasks {
		ids = append(ids, i.UPID.ID)
	}
	return strings.Join(ids, " ")
}

func TestFilter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := open(t, Config{})
		began := time.Now()
		for n, row := range []struct{ typ, id, auth, end string }{
			{"backup", "s1:vm/1", "a@pbs", "OK"},
			{"prune", "s1", "a@pbs!tok", "ERROR: x"},
			{"prunejob", "s2:ns", "root@pam", "WARNINGS: 1"},
			{"syncjob", "-:far:s1:ns:j", "b@pbs", "OK"},
			{"backup", "s10:vm/1", "b@pbs", "unknown"},
			{"verify", "s1", "a@pbs", ""},
			{"garbage_collection", "s2", "root@pam", ""},
		} {
			work := nothing
			if row.end == "" {
				work = until
			}
			u, err := m.Start(t.Context(), row.typ, row.id, row.auth, work)
			if err != nil {
				t.Fatal(err)
			}
			if row.end != "" {
				wait(t, m, u)
				m.finished[n].setResult(row.end)
			}
			time.Sleep(time.Minute)
		}
		synctest.Wait()
		for _, row := range []struct {
			name  string
			f     Filter
			want  string
			total int
		}{
			{"all: those that run first, then the newest", Filter{}, "s2 s1 s10:vm/1 -:far:s1:ns:j s2:ns s1 s1:vm/1", 7},
			{"a page", Filter{Start: 1, Limit: 2}, "s1 s10:vm/1", 7},
			{"a page behind the end", Filter{Start: 7, Limit: 2}, "", 7},
			{"those that run", Filter{Running: true}, "s2 s1", 2},
			{"those that ended badly", Filter{Errors: true}, "s10:vm/1 s2:ns s1", 3},
			{"warnings", Filter{States: []State{Warning}}, "s2:ns", 1},
			{"two states", Filter{States: []State{OK, Unknown}}, "s10:vm/1 -:far:s1:ns:j s1:vm/1", 3},
			{"a state and errors", Filter{States: []State{OK}, Errors: true}, "", 0},
			{"a user, with tokens", Filter{User: "a@pbs"}, "s1 s1 s1:vm/1", 3},
			{"a part of a user", Filter{User: "!tok"}, "s1", 1},
			{"a part of a type", Filter{Type: "prune"}, "s2:ns s1", 2},
			{"a datastore", Filter{Store: "s1"}, "s1 -:far:s1:ns:j s1 s1:vm/1", 4},
			{"a datastore nobody works on", Filter{Store: "far"}, "", 0},
			{"since", Filter{Since: began.Add(5 * time.Minute)}, "s2 s1", 2},
			{"until", Filter{Until: began.Add(time.Minute)}, "s1 s1:vm/1", 2},
			{"since and until", Filter{Since: began.Add(time.Minute), Until: began.Add(2 * time.Minute)}, "s2:ns s1", 2},
			{"what one may see", Filter{Visible: func(i Info) bool { return i.UPID.AuthID == "b@pbs" }}, "s10:vm/1 -:far:s1:ns:j", 2},
		} {
			got, total := m.List(row.f)
			if order(got) != row.want || total != row.total {
				t.Errorf("%s: %q of %d, want %q of %d", row.name, order(got), total, row.want, row.total)
			}
		}
	})
}

func TestParseState(t *testing.T) {
	for _, want := range []State{Running, OK, Warning, Failed, Unknown} {
		if got, err := ParseState(string(want)); err != nil || got != want {
			t.Errorf("ParseState(%q) = %q, %v", want, got, err)
		}
	}
	if got, err := ParseState("OK"); err == nil {
		t.Errorf("ParseState(OK) = %q, want an error", got)
	}
}

// ended makes tasks that ended one second after each other, from "a3 b2".
func ended(text string) (tasks []Info) {
	for f := range strings.FieldsSeq(text) {
		var n int
		fmt.Sscan(f[1:], &n)
		for range n {
			at := int64(len(tasks))
			tasks = append(tasks, Info{
				UPID: UPID{Type: f[:1], TaskID: uint64(at)}, End: time.Unix(at, 0), logBytes: 10,
			})
		}
	}
	return tasks
}

func TestSurplus(t *testing.T) {
	for _, row := range []struct {
		name, tasks string
		keep        Keep
		want        string // that go, by type and number
	}{
		{"few", "a5", Keep{10, 1000, 1000 * time.Second}, ""},
		{"as many as there may be", "a10", Keep{10, 1000, 1000 * time.Second}, ""},
		{"the slack", "a11", Keep{10, 1000, 1000 * time.Second}, ""},
		{"over the slack, down to the limit", "a12", Keep{10, 1000, 1000 * time.Second}, "a0 a1"},
		{"the most frequent type goes", "b1 a14", Keep{10, 1000, 1000 * time.Second}, "a1 a2 a3 a4 a5"},
		{"types share what is left", "a4 b9", Keep{6, 1000, 1000 * time.Second}, "a0 b4 b5 b6 b7 b8 b9"},
		{"too many bytes", "a12", Keep{100, 100, 1000 * time.Second}, "a0 a1"},
		{"too old", "a12", Keep{100, 1000, 5 * time.Second}, "a0 a1 a2 a3 a4 a5"},
		{"too old is not counted", "a12", Keep{5, 1000, 5 * time.Second}, "a0 a1 a2 a3 a4 a5 a6"},
		{"none", "", Keep{1, 1, 1}, ""},
	} {
		tasks := ended(row.tasks)
		stay, drop := surplus(tasks, row.keep, time.Unix(int64(len(tasks)-1), 0))
		var got []string
		for _, i := range drop {
			got = append(got, fmt.Sprintf("%s%d", i.UPID.Type, i.UPID.TaskID))
		}
		if strings.Join(got, " ") != row.want || len(stay)+len(drop) != len(tasks) {
			t.Errorf("%s: of %s %v go and %d stay, want %q to go", row.name, row.tasks, got, len(stay), row.want)
		}
	}
}
