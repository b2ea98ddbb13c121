package jobs

import (
	"fmt"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/upid"
)

// A UPID names a run of a task for ever; see [upid.UPID].
type UPID = upid.UPID

const maxWord = upid.MaxWord

// NewUPID returns a new name for a run that begins now, in this process. It
// fails if a part does not fit the grammar.
func NewUPID(node, typ, id, auth string, now time.Time) (UPID, error) {
	return upid.New(node, typ, id, auth, now)
}

// ParseUPID reads what [UPID.String] writes, in upper or lower case.
func ParseUPID(s string) (UPID, error) { return upid.Parse(s) }

// NodeName makes a node's name of a host's; see [upid.NodeName].
func NodeName(host string) string { return upid.NodeName(host) }

// logName returns the name of the log of a run. The UPID itself would do, but for
// its length.
func logName(u UPID) string {
	return fmt.Sprintf("%08X-%08X-%08X-%08X%s", u.Start, u.PID, u.PStart, u.TaskID, logSuffix)
}
