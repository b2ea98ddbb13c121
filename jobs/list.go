package jobs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs/tasklog"
)

// Filter says which tasks a list has. The zero value of a field leaves it out.
// They are the parameters of the task list of PBS (PBS protocol notes §7.9).
type Filter struct {
	Start   int               // skip so many of the tasks that match
	Limit   int               // at most so many; 0 is all
	Running bool              // those that have not ended
	Errors  bool              // those that ended, but not as OK
	States  []State           // those in one of these states
	User    string            // part of the AuthID
	Type    string            // part of the type
	Store   string            // datastore that is worked on
	Since   time.Time         // begun then or later
	Until   time.Time         // begun then or earlier
	Visible func(i Info) bool // what the asker may see; called with no lock held
}

// match reports whether f leaves i in.
func (f *Filter) match(i Info) bool {
	u := i.UPID
	switch {
	case f.Running && i.State != Running,
		f.Errors && (i.State == Running || i.State == OK),
		len(f.States) > 0 && !slices.Contains(f.States, i.State),
		!strings.Contains(u.AuthID, f.User),
		!strings.Contains(u.Type, f.Type),
		f.Store != "" && storeOf(u) != f.Store,
		!f.Since.IsZero() && u.Start < f.Since.Unix(),
		!f.Until.IsZero() && u.Start > f.Until.Unix():
		return false
	}
	return f.Visible == nil || f.Visible(i)
}

// storeOf returns the datastore that a task works on, by the table of §7.9:
// IDs begin with it, but for that of a sync job.
func storeOf(u UPID) string {
	if u.Type == "syncjob" {
		if parts := strings.SplitN(u.ID, ":", 4); len(parts) > 2 {
			return parts[2]
		}
	}
	store, _, _ := strings.Cut(u.ID, ":")
	return store
}

// List returns the tasks that f leaves in, those that run first, then by their
// end, newest first, and how many there are without Start and Limit.
func (m *Manager) List(f Filter) (tasks []Info, total int) {
	for _, i := range m.all() {
		if !f.match(i) {
			continue
		}
		total++
		if total > f.Start && (f.Limit <= 0 || len(tasks) < f.Limit) {
			tasks = append(tasks, i)
		}
	}
	return tasks, total
}

// all returns all tasks in the order of List.
func (m *Manager) all() []Info {
	m.mu.Lock()
	defer m.mu.Unlock()
	tasks := make([]Info, 0, len(m.active)+len(m.finished))
	for _, t := range m.active {
		tasks = append(tasks, t.info())
	}
	slices.SortFunc(tasks, func(a, b Info) int { return byStart(b, a) })
	for _, i := range slices.Backward(m.finished) {
		tasks = append(tasks, i)
	}
	return tasks
}

// Status returns what is known of a task, or [ErrNoTask].
func (m *Manager) Status(u UPID) (Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.active[u]; t != nil {
		return t.info(), nil
	}
	for _, i := range slices.Backward(m.finished) {
		if i.UPID == u {
			return i, nil
		}
	}
	return Info{}, fmt.Errorf("%w: %s", ErrNoTask, u)
}

// Log returns lines of a task's log: from start (the first is 1), at most
// limit; 0 is all. The error is [ErrNoTask] for a task that is not known, and
// fs.ErrNotExist for one whose log is lost.
func (m *Manager) Log(u UPID, start, limit int) (tasklog.Page, error) {
	log, active, err := m.openLog(u)
	if err != nil {
		return tasklog.Page{}, err
	}
	defer log.Close() // it was only read
	p, err := tasklog.ReadPage(log.Reader, start, limit)
	if err != nil {
		return tasklog.Page{}, fmt.Errorf("read log of task %s: %w", u, err)
	}
	p.Active = active
	return p, nil
}

// WriteLog writes the whole log of a task to w. Errors are those of Log, and
// of w.
func (m *Manager) WriteLog(w io.Writer, u UPID) error {
	log, _, err := m.openLog(u)
	if err != nil {
		return err
	}
	defer log.Close() // it was only read
	out := bufio.NewWriter(w)
	for {
		line, err := log.Next()
		if errors.Is(err, io.EOF) {
			return out.Flush()
		}
		if err == nil {
			_, err = out.WriteString(line + "\n")
		}
		if err != nil {
			return fmt.Errorf("send log of task %s: %w", u, err)
		}
	}
}

// openLog opens the log of a task. Whether it is active is asked first: once
// it is not, the log is whole.
func (m *Manager) openLog(u UPID) (log *logFile, active bool, err error) {
	limit := int64(maxLog)
	if t := m.running(u); t != nil {
		active, limit = true, t.log.written()
	} else if _, err := m.Status(u); err != nil {
		return nil, false, err
	}
	log, err = openLog(m.cfg.Dir, u, m.cfg.Location, limit)
	if err != nil {
		return nil, false, fmt.Errorf("open log of task %s: %w", u, err)
	}
	return log, active, nil
}
