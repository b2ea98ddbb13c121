package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// A task is an item of the list of tasks; its names are in snake case (§7.9).
type task struct {
	UPID   string `json:"upid"`
	Node   string `json:"node"`
	PID    uint32 `json:"pid"`
	PStart uint64 `json:"pstart"`
	Start  int64  `json:"starttime"`
	Type   string `json:"worker_type"`
	ID     string `json:"worker_id,omitempty"`
	User   string `json:"user"`
	End    int64  `json:"endtime,omitempty"`
	Status string `json:"status,omitempty"`
}

func shownTask(i jobs.Info) task {
	t := task{i.UPID.String(), "localhost", i.UPID.PID, i.UPID.PStart, i.UPID.Start, i.UPID.Type, i.UPID.ID, i.UPID.AuthID, 0, i.Status()}
	if !i.End.IsZero() {
		t.End = i.End.Unix()
	}
	return t
}

// jobPrivileges let whoever looks after a datastore see the tasks of its jobs.
var jobPrivileges = map[string]access.Privilege{
	"garbage_collection": access.PrivDatastoreModify,
	"prunejob":           access.PrivDatastoreModify,
	"verificationjob":    access.PrivDatastoreVerify,
}

// maySee tells whether the caller may know of a task: one of the caller's own,
// one of a job on a datastore that the caller looks after, or any with
// Sys.Audit.
func maySee(c *rest.Call, u jobs.UPID) bool {
	if c.Who.Owns(access.AuthID(u.AuthID)) || c.May(access.PrivSysAudit, "system", "tasks") {
		return true
	}
	store, _, _ := strings.Cut(u.ID, ":")
	need, ok := jobPrivileges[u.Type]
	return ok && c.May(need, "datastore", store)
}

// number reads a parameter that may be missing.
func number(c *rest.Call, name string, otherwise int) int {
	if !c.Has(name) {
		return otherwise
	}
	return int(c.Int(name, 0, math.MaxInt32))
}

func optional(c *rest.Call, name string) string {
	if !c.Has(name) {
		return ""
	}
	return c.Text(name)
}

func moment(c *rest.Call, name string) time.Time {
	if !c.Has(name) {
		return time.Time{}
	}
	return time.Unix(c.Int(name, 0, math.MaxUint32), 0) // until 2106
}

func (a *api) tasks(_ context.Context, c *rest.Call) (any, error) {
	f := jobs.Filter{
		Start: number(c, "start", 0), Limit: number(c, "limit", 50),
		Running: c.Bool("running"), Errors: c.Bool("errors"),
		User: optional(c, "userfilter"), Store: optional(c, "store"), Type: optional(c, "typefilter"),
		Since: moment(c, "since"), Until: moment(c, "until"),
		Visible: func(i jobs.Info) bool { return maySee(c, i.UPID) },
	}
	for _, text := range c.Texts("statusfilter") {
		s, err := jobs.ParseState(text)
		if err != nil {
			c.Fail("statusfilter", "%v", err)
		}
		f.States = append(f.States, s)
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	found, total := a.Tasks.List(f)
	list := make([]task, len(found))
	for i := range found {
		list[i] = shownTask(found[i])
	}
	return rest.Answer{Data: list, Beside: map[string]any{"total": total}}, nil
}

// shortestUPID is how long a UPID is at least, which PBS looks at first.
const shortestUPID = 36

func parseUPID(s string) (jobs.UPID, error) {
	if len(s) < shortestUPID {
		return jobs.UPID{}, fmt.Errorf("value must be at least %d characters long", shortestUPID)
	}
	return jobs.ParseUPID(s)
}

// taskOf reads which task the path names, and asks whether the caller may.
func taskOf(c *rest.Call) (jobs.UPID, error) {
	u := upgrade.Parsed(c.Params, "upid", parseUPID)
	if err := c.Err(); err != nil {
		return u, err
	}
	if !maySee(c, u) {
		return u, c.Require(access.PrivSysAudit, "system", "tasks")
	}
	return u, nil
}

func (a *api) taskStatus(_ context.Context, c *rest.Call) (any, error) {
	u, err := taskOf(c)
	if err != nil {
		return nil, err
	}
	status := map[string]any{
		"upid": u.String(), "node": u.Node, "pid": u.PID, "pstart": u.PStart, "starttime": u.Start,
		"type": u.Type, "id": u.ID, "user": string(access.AuthID(u.AuthID).User()),
	}
	if id := access.AuthID(u.AuthID); id.IsToken() {
		status["tokenid"] = id.TokenName()
	}
	i, err := a.Tasks.Status(u)
	switch {
	case errors.Is(err, jobs.ErrNoTask): // as PBS has it, where the log was removed
		status["status"], status["exitstatus"] = "stopped", "unknown"
	case err != nil:
		return nil, err
	case i.State == jobs.Running:
		status["status"] = "running"
		if i.Doing != "" { // ours: clients that do not know it ignore it
			status["progress"], status["doing"] = i.Progress, i.Doing
		}
	default:
		status["status"], status["exitstatus"] = "stopped", i.Status()
	}
	return status, nil
}

func (a *api) taskLog(_ context.Context, c *rest.Call) (any, error) {
	start, limit := number(c, "start", 0), number(c, "limit", 50)
	test, download := c.Bool("test-status"), c.Bool("download")
	u, err := taskOf(c)
	if err != nil {
		return nil, err
	}
	if download {
		return a.downloadLog(c, u)
	}
	page, err := a.Tasks.Log(u, max(start, 1), limit)
	if err != nil {
		return nil, logError(err)
	}
	type line struct {
		N    int    `json:"n"`
		Text string `json:"t"`
	}
	lines := make([]line, len(page.Lines))
	for i, l := range page.Lines {
		lines[i] = line{l.N, l.Text}
	}
	beside := map[string]any{"total": page.Total, "success": 1}
	if test {
		beside["active"] = page.Active
	}
	return rest.Answer{Data: lines, Beside: beside}, nil
}

// logError says that there is no log in the words of PBS.
func logError(err error) error {
	if errors.Is(err, jobs.ErrNoTask) || errors.Is(err, fs.ErrNotExist) {
		return upgrade.Errorf(http.StatusBadRequest, "No such file or directory (os error 2)")
	}
	return fmt.Errorf("task log: %w", err)
}

func (a *api) downloadLog(c *rest.Call, u jobs.UPID) (any, error) {
	if _, err := a.Tasks.Log(u, 1, 1); err != nil {
		return nil, logError(err)
	}
	h := c.Writer.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Disposition", fmt.Sprintf("attachment; filename=\"task-%s-%s.log\"", u.Type, u.Time().UTC().Format("2006-01-02T15:04:05Z")))
	c.Writer.WriteHeader(http.StatusOK)
	return rest.Written, upgrade.SendError(a.Tasks.WriteLog(c.Writer, u))
}

// stopTime is how long a client waits for a task to end that it stops. It ends
// all the same.
const stopTime = time.Second

func (a *api) stopTask(ctx context.Context, c *rest.Call) (any, error) {
	u := upgrade.Parsed(c.Params, "upid", parseUPID)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if !c.Who.Owns(access.AuthID(u.AuthID)) {
		if err := c.Require(access.PrivSysModify, "system", "tasks"); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	err := a.Tasks.Stop(ctx, u)
	if err != nil && !errors.Is(err, jobs.ErrRunning) && !errors.Is(err, jobs.ErrNoTask) && !errors.Is(err, context.DeadlineExceeded) {
		return nil, err
	}
	return nil, nil
}
