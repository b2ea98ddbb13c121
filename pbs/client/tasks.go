package client

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/pbs/client/wire"
)

// A Task is one line of the server's list of tasks. Times are in seconds since
// 1970.
type Task struct {
	UPID   string `json:"upid"`
	Node   string `json:"node"`
	Type   string `json:"worker_type"` // "backup", "garbage_collection"
	ID     string `json:"worker_id"`   // what it works on; may be empty
	User   string `json:"user"`
	Start  int64  `json:"starttime"`
	End    int64  `json:"endtime"` // 0 while it runs
	Status string `json:"status"`  // "OK", "WARNINGS: 2", or what went wrong; "" while it runs
}

// Running reports whether the task has not ended.
func (t Task) Running() bool { return t.End == 0 && t.Status == "" }

// A TaskFilter chooses tasks. The zero value chooses the last 50 that the user
// may see.
type TaskFilter struct {
	Start   int       // how many are passed over
	Limit   int       // how many are returned; default 50, -1: all
	Running bool      // only those that run
	Errors  bool      // only those that failed
	User    string    // whose user has this in its name
	Store   string    // that concern this datastore
	Type    string    // whose type has this in its name
	Since   time.Time // that started later
	Until   time.Time // that started earlier
}

func (f TaskFilter) query() url.Values {
	q := url.Values{}
	set := func(name, value string, wanted bool) {
		if wanted {
			q.Set(name, value)
		}
	}
	set("start", strconv.Itoa(f.Start), true)
	set("limit", strconv.Itoa(max(f.Limit, 0)), f.Limit != 0) // to PBS 0 means all
	set("running", "true", f.Running)
	set("errors", "true", f.Errors)
	set("userfilter", f.User, f.User != "")
	set("store", f.Store, f.Store != "")
	set("typefilter", f.Type, f.Type != "")
	set("since", strconv.FormatInt(f.Since.Unix(), 10), !f.Since.IsZero())
	set("until", strconv.FormatInt(f.Until.Unix(), 10), !f.Until.IsZero())
	return q
}

const tasksPath = wire.Base + "/nodes/localhost/tasks"

// Tasks lists tasks of the server, newest first.
func (c *Client) Tasks(ctx context.Context, f TaskFilter) ([]Task, error) {
	all, err := wire.Call[[]Task](ctx, c.server, wire.Request{Method: "GET", Path: tasksPath, Query: f.query()})
	return all, during("list the tasks", err)
}

// A TaskStatus says how a task is doing.
type TaskStatus struct {
	UPID  string `json:"upid"`
	Type  string `json:"type"`
	ID    string `json:"id"`
	User  string `json:"user"`
	Start int64  `json:"starttime"`  // seconds since 1970
	State string `json:"status"`     // "running" or "stopped"
	Exit  string `json:"exitstatus"` // "OK", "WARNINGS: 2", "unknown", or what went wrong; "" while it runs
}

// Err returns nil if the task ended well, with warnings or without.
func (s TaskStatus) Err() error {
	if s.State != "stopped" || s.Exit == "OK" || strings.HasPrefix(s.Exit, "WARNINGS") {
		return nil
	}
	return &TaskError{s}
}

// A TaskError says that a task of the server failed.
type TaskError struct{ Status TaskStatus }

func (e *TaskError) Error() string {
	return fmt.Sprintf("task %s failed: %s", e.Status.UPID, wire.OneLine(e.Status.Exit))
}

// Hint is printed on its own line below the error.
func (e *TaskError) Hint() string { return "read the log of the task" }

// TaskStatus returns how a task is doing.
func (c *Client) TaskStatus(ctx context.Context, upid string) (TaskStatus, error) {
	s, err := wire.Call[TaskStatus](ctx, c.server, wire.Request{Method: "GET", Path: taskPath(upid) + "/status"})
	return s, during("ask for the status of task "+upid, err)
}

// StopTask asks the server to abort a task. It does not wait for the end.
func (c *Client) StopTask(ctx context.Context, upid string) error {
	_, err := wire.Call[any](ctx, c.server, wire.Request{Method: "DELETE", Path: taskPath(upid)})
	return during("stop task "+upid, err)
}

// A LogLine is one line of a task's log.
type LogLine struct {
	N    int    `json:"n"` // from 1
	Text string `json:"t"` // begins with a time and ": "
}

// A LogPage is part of a task's log.
type LogPage struct {
	Lines  []LogLine
	Total  int  // lines so far
	Active bool // the task runs, so that more will come
}

// TaskLog returns up to limit lines of a task's log from line start on, which
// counts from 1.
func (c *Client) TaskLog(ctx context.Context, upid string, start, limit int) (LogPage, error) {
	e, err := wire.CallAll[[]LogLine](ctx, c.server, wire.Request{Method: "GET", Path: taskPath(upid) + "/log", Query: url.Values{
		"start": {strconv.Itoa(start)}, "limit": {strconv.Itoa(limit)}, "test-status": {"true"},
	}})
	return LogPage{e.Data, e.Total, e.Active}, during("read the log of task "+upid, err)
}

const (
	// logPage is how many lines are asked for, as PBS's client does.
	logPage = 500

	// logInterval is how often a task that is silent is asked for news.
	logInterval = time.Second
)

// Watch hands each line of a task's log to fn, as they come, until the task
// ends, and returns how. It fails with a [TaskError] if the task did. When ctx
// ends the task goes on.
func (c *Client) Watch(ctx context.Context, upid string, fn func(LogLine) error) (TaskStatus, error) {
	for next := 1; ; {
		page, err := c.TaskLog(ctx, upid, next, logPage)
		if err != nil {
			return TaskStatus{}, err
		}
		news := false
		for _, line := range page.Lines {
			if line.N < next { // we have had it
				continue
			}
			if line.N > next {
				return TaskStatus{}, &AnswerError{Server: c.server.String(), What: "a request for a log", Err: fmt.Errorf("line %d comes where %d is due", line.N, next)}
			}
			if err := fn(line); err != nil {
				return TaskStatus{}, err
			}
			next, news = line.N+1, true
		}
		switch {
		case news && next <= page.Total:
			continue
		case !page.Active:
			s, err := c.TaskStatus(ctx, upid)
			if err == nil {
				err = s.Err()
			}
			return s, err
		}
		select {
		case <-ctx.Done():
			return TaskStatus{}, ctx.Err()
		case <-time.After(logInterval):
		}
	}
}

func taskPath(upid string) string { return tasksPath + "/" + wire.Escape(upid) }
