package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"sync"
	"time"
)

// Config says how a [Manager] behaves. The zero value of every optional field
// means the default written beside it.
type Config struct {
	Dir      string         // required; of the task logs, for this manager alone; created if need be
	Node     string         // as tasks name it; default: the host's name
	Log      *slog.Logger   // default: discard
	Turns    Turns          // which tasks wait for each other; default: none does
	Active   int            // tasks that run or wait, more are refused; default 1,000
	Keep     Keep           // which ended tasks are kept
	LogBytes int64          // of one task's log, 4 KiB to 64 MiB; default 16 MiB, some 100,000 lines
	StopWait time.Duration  // how long [Manager.Stop] waits; default 10 s
	Location *time.Location // of the times in logs; default: of the machine
	Ended    func(Info)     // is told of each task that ends or has ended with an earlier process; must not wait
}

// withDefaults returns c completed, or says which field is wrong and why.
func (c Config) withDefaults() (Config, error) {
	if c.Node == "" {
		host, _ := os.Hostname() // "" becomes "localhost"
		c.Node = NodeName(host)
	}
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	c.Active = cmp.Or(c.Active, 1000)
	c.LogBytes = cmp.Or(c.LogBytes, 16<<20)
	c.Keep.Tasks = cmp.Or(c.Keep.Tasks, 1000)
	c.Keep.Bytes = cmp.Or(c.Keep.Bytes, 1<<30)
	c.Keep.Age = cmp.Or(c.Keep.Age, 366*24*time.Hour)
	c.StopWait = cmp.Or(c.StopWait, 10*time.Second)
	c.Location = cmp.Or(c.Location, time.Local)
	switch {
	case c.Dir == "":
		return c, errors.New("jobs: no directory for task logs")
	case c.Active < 1:
		return c, fmt.Errorf("jobs: active tasks are %d, want 1 or more", c.Active)
	case c.LogBytes < 4<<10 || c.LogBytes > maxLog/2:
		return c, fmt.Errorf("jobs: a log may have %d bytes, want 4 KiB to 64 MiB", c.LogBytes)
	case c.Keep.Tasks < 1 || c.Keep.Tasks > 10_000:
		return c, fmt.Errorf("jobs: tasks to keep are %d, want 1 to 10,000", c.Keep.Tasks)
	case c.Keep.Bytes < 0 || c.Keep.Age < 0 || c.StopWait < 0:
		return c, errors.New("jobs: bytes to keep, age to keep and time to stop cannot be negative")
	}
	return c, UPID{Node: c.Node, Type: "x", AuthID: "x"}.Check()
}

// A Manager runs tasks and keeps the record of those that have ended. Its
// methods may be called from any goroutine. [Manager.Close] ends it.
type Manager struct {
	cfg   Config
	lock  io.Closer
	turns turns

	settle sync.Mutex // held while an end is recorded; taken before mu
	index  index

	mu       sync.Mutex
	active   map[UPID]*Task
	finished []Info // oldest end first
	working  int    // tasks from before they are active until all is done after their end
	closed   bool
	idle     chan struct{} // closed when closed is set and working is 0
}

// New opens the record of tasks in cfg.Dir. Tasks that were running when the
// last process died are recorded as ended, with the state [Unknown] unless
// their log says better. A damaged record is repaired and reported to the log;
// an error is a directory that cannot be used, or that another process uses.
func New(cfg Config) (*Manager, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	m := &Manager{cfg: cfg, active: map[UPID]*Task{}, turns: turns{of: map[string]chan struct{}{}}, idle: make(chan struct{})}
	if err := m.open(); err != nil {
		return nil, fmt.Errorf("open task directory %s: %w", cfg.Dir, err)
	}
	return m, nil
}

// Start begins a task of the given type ("prune"), on something (id), for
// someone (auth), and returns its name at once. The work goes on when ctx has
// ended: it ends by itself, by [Manager.Stop] or by [Manager.Close], which end
// the work's context with [ErrStopped] or [ErrShutdown] as the cause. If it
// panics, the task fails and the process goes on.
//
// Where Config.Turns says so, the task waits for its turn.
// [ErrTooMany] and [ErrClosed] are refusals.
func (m *Manager) Start(ctx context.Context, typ, id, auth string, work func(context.Context, *Task) error) (UPID, error) {
	return m.start(context.WithoutCancel(ctx), typ, id, auth, work, nil)
}

func (m *Manager) start(ctx context.Context, typ, id, auth string, work func(context.Context, *Task) error, onEnd func(Info)) (UPID, error) {
	t, ctx, err := m.begin(ctx, typ, id, auth)
	if err != nil {
		return UPID{}, err
	}
	t.onEnd = onEnd
	go func() { _ = m.run(ctx, t, work) }() // its end is recorded; [Manager.Close] waits for it
	return t.upid, nil
}

// Do is Start for a caller that waits, a connection say: the work's context
// ends with ctx too, and Do returns the work's error when the task has ended.
func (m *Manager) Do(ctx context.Context, typ, id, auth string, work func(context.Context, *Task) error) (UPID, error) {
	t, ctx, err := m.begin(ctx, typ, id, auth)
	if err != nil {
		return UPID{}, err
	}
	return t.upid, m.run(ctx, t, work)
}

