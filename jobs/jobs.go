// Package jobs runs work that takes a while, keeps a record of it, and starts
// it when it is time.
//
// A task is one run of something: a backup, a prune, a garbage collection. It
// has a name for ever ([UPID]), a log that clients read while it grows, an end
// with a state ([Info]), and a way to be stopped; the [Manager] keeps all of
// these as files, so that they outlive the process. A [Schedule] is work with a
// calendar event ("mon..fri 21:30", package calendar); the [Scheduler] starts
// it as a task, remembers when it did, and decides what becomes of times that
// were missed. Names, logs and states are those of PBS (PBS protocol notes
// §7.9), so that its clients read ours.
//
// The package knows nothing of backups: what a task does is a function.
//
// # Files
//
// The directory of a [Manager] holds, besides its lock:
//
//	START-PID-PSTART-TASK.log   one log for each task: its UPID, then "TIME: text" lines
//	index                       one line for each task that has ended: UPID, time, result
//
// A log is written without waiting for the disk while the task runs. When it
// ends, its log is synced, then its line in the index, and only then is the
// task seen to have ended; so a result that was reported survives a power cut.
// The index grows by appending and is written anew, without what has become
// surplus, when it is due. It can be lost: a log without a line in the index,
// which is also what a killed process leaves, is read again, and its last line
// says how the task ended, or that nobody knows.
package jobs

import "errors"

// What callers can expect to go wrong. Match them with errors.Is.
var (
	ErrNoTask   = errors.New("no such task")
	ErrTooMany  = errors.New("too many tasks")
	ErrClosed   = errors.New("task manager is closed")
	ErrRunning  = errors.New("still running")
	ErrNoJob    = errors.New("no such schedule")
	ErrStopped  = errors.New("stopped on request")        // the cause with which a task's context ends
	ErrShutdown = errors.New("the node is shutting down") // likewise
)

// A hinted error has a known cure.
type hinted struct {
	error
	cure string
}

func (e *hinted) Unwrap() error { return e.error }
func (e *hinted) Hint() string  { return e.cure }
