package jobs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs/lockfile"
	"github.com/holdfast-mesh/holdfast/jobs/tasklog"
)

const indexName = "index"

// maxIndex bounds in bytes how much of the index is read, from its end. Ten
// thousand tasks with the longest names and errors would need 60 MiB.
const maxIndex = 64 << 20

// An index is the file with a line for each task that has ended:
//
//	UPID END RESULT
//
// END is in seconds since 1970, 8 hexadecimal digits; RESULT is what follows
// "TASK " in the log.
type index struct {
	name string
	f    *os.File // nil: appending failed, the next line writes the file anew
	size int64
}

// entry returns the line of a task.
func (i Info) entry() string {
	return fmt.Sprintf("%s %08X %s\n", i.UPID, i.End.Unix(), i.result())
}

// parseEntry reads what entry writes.
func parseEntry(line string) (Info, error) {
	name, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	end, result, _ := strings.Cut(rest, " ")
	u, err := ParseUPID(name)
	if err != nil {
		return Info{}, err
	}
	at, err := strconv.ParseUint(end, 16, 32)
	if err != nil {
		return Info{}, fmt.Errorf("task %s: %.20q is no time", name, end)
	}
	i := Info{UPID: u, End: time.Unix(int64(at), 0).UTC()}
	if i.setResult(result); i.result() != result || tasklog.Clean(result) != result {
		return Info{}, fmt.Errorf("task %s: %.20q is no result", name, result)
	}
	return i, nil
}

// readIndex reads the index of dir, oldest first, and returns how many lines
// make no sense. A missing file is an empty one.
func readIndex(dir string) (tasks []Info, damaged int, err error) {
	f, err := os.Open(filepath.Join(dir, indexName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	defer f.Close() // it was only read
	if end, err := f.Seek(0, io.SeekEnd); err != nil {
		return nil, 0, err
	} else if _, err = f.Seek(max(0, end-maxIndex), io.SeekStart); err != nil {
		return nil, 0, err
	}
	return parseIndex(io.LimitReader(f, maxIndex))
}

// parseIndex reads the lines of an index. Of a task that is there twice, the
// first line counts.
func parseIndex(r io.Reader) (tasks []Info, damaged int, err error) {
	lines := tasklog.NewReader(r, time.Time{})
	seen := map[UPID]bool{}
	for {
		line, err := lines.Raw()
		if errors.Is(err, io.EOF) {
			return tasks, damaged, nil
		}
		if err != nil {
			return nil, 0, err
		}
		if i, err := parseEntry(line); err == nil && !lines.Torn && !seen[i.UPID] {
			seen[i.UPID] = true
			tasks = append(tasks, i)
		} else {
			damaged++
		}
	}
}

// append adds a task and makes it durable. After a failure the caller writes
// the file anew with the next one.
func (x *index) append(i Info) error {
	line := []byte(i.entry())
	_, err := x.f.WriteAt(line, x.size)
	if err = errors.Join(err, x.sync()); err != nil {
		x.close()
		return fmt.Errorf("note the end of task %s: %w", i.UPID, err)
	}
	x.size += int64(len(line))
	return nil
}

func (x *index) sync() error { return x.f.Sync() }

func (x *index) close() {
	if x.f != nil {
		_ = x.f.Close() // each line has been synced
	}
	x.f = nil
}

// rewrite replaces the file by one with the given tasks, durably.
func (x *index) rewrite(tasks []Info) error {
	var b bytes.Buffer
	for _, i := range tasks {
		b.WriteString(i.entry())
	}
	x.close()
	err := replaceFile(x.name, b.Bytes())
	if err == nil {
		x.f, err = os.OpenFile(x.name, os.O_WRONLY, 0)
	}
	if err != nil {
		return fmt.Errorf("write task index: %w", err)
	}
	x.size = int64(b.Len())
	return nil
}

// replaceFile puts data in the place of the file name, durably and as a whole.
func replaceFile(name string, data []byte) (err error) {
	tmp := name + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err = os.Rename(tmp, name); err != nil {
		return err
	}
	return lockfile.SyncDir(filepath.Dir(name))
}

// removeLogs removes the logs of tasks that are no longer kept.
func removeLogs(dir string, tasks []Info, log *slog.Logger) {
	for _, i := range tasks {
		err := os.Remove(filepath.Join(dir, logName(i.UPID)))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			log.Warn("old task log cannot be removed", "task", i.UPID.String(), "err", err)
		}
	}
}