// begin names a task and makes it active.
func (m *Manager) begin(ctx context.Context, typ, id, auth string) (*Task, context.Context, error) {
	u, err := NewUPID(m.cfg.Node, typ, id, auth, time.Now())
	if err == nil {
		err = m.admit()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("start %s task: %w", typ, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	t := &Task{
		upid: u, cancel: cancel, done: make(chan struct{}),
		log: createLog(m.cfg, u),
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.active[u] = t
	if m.closed {
		cancel(ErrShutdown)
	}
	return t, ctx, nil
}

// admit counts one more task, or refuses it.
func (m *Manager) admit() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	if m.working >= m.cfg.Active {
		return &hinted{fmt.Errorf("%w: %d run or wait", ErrTooMany, m.working), "wait until some have ended, or stop one"}
	}
	m.working++
	return nil
}

// run does the work of t and records its end.
func (m *Manager) run(ctx context.Context, t *Task, work func(context.Context, *Task) error) error {
	err := errors.New("the work left its goroutine without returning")
	defer func() { m.end(ctx, t, err) }()
	leave, refused := m.turn(ctx, t)
	if refused != nil {
		err = refused
		return err
	}
	defer leave()
	err = t.call(ctx, work)
	return err
}

// end records how t ended: first for good, then for all to see.
func (m *Manager) end(ctx context.Context, t *Task, err error) {
	i := t.ended(ctx, err)
	t.cancel(nil)
	i.logBytes = t.log.end(i.End, i.result())
	m.record(i)
	close(t.done)
	m.tell(i)
	if t.onEnd != nil {
		t.onEnd(i)
	}
	if m.cfg.Ended != nil {
		m.cfg.Ended(i)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.working--
	if m.closed && m.working == 0 {
		close(m.idle)
	}
}

// record writes the end of a task to the index, drops what became surplus,
// and moves the task from the active ones to the others.
func (m *Manager) record(i Info) {
	m.settle.Lock()
	defer m.settle.Unlock()
	m.mu.Lock()
	stay, drop := surplus(append(m.finished[:len(m.finished):len(m.finished)], i), m.cfg.Keep, i.End)
	m.mu.Unlock() // only we change m.finished, and we hold settle

	var err error
	if len(drop) > 0 || m.index.f == nil {
		err = m.index.rewrite(stay)
		removeLogs(m.cfg.Dir, drop, m.cfg.Log)
	} else {
		err = m.index.append(i)
	}
	if err != nil {
		m.cfg.Log.Error("the end of a task is not on disk; its log may say it after a restart", "task", i.UPID.String(), "err", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.finished = stay
	delete(m.active, i.UPID)
}

func (m *Manager) tell(i Info) {
	level := slog.LevelInfo
	if i.State != OK {
		level = slog.LevelWarn
	}
	m.cfg.Log.Log(context.Background(), level, "task ended", "task", i.UPID.String(), "status", i.Status())
}

// Stop asks a task to stop and waits until it has ended, at most
// Config.StopWait; then it fails with [ErrRunning], and the task ends when its
// work gets to it. A task that has ended is fine; [ErrNoTask] is one that
// never was, or is no longer kept.
func (m *Manager) Stop(ctx context.Context, u UPID) error {
	t := m.running(u)
	if t == nil {
		_, err := m.Status(u)
		return err
	}
	t.Logf("asked to stop")
	t.cancel(ErrStopped)
	select {
	case <-t.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop task %s: %w", u, context.Cause(ctx))
	case <-time.After(m.cfg.StopWait):
		return fmt.Errorf("stop task %s: %w after %s", u, ErrRunning, m.cfg.StopWait)
	}
}

// Wait waits until a task has ended and returns how.
func (m *Manager) Wait(ctx context.Context, u UPID) (Info, error) {
	if t := m.running(u); t != nil {
		select {
		case <-t.done:
		case <-ctx.Done():
			return Info{}, fmt.Errorf("wait for task %s: %w", u, context.Cause(ctx))
		}
	}
	return m.Status(u)
}

// running returns the task of that name if it has not ended.
func (m *Manager) running(u UPID) *Task {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.active[u]
}

// Close refuses new tasks, asks all to stop and waits until they have ended.
// If ctx ends before, some still run: Close says which one, and the directory
// stays locked until the process ends, or a later Close succeeds.
func (m *Manager) Close(ctx context.Context) error {
	m.mu.Lock()
	if !m.closed && m.working == 0 {
		close(m.idle)
	}
	m.closed = true
	for t := range maps.Values(m.active) {
		t.cancel(ErrShutdown)
	}
	m.mu.Unlock()
	select {
	case <-m.idle:
	case <-ctx.Done():
		m.mu.Lock()
		defer m.mu.Unlock()
		for u := range m.active {
			return fmt.Errorf("close task manager: %w: %s, and %d others", ErrRunning, u, len(m.active)-1)
		}
		return fmt.Errorf("close task manager: %w", context.Cause(ctx))
	}
	m.settle.Lock()
	defer m.settle.Unlock()
	m.index.close()
	if m.lock == nil {
		return nil
	}
	l := m.lock
	m.lock = nil
	return l.Close()
}
