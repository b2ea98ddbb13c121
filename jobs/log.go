package jobs

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs/tasklog"
)

const (
	logSuffix = ".log"

	// maxLines bounds the lines of one call, the stack of a panic say.
	maxLines = 200
)

// A taskLog is the log of a running task. A disk that is full must not stop
// the garbage collection that would empty it: what cannot be written is lost,
// and the fact is told once.
type taskLog struct {
	name  string
	limit int64 // in bytes; what follows is left out, but for the last line
	zone  *time.Location
	log   *slog.Logger

	mu   sync.Mutex
	f    *os.File // nil: it could not be created, or is closed
	size int64    // of whole lines
	full bool
	lost bool // a line could not be written
}

// createLog begins a log with the name of its task.
func createLog(cfg Config, u UPID) *taskLog {
	l := &taskLog{name: filepath.Join(cfg.Dir, logName(u)), limit: cfg.LogBytes, zone: cfg.Location, log: cfg.Log}
	f, err := os.OpenFile(l.name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		l.lose(err)
		return l
	}
	l.f = f
	if l.append(u.String() + "\n"); l.lost { // a log without a name is of no use
		_ = errors.Join(f.Close(), os.Remove(l.name))
		l.f = nil
	}
	return l
}

// print appends text, each line with its time.
func (l *taskLog) print(at time.Time, text string) {
	prefix := at.In(l.zone).Format(tasklog.Stamp) + ": "
	var b strings.Builder
	n := 0
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		if n++; n > maxLines {
			b.WriteString(prefix + tasklog.CutMark + "\n")
			break
		}
		if strings.HasPrefix(line, tasklog.Result) {
			line = " " + line // the last line alone begins like that
		}
		b.WriteString(prefix + tasklog.Clean(line) + "\n")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.full {
		return
	}
	if l.size+int64(b.Len()) > l.limit {
		l.full = true
		b.Reset()
		b.WriteString(prefix + "this log is full, what follows is left out\n")
	}
	l.append(b.String())
}

// append writes whole lines. After a failure the next ones take the place of
// what was written of them.
func (l *taskLog) append(lines string) {
	if l.f == nil {
		return
	}
	if _, err := l.f.WriteAt([]byte(lines), l.size); err != nil {
		l.lose(err)
		return
	}
	l.size += int64(len(lines))
}

func (l *taskLog) lose(err error) {
	if !l.lost {
		l.log.Warn("task log cannot be written, lines are lost", "file", l.name, "err", err)
	}
	l.lost = true
}

// end writes the last line, makes the log durable and closes it. It returns
// the log's size in bytes.
func (l *taskLog) end(at time.Time, result string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return 0
	}
	l.append(at.In(l.zone).Format(tasklog.Stamp) + ": " + tasklog.Result + tasklog.Clean(result) + "\n")
	// A line that failed in part may be longer than what took its place.
	err := errors.Join(l.f.Truncate(l.size), l.f.Sync(), l.f.Close())
	if err != nil {
		l.lose(err)
	}
	l.f = nil
	return l.size
}

// written returns how much of the file is whole lines.
func (l *taskLog) written() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size
}

// A logFile is a log opened for reading, behind its first line.
type logFile struct {
	*tasklog.Reader
	io.Closer
}

// maxLog bounds in bytes what is read of a log that may be damaged. It is
// twice what a log may have.
const maxLog = 128 << 20

// openLog opens the log of u, at most its first limit bytes. What does not
// begin with u's name is not its log, and does not exist.
func openLog(dir string, u UPID, zone *time.Location, limit int64) (*logFile, error) {
	f, err := os.Open(filepath.Join(dir, logName(u)))
	if err != nil {
		return nil, err
	}
	r := tasklog.NewReader(io.LimitReader(f, limit), u.Time().In(zone))
	head, err := r.Raw()
	if name, bad := ParseUPID(head); err != nil || bad != nil || name != u {
		_ = f.Close() // it was only read
		return nil, fmt.Errorf("open log %s: it is of another task: %w", f.Name(), os.ErrNotExist)
	}
	return &logFile{r, f}, nil
}
