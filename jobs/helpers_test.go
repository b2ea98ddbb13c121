package jobs

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs/tasklog"
)

// A logBuffer is a slog text log that a test can read at any time.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// open opens a manager, in UTC and on a node of its own unless cfg says more.
func open(t *testing.T, cfg Config) *Manager {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.Location == nil {
		cfg.Location = time.UTC
	}
	cfg.Node = "pbs3"
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return m
}

// bubble runs a test in virtual time, from 2000-01-01 00:00 UTC on.
func bubble(t *testing.T, test func(t *testing.T)) { synctest.Test(t, test) }

// do runs a task to its end and returns how it ended.
func do(t *testing.T, m *Manager, typ, id string, work func(context.Context, *Task) error) Info {
	t.Helper()
	u, err := m.Start(t.Context(), typ, id, "root@pam", work)
	if err != nil {
		t.Fatal(err)
	}
	return wait(t, m, u)
}

func wait(t *testing.T, m *Manager, u UPID) Info {
	t.Helper()
	i, err := m.Wait(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func nothing(context.Context, *Task) error { return nil }

// until works until it is stopped.
func until(ctx context.Context, _ *Task) error {
	<-ctx.Done()
	return ctx.Err()
}

// texts returns the log of a task without the times.
func texts(t *testing.T, m *Manager, u UPID) []string {
	t.Helper()
	p, err := m.Log(u, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for n, l := range p.Lines {
		if l.N != n+1 || !tasklog.HasTime(l.Text) {
			t.Fatalf("line %d is %+v", n+1, l)
		}
		lines = append(lines, l.Text[tasklog.PrefixBytes:])
	}
	return lines
}

// killed copies the directory of a manager as a killed process leaves it.
func killed(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func write(t *testing.T, text string, path ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(path...), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// logs returns the names of the logs in dir.
func logs(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), logSuffix) {
			names = append(names, e.Name())
		}
	}
	return names
}
