// Package logs writes to the logs of tasks what becomes of work on a datastore, in the
// lines that people know from a Proxmox Backup Server.
package logs

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/verify"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
	"github.com/holdfast-mesh/holdfast/jobs"
)

// A GC writes a line for each phase of a collection and each percent of it.
type GC struct {
	Task    *jobs.Task
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

// Tell takes how far the collection is.
func (p *GC) Tell(g gc.Progress) {
	phase := gcPhases[g.Phase]
	if g.Phase != p.phase {
		p.phase, p.percent = g.Phase, 0
		p.Task.Logf("%s", phase.title)
	}
	part := 1.0
	if g.Total > 0 {
		part = float64(g.Done) / float64(g.Total)
	}
	p.Task.Progress(phase.from+part*(phase.to-phase.from), g.Phase)
	if percent := int(part * 100); percent > p.percent && g.Total > 0 {
		p.percent = percent
		p.Task.Logf(phase.line, percent, g.Done, g.Total)
	}
}

// Collected writes what a collection did.
func Collected(t *jobs.Task, g gc.Report) {
	for _, m := range g.Missing {
		t.Warnf("%d chunks of %s are missing", m.Chunks, m.Root)
	}
	t.Logf("Removed garbage: %s", Human(g.RemovedBytes))
	t.Logf("Removed chunks: %d", g.RemovedChunks)
	if g.PendingBytes > 0 {
		t.Logf("Pending removals: %s (in %d chunks)", Human(g.PendingBytes), g.PendingChunks)
	}
	t.Logf("Original data usage: %s", Human(g.IndexBytes))
	if g.IndexBytes > 0 {
		t.Logf("On-Disk usage: %s (%.2f%%)", Human(g.DiskBytes), float64(g.DiskBytes)*100/float64(g.IndexBytes))
	}
	t.Logf("On-Disk chunks: %d", g.DiskChunks)
	factor := 1.0
	if g.DiskBytes > 0 {
		factor = float64(g.IndexBytes) / float64(g.DiskBytes)
	}
	t.Logf("Deduplication factor: %.2f", factor)
	if g.DiskChunks > 0 {
		t.Logf("Average chunk size: %s", Human(g.DiskBytes/g.DiskChunks))
	}
}

// Human returns bytes as "1.5 MiB".
func Human(n int64) string {
	v, unit := float64(n), 0
	for v >= 1024 && unit < 6 {
		v, unit = v/1024, unit+1
	}
	text := strconv.FormatFloat(v, 'f', 3, 64)
	text = strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
	return text + " " + []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}[unit]
}

// A Verify writes what becomes of each snapshot, and how far it is.
type Verify struct {
	Task    *jobs.Task
	Store   string
	percent int

	unstored int // snapshots whose state could not be stored
}

// Each takes what has become of a snapshot.
func (p *Verify) Each(r verify.Result) {
	where := Place(p.Store, r.Namespace, nil) + r.Snapshot.String()
	if r.Namespace == "" {
		where = p.Store + ":" + r.Snapshot.String()
	}
	switch r.State {
	case verify.Skipped:
		p.Task.Logf("SKIPPED: verify %s (recently verified)", where)
	case verify.Busy:
		p.Task.Logf("SKIPPED: verify %s - could not acquire snapshot lock", where)
	default:
		p.Task.Logf("verify %s: %s (%d chunks)", where, r.State, r.Chunks)
	}
	for _, text := range r.Errors {
		p.Task.Logf("  %s", text)
	}
	if more := r.ErrorCount - len(r.Errors); more > 0 {
		p.Task.Logf("  and %d errors more", more)
	}
	if r.Unstored == "" {
		return
	}
	if p.unstored++; p.unstored == 1 { // in what is only read it is so of each
		p.Task.Warnf("  the state could not be stored: %s", r.Unstored)
	}
}

// Done sums up what was said of the first only.
func (p *Verify) Done() {
	if p.unstored > 1 {
		p.Task.Logf("of %d snapshots the state could not be stored", p.unstored)
	}
}

// Tell takes how far the verification is.
func (p *Verify) Tell(v verify.Progress) {
	if v.SnapshotsTotal == 0 {
		return
	}
	part := float64(v.Snapshots) / float64(v.SnapshotsTotal)
	p.Task.Progress(part, fmt.Sprintf("%d of %d snapshots", v.Snapshots, v.SnapshotsTotal))
	if percent := int(part * 100); percent > p.percent {
		p.percent = percent
		p.Task.Logf("percentage done: %.2f%% (%d/%d snapshots, read %s)", part*100, v.Snapshots, v.SnapshotsTotal, Human(v.Bytes))
	}
}

// Place names what is worked on: "store1", "store1:a/b:", "store1:host/ab".
func Place(store string, ns catalog.Namespace, g *catalog.Group) string {
	text := store
	if ns != "" {
		text += ":" + string(ns) + ":"
	}
	if g != nil {
		if ns == "" {
			text += ":"
		}
		text += g.String()
	}
	return text
}
