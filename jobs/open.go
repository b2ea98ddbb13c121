package jobs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs/lockfile"
	"github.com/holdfast-mesh/holdfast/jobs/tasklog"
)

// open locks the directory and reads what earlier processes left in it.
func (m *Manager) open() error {
	dir := m.cfg.Dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var err error
	if m.lock, err = lockfile.Lock(filepath.Join(dir, "lock")); err != nil {
		return err
	}
	if err = m.recover(); err != nil {
		return errors.Join(err, m.lock.Close())
	}
	return nil
}

// recover fills m.finished from the index and from the logs that it does not
// know, and mends the index if need be.
func (m *Manager) recover() error {
	dir := m.cfg.Dir
	tasks, damaged, err := readIndex(dir)
	if err != nil {
		return err
	}
	if tasks, err = m.matchLogs(tasks); err != nil {
		return err
	}
	byEnd(tasks)
	var drop []Info
	m.finished, drop = surplus(tasks, m.cfg.Keep, time.Now())
	m.index.name = filepath.Join(dir, indexName)
	if damaged > 0 {
		m.cfg.Log.Warn("task index was damaged and is written anew", "file", m.index.name, "lines", damaged)
	}
	// Also where nothing changed: a last line may lack its end.
	if err := m.index.rewrite(m.finished); err != nil {
		m.cfg.Log.Error("task index cannot be written", "file", m.index.name, "err", err)
	}
	removeLogs(dir, drop, m.cfg.Log)
	return nil
}

// matchLogs gives tasks the sizes of their logs, and adds the tasks of which
// there is only a log.
func (m *Manager) matchLogs(tasks []Info) ([]Info, error) {
	dir := m.cfg.Dir
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	known := make(map[string]int, len(tasks)) // name of the log -> place in tasks
	for n, i := range tasks {
		known[logName(i.UPID)] = n
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), logSuffix) || !e.Type().IsRegular() {
			continue
		}
		size := int64(0)
		if info, err := e.Info(); err == nil {
			size = info.Size()
		}
		if n, ok := known[e.Name()]; ok {
			tasks[n].logBytes = size
			continue
		}
		if size == 0 { // nothing of it had reached the disk
			_ = os.Remove(filepath.Join(dir, e.Name()))
			continue
		}
		i, err := adopt(dir, e.Name(), m.cfg.Location)
		if err != nil {
			m.cfg.Log.Warn("task log makes no sense, left as it is", "file", e.Name(), "err", err)
			continue
		}
		i.logBytes = size
		tasks = append(tasks, i)
		if m.cfg.Ended != nil && i.State == Unknown { // it ended with the process before
			m.cfg.Ended(i)
		}
	}
	return tasks, nil
}

// adopt says how the task ended of which there is only a log: as its last line
// says, at that line's time.
func adopt(dir, name string, zone *time.Location) (Info, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return Info{}, err
	}
	head, err := tasklog.NewReader(f, time.Time{}).Raw()
	_ = f.Close() // it was only read
	if err != nil {
		return Info{}, err
	}
	u, err := ParseUPID(head)
	if err != nil {
		return Info{}, err
	}
	if logName(u) != name {
		return Info{}, fmt.Errorf("it is the log of %s", u)
	}
	log, err := openLog(dir, u, zone, maxLog)
	if err != nil {
		return Info{}, err
	}
	defer log.Close() // it was only read
	result, at, err := tasklog.LastResult(log.Reader)
	if err != nil {
		return Info{}, err
	}
	if now := time.Now(); at.After(now) { // the line is damaged, or the clock was wrong
		at = now
	}
	if at.Before(u.Time()) {
		at = u.Time()
	}
	i := Info{UPID: u, End: time.Unix(at.Unix(), 0).UTC()}
	i.setResult(result)
	return i, nil
}
