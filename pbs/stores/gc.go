package stores

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
	"github.com/holdfast-mesh/holdfast/jobs"
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
		p := gcProgress{task: t}
		report, err := s.collectOne(ctx, t, name, d, gc.Options{Progress: p.tell})
		if err != nil && report.IndexFiles+report.RemovedChunks+report.CondemnedChunks == 0 {
			return err // it came to nothing
		}
		t.Count("removed-bytes", report.RemovedBytes)
		t.Count("removed-chunks", report.RemovedChunks)
		status := gcStatus(t.UPID(), report)
		logGC(t, status, report)
		s.logKept(t, name, d)
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
func (s *Set) logKept(t *jobs.Task, name string, d *catalog.Datastore) {
	w := s.warden(name)
	trash, _ := d.Trash() // the collection has said what cannot be read
	if w == nil || len(trash) == 0 {
		return
	}
	keeps, reasons := w.Keeps(d, trash, false), map[string]int{}
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

// A gcProgress writes a line for each phase and each percent of it.
type gcProgress struct {
	task    *jobs.Task
	phase   string
	percent int
}

// gcPhases are where each phase begins, of the whole, and what it is called.
var gcPhases = map[string]struct {
	from, to    float64
	title, line string
}{
	"mark":    {0, 0.5, "Start GC phase1 (mark used chunks)", "marked %d%% (%d of %d index files)"},
	"sweep":   {0.5, 0.6, "Start GC phase2 (sweep unused chunks)", "processed %d%% (%d of %d packs)"},
	"reclaim": {0.6, 1, "Start GC phase3 (give space back)", "reclaimed %d%% (%d of %d packs)"},
}

func (p *gcProgress) tell(g gc.Progress) {
	phase := gcPhases[g.Phase]
	if g.Phase != p.phase {
		p.phase, p.percent = g.Phase, 0
		p.task.Logf("%s", phase.title)
	}
	part := 1.0
	if g.Total > 0 {
		part = float64(g.Done) / float64(g.Total)
	}
	p.task.Progress(phase.from+part*(phase.to-phase.from), g.Phase)
	if percent := int(part * 100); percent > p.percent && g.Total > 0 {
		p.percent = percent
		p.task.Logf(phase.line, percent, g.Done, g.Total)
	}
}

func logGC(t *jobs.Task, g GCStatus, r gc.Report) {
	for _, m := range r.Missing {
		t.Warnf("%d chunks of %s are missing", m.Chunks, m.Root)
	}
	t.Logf("Removed garbage: %s", human(g.RemovedBytes))
	t.Logf("Removed chunks: %d", g.RemovedChunks)
	if g.PendingBytes > 0 {
		t.Logf("Pending removals: %s (in %d chunks)", human(g.PendingBytes), g.PendingChunks)
	}
	t.Logf("Original data usage: %s", human(g.IndexBytes))
	if g.IndexBytes > 0 {
		t.Logf("On-Disk usage: %s (%.2f%%)", human(g.DiskBytes), float64(g.DiskBytes)*100/float64(g.IndexBytes))
	}
	t.Logf("On-Disk chunks: %d", g.DiskChunks)
	factor := 1.0
	if g.DiskBytes > 0 {
		factor = float64(g.IndexBytes) / float64(g.DiskBytes)
	}
	t.Logf("Deduplication factor: %.2f", factor)
	if g.DiskChunks > 0 {
		t.Logf("Average chunk size: %s", human(g.DiskBytes/g.DiskChunks))
	}
}

// human returns bytes as "1.5 MiB".
func human(n int64) string {
	v, unit := float64(n), 0
	for v >= 1024 && unit < 6 {
		v, unit = v/1024, unit+1
	}
	text := strconv.FormatFloat(v, 'f', 3, 64)
	text = strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
	return text + " " + []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}[unit]
}
