package stores

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/stores/logs"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// GCStatus is what the last garbage collection of a datastore found and did,
// in the JSON of PBS (§9.3). It lies in the datastore as gc-status.json.
type GCStatus struct {
	UPID          *string `json:"upid"` // nil: there was none
	IndexFiles    int64   `json:"index-file-count"`
	IndexBytes    int64   `json:"index-data-bytes"`
	DiskBytes     int64   `json:"disk-bytes"`
	DiskChunks    int64   `json:"disk-chunks"`
	RemovedBytes  int64   `json:"removed-bytes"`
	RemovedChunks int64   `json:"removed-chunks"`
	PendingBytes  int64   `json:"pending-bytes"`
	PendingChunks int64   `json:"pending-chunks"`
	RemovedBad    int64   `json:"removed-bad"` // always 0: a damaged chunk is an entry like any other
	StillBad      int64   `json:"still-bad"`
}

const (
	gcStatusFile = "gc-status.json"
	gcType       = "garbage_collection"
	root         = "root@pam" // whose tasks those are that a time starts
)

// readGC reads the status of the last collection. One that cannot be read is
// as good as none: the next collection writes it anew.
func (s *Set) readGC(d *catalog.Datastore) (g GCStatus) {
	b, err := disk.ReadFile(d.FS, path.Join(d.Dir, gcStatusFile), 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return g
	}
	if err == nil {
		err = json.Unmarshal(b, &g)
	}
	if err != nil {
		s.cfg.Log.Warn("status of the last garbage collection cannot be read", "dir", d.Dir, "err", err)
		return GCStatus{}
	}
	return g
}

// GCStatus returns what the last garbage collection found and did.
func (s *Set) GCStatus(name string) (GCStatus, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.find(name)
	if err != nil {
		return GCStatus{}, err
	}
	return st.gc, nil
}

// GCSchedule returns how the schedule of the garbage collection stands.
func (s *Set) GCSchedule(name string) (jobs.ScheduleStatus, error) {
	return s.cfg.Scheduler.Status(gcSchedule(name))
}

func gcSchedule(name string) string { return gcType + ":" + name }

// StartGC begins a garbage collection. There is one at a time of a datastore.
func (s *Set) StartGC(name, auth string) (jobs.UPID, error) {
	_, done, err := s.Use(name, true)
	if err != nil {
		return jobs.UPID{}, err
	}
	defer done()
	u, err := s.cfg.Scheduler.Trigger(gcSchedule(name), auth)
	if errors.Is(err, jobs.ErrRunning) {
		return u, upgrade.Errorf(http.StatusBadRequest, "Start GC failed - (already running/locked)")
	}
	return u, err
}

// collect is the work of a garbage collection.
func (s *Set) collect(name string) func(context.Context, *jobs.Task) error {
	return func(ctx context.Context, t *jobs.Task) error {
		d, done, err := s.Use(name, true)
		if err != nil {
			return err
		}
		defer done()
		t.Logf("starting garbage collection on store %s", name)
		p := logs.GC{Task: t}
		report, err := s.collectOne(ctx, t, name, d, gc.Options{Progress: p.Tell})
		if err != nil && report.IndexFiles+report.RemovedChunks+report.CondemnedChunks == 0 {
			return err // it came to nothing
		}
		t.Count("removed-bytes", report.RemovedBytes)
		t.Count("removed-chunks", report.RemovedChunks)
		status := gcStatus(t.UPID(), report)
		logs.Collected(t, report)
		logKept(t, d)
		return errors.Join(err, s.keepGC(name, d, status))
	}
}

// warden returns who is asked about a datastore, nil if nobody is.
func (s *Set) warden(name string) catalog.Warden {
	if s.cfg.Warden == nil {
		return nil
	}
	return s.cfg.Warden(name)
}

// logKept says what is in the trash for longer than its delay, and why.
func logKept(t *jobs.Task, d *catalog.Datastore) {
	trash, _ := d.Trash() // the collection has said what cannot be read
	if len(trash) == 0 {
		return
	}
	keeps, reasons := d.Keeps(trash, false), map[string]int{}
	for _, e := range trash {
		if why := keeps(e); why != "" && time.Now().After(e.Until) {
			reasons[why]++
		}
	}
	for why, n := range reasons {
		t.Warnf("%d snapshots stay in the trash, with their chunks: %s", n, why)
	}
}

func gcStatus(u jobs.UPID, r gc.Report) GCStatus {
	text := u.String()
	return GCStatus{
		UPID: &text, IndexFiles: r.IndexFiles, IndexBytes: r.IndexBytes, DiskBytes: r.DiskBytes, DiskChunks: r.DiskChunks,
		RemovedBytes: r.RemovedBytes, RemovedChunks: r.RemovedChunks, PendingBytes: r.PendingBytes, PendingChunks: r.PendingChunks,
	}
}

func (s *Set) keepGC(name string, d *catalog.Datastore, g GCStatus) error {
	s.mu.Lock()
	if st := s.stores[name]; st != nil && st.d == d {
		st.gc = g
	}
	s.mu.Unlock()
	b, err := json.Marshal(g)
	if err == nil {
		err = disk.WriteFileAtomic(d.FS, path.Join(d.Dir, gcStatusFile), append(b, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write down the status of the collection: %w", err)
	}
	return nil
}
