package jobs

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A State says how a task stands. The words are those that PBS filters by
// (PBS protocol notes §7.9), and "running".
type State string

// The states of a task.
const (
	Running State = "running"
	OK      State = "ok"
	Warning State = "warning" // done, and something deserves a look
	Failed  State = "error"   // also what was stopped
	Unknown State = "unknown" // the process ended before the task did
)

// ParseState reads the name of a state.
func ParseState(s string) (State, error) {
	switch st := State(s); st {
	case Running, OK, Warning, Failed, Unknown:
		return st, nil
	}
	return "", fmt.Errorf("%.40q is no state of a task, want running, ok, warning, error or unknown", s)
}

// Info is what is known of a task.
type Info struct {
	UPID     UPID
	State    State
	Message  string    // why it failed; one line
	Warnings int       // how many; known of tasks that run or ended with [Warning]
	End      time.Time // zero while it runs; to the second

	// While it runs only.
	Progress float64 // 0 to 1
	Doing    string  // what it is at; "" if it did not say

	Stats map[string]int64 // what it counted; only of one that has just ended

	cut      error // it was stopped by its schedule, and this is why
	logBytes int64 // on the disk
}

// Status returns how the task ended in the words of §7.9: "OK",
// "WARNINGS: 3", "unknown" or the error; "" while it runs.
func (i Info) Status() string {
	switch i.State {
	case Running:
		return ""
	case Failed:
		return i.Message
	}
	return i.result()
}

// result returns what follows "TASK " in the last line of the log.
func (i Info) result() string {
	switch i.State {
	case OK:
		return "OK"
	case Warning:
		return "WARNINGS: " + strconv.Itoa(i.Warnings)
	case Failed:
		return "ERROR: " + i.Message
	}
	return "unknown"
}

// setResult reads what result writes; anything else is unknown.
func (i *Info) setResult(s string) {
	if s == "OK" {
		i.State = OK
	} else if n, ok := strings.CutPrefix(s, "WARNINGS: "); ok {
		if count, err := strconv.Atoi(n); err == nil && count > 0 {
			i.State, i.Warnings = Warning, count
			return
		}
		i.State = Unknown
	} else if msg, ok := strings.CutPrefix(s, "ERROR: "); ok {
		i.State, i.Message = Failed, msg
	} else {
		i.State = Unknown
	}
}
