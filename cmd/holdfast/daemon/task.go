package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/node/admin"
)

const (
	logPath    = "/nodes/localhost/tasks/{upid}/log"
	statusPath = "/nodes/localhost/tasks/{upid}/status"
	logPage    = 500                    // lines that are asked for at a time
	logPause   = 200 * time.Millisecond // before a task that is silent is asked again, at first
)

// A Line of a task's log.
type Line struct {
	N    int    `json:"n"`
	Text string `json:"t"`
}

// A TaskError is a task that failed.
type TaskError struct{ UPID, Status string }

func (e *TaskError) Error() string { return "the task failed: " + e.Status }

// Hint is printed on its own line below the error.
func (e *TaskError) Hint() string { return "its log: holdfast task log '" + e.UPID + "'" }

// Watch prints the log of the task that r names until it ends, and fails if
// the task did. In JSON it prints the name of the task instead. If ctx ends
// before, the task goes on.
func Watch(ctx context.Context, o *cli.Options, c *admin.Client, r admin.Result) error {
	var upid string
	if err := r.Into(&upid); err != nil {
		return err
	}
	out := o.Err
	if o.Quiet || o.Format != "text" {
		out = io.Discard
	}
	if err := Follow(ctx, c, upid, out); err != nil {
		return err
	}
	if o.Format != "text" {
		return o.Print(upid, nil)
	}
	return nil
}

// WatchBar is [Watch] with a bar below the log, on a terminal, that says how far
// the task is.
func WatchBar(ctx context.Context, o *cli.Options, c *admin.Client, what string, r admin.Result) error {
	m := o.Share(what)
	defer m.End()
	above := m.Above()
	var upid string
	if err := r.Into(&upid); above == nil || err != nil {
		return Watch(ctx, o, c, r)
	}
	ctx2, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		follow(ctx2, c, upid, m)
	}()
	err := Follow(ctx, c, upid, above)
	stop()
	<-done
	return err
}

// barPause is how often a bar moves.
const barPause = 500 * time.Millisecond

// follow moves a bar with a task until ctx is done.
func follow(ctx context.Context, c *admin.Client, upid string, m *cli.Meter) {
	for {
		var s struct {
			Progress float64 `json:"progress"`
			Doing    string  `json:"doing"`
		}
		if err := Get(ctx, c, statusPath, url.Values{"upid": {upid}}, &s); err == nil {
			m.Set(int64(s.Progress*1000), 1000, s.Doing)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(barPause):
		}
	}
}

// Follow writes the log of a task, without its times, until the task ends, and
// fails if the task did.
func Follow(ctx context.Context, c *admin.Client, upid string, out io.Writer) error {
	pause := logPause
	for next := 1; ; {
		lines, active, err := logFrom(ctx, c, upid, next)
		if err != nil {
			return err
		}
		for _, l := range lines {
			text := l.Text
			if _, after, ok := strings.Cut(text, ": "); ok {
				text = after
			}
			if _, err := fmt.Fprintln(out, text); err != nil {
				return err
			}
			next, pause = l.N+1, logPause
		}
		switch {
		case len(lines) == logPage:
			continue
		case !active:
			return outcome(ctx, c, upid)
		}
		select {
		case <-ctx.Done():
			return &stillRuns{upid, ctx.Err()}
		case <-time.After(pause):
			pause = min(2*pause, 2*time.Second)
		}
	}
}

// Log returns what there is of the log of a task by now.
func Log(ctx context.Context, c *admin.Client, upid string) ([]Line, error) {
	all := []Line{}
	for {
		lines, _, err := logFrom(ctx, c, upid, len(all)+1)
		if all = append(all, lines...); err != nil || len(lines) < logPage {
			return all, err
		}
	}
}

// logFrom returns lines of a log, and whether there will be more.
func logFrom(ctx context.Context, c *admin.Client, upid string, start int) (lines []Line, active bool, err error) {
	r, err := Call(ctx, c, http.MethodGet, logPath, url.Values{
		"upid": {upid}, "start": Number(int64(start)), "limit": Number(logPage), "test-status": {"1"},
	})
	var refusal *admin.Refusal
	if errors.As(err, &refusal) && strings.HasPrefix(refusal.Text, "No such file") { // as PBS says it
		err = cli.Hint(fmt.Errorf("there is no such task: %s", upid), "list them: holdfast task list --all")
	}
	if err != nil {
		return nil, false, err
	}
	_ = json.Unmarshal(r.Beside["active"], &active) // absent: it has ended
	return lines, active, r.Into(&lines)
}

// outcome fails if a task that has ended failed.
func outcome(ctx context.Context, c *admin.Client, upid string) error {
	var status struct {
		Exit string `json:"exitstatus"`
	}
	if err := Get(ctx, c, statusPath, url.Values{"upid": {upid}}, &status); err != nil {
		return err
	}
	if status.Exit == "OK" || strings.HasPrefix(status.Exit, "WARNINGS") {
		return nil
	}
	return &TaskError{upid, status.Exit}
}

// A stillRuns is why nobody waits for a task any more.
type stillRuns struct {
	upid string
	err  error
}

func (e *stillRuns) Error() string { return "the task goes on: " + e.err.Error() }
func (e *stillRuns) Unwrap() error { return e.err }
func (e *stillRuns) Hint() string  { return "stop it with: holdfast task stop '" + e.upid + "'" }
