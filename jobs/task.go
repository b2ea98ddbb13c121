package jobs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs/stall"
	"github.com/holdfast-mesh/holdfast/jobs/tasklog"
)

// A Task is a run of some work, as the work sees it. Its methods may be called
// from any goroutine; after the work has returned they do nothing.
type Task struct {
	upid   UPID
	log    *taskLog
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when it has ended and its end is recorded
	onEnd  func(Info)    // may be nil
	signs  stall.Signs   // that the work gets on

	mu       sync.Mutex
	warnings int
	progress float64
	doing    string
	stats    map[string]int64
}

// UPID returns the name of the run.
func (t *Task) UPID() UPID { return t.upid }

// Logf writes a line to the log; each line of a text with several, at most
// 200, gets its own time. A line is cut at 4 KiB, a log ends at Config.LogBytes.
func (t *Task) Logf(format string, args ...any) {
	t.log.print(time.Now(), fmt.Sprintf(format, args...))
}

// Warnf writes a line that deserves a look. A task with warnings that does
// not fail ends as "WARNINGS: n".
func (t *Task) Warnf(format string, args ...any) {
	t.mu.Lock()
	t.warnings++
	t.mu.Unlock()
	t.log.print(time.Now(), "WARN: "+fmt.Sprintf(format, args...))
}

// Progress says how far the work is, from 0 to 1, and what it is at. It is
// shown in lists while the task runs, and kept nowhere. Work whose progress does not
// change, and neither does what is watched, has stalled in the end: see [ErrStalled].
func (t *Task) Progress(done float64, doing string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	progress, was := t.progress, t.doing
	if done >= 0 { // not for NaN
		t.progress = min(done, 1)
	}
	if t.doing = tasklog.Clean(doing); t.progress != progress || t.doing != was {
		t.signs.Seen(time.Now())
	}
}

// Watch has a figure that grows while the work gets on, such as the bytes that it has
// read, count as its progress. It is asked for from any goroutine, also after the end.
func (t *Task) Watch(figure func() int64) { t.signs.Watch(figure) }

// Count sets a figure of the run, such as how many bytes it fetched. Those of a
// schedule are kept with its runs.
func (t *Task) Count(what string, n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stats == nil {
		t.stats = map[string]int64{}
	}
	t.stats[what] = n
}

// info returns what is known of a running task.
func (t *Task) info() Info {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Info{UPID: t.upid, State: Running, Warnings: t.warnings, Progress: t.progress, Doing: t.doing}
}

// ended returns what is known of a task whose work returned err, and writes
// what helps against it to the log.
func (t *Task) ended(ctx context.Context, err error) Info {
	cause := context.Cause(ctx)
	cut := err != nil && (errors.Is(cause, errClosed) || errors.Is(cause, errReplaced)) && (errors.Is(err, cause) || errors.Is(err, context.Canceled))
	if cut {
		t.Warnf("%v", cause)
	}
	i := t.info()
	i.Progress, i.Doing, i.End = 0, "", time.Unix(time.Now().Unix(), 0).UTC()
	t.mu.Lock()
	i.Stats = maps.Clone(t.stats)
	t.mu.Unlock()
	switch {
	case cut:
		i.State, i.cut = Warning, cause
	case err != nil:
		i.State, i.Message, i.Warnings = Failed, message(ctx, err), 0
		if h, ok := errors.AsType[hinter](err); ok && h.Hint() != "" {
			t.Logf("hint: %s", h.Hint())
		}
	case i.Warnings > 0:
		i.State = Warning
	default:
		i.State = OK
	}
	return i
}

// A hinter is an error with a known cure.
type hinter interface {
	error
	Hint() string
}

// maxMessage bounds in bytes the error that is kept of a task.
const maxMessage = 1024

// message makes one line of the error of a task. That its context ended says
// less than why.
func message(ctx context.Context, err error) string {
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) && !errors.Is(err, cause) {
		if err.Error() == context.Canceled.Error() {
			err = cause
		} else {
			err = fmt.Errorf("%w: %w", cause, err)
		}
	}
	lines := strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' })
	msg := strings.TrimSpace(tasklog.Clean(strings.Join(lines, "; ")))
	if len(msg) > maxMessage {
		msg = strings.ToValidUTF8(msg[:maxMessage], "") + tasklog.CutMark
	}
	if msg == "" {
		return "failed, and did not say why"
	}
	return msg
}

// call runs the work. What it panics with becomes an error, the stack goes to
// the log.
func (t *Task) call(ctx context.Context, work func(context.Context, *Task) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			t.Logf("panic: %v\n%s", p, debug.Stack())
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return work(ctx, t)
}
