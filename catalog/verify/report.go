package verify

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks"
)

// How much of what was found a report names; all of it is counted.
const (
	maxErrors = 10      // messages for each snapshot
	maxDamage = 1 << 16 // chunks
)

// A State is what became of one snapshot. The first two are PBS's and are
// stored in its manifest.
type State string

// The states of a snapshot.
const (
	OK      State = "ok"
	Failed  State = "failed"
	Skipped State = "skipped" // it has been verified not long ago
	Busy    State = "busy"    // it is being made or removed
)

// A Result says what was found of one snapshot.
type Result struct {
	Namespace  catalog.Namespace `json:"ns,omitempty"`
	Snapshot   catalog.Snapshot  `json:"snapshot"`
	State      State             `json:"state"`
	Errors     []string          `json:"errors,omitempty"` // the first ten
	ErrorCount int               `json:"error-count,omitempty"`
	Chunks     int64             `json:"chunks"` // that it names, repetitions included

	// Unstored says why the state could not be written into the manifest.
	Unstored string `json:"unstored,omitempty"`
}

// problem adds an error.
func (r *Result) problem(format string, args ...any) {
	if len(r.Errors) < maxErrors {
		r.Errors = append(r.Errors, fmt.Sprintf(format, args...))
	}
	r.ErrorCount++
}

// Damage is a chunk that a snapshot needs and that is not whole here.
type Damage struct {
	Digest  chunks.Digest `json:"digest"`
	Missing bool          `json:"missing,omitempty"` // else damaged
	Reason  string        `json:"reason"`
}

// A Report sums up a run.
type Report struct {
	UPID     string   `json:"upid"`
	Results  []Result `json:"snapshots"` // without those that were skipped
	OK       int      `json:"ok"`
	Failed   int      `json:"failed"`
	Busy     int      `json:"busy"`
	Skipped  int      `json:"skipped"`
	Unstored int      `json:"unstored"`         // whose state could not be written down
	Chunks   int64    `json:"chunks"`           // read
	Bytes    int64    `json:"bytes"`            // read, as stored
	Damage   []Damage `json:"damage,omitempty"` // the first 65,536
	Damaged  int      `json:"damaged-chunks"`
	Missing  int      `json:"missing-chunks"`   // above 65,536 some may count twice
	SumsOnly int64    `json:"sums-only-chunks"` // encrypted ones of which only sums were checked
}

// Lost returns the names of the chunks that are damaged or missing, for
// [Verifier.Heal].
func (r Report) Lost() []chunks.Digest {
	list := make([]chunks.Digest, len(r.Damage))
	for i, d := range r.Damage {
		list[i] = d.Digest
	}
	return list
}

// Progress is how far a run is.
type Progress struct {
	Snapshots, SnapshotsTotal int
	Failed                    int
	Chunks, Bytes             int64 // read so far; bytes as stored
	Damaged                   int   // chunks damaged or missing
}

// tellEvery is how often progress is told.
const tellEvery = 200 * time.Millisecond

// tell tells progress, if it is time for that or now is true. v.mu must not be
// held.
func (v *Verifier) tell(now bool) {
	if v.opt.Progress == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if at := time.Now(); now || at.Sub(v.told) >= tellEvery {
		v.told = at
		v.opt.Progress(v.progress)
	}
}

// add takes a result into the report.
func (v *Verifier) add(r Result) {
	v.mu.Lock()
	switch r.State {
	case OK:
		v.report.OK++
	case Failed:
		v.report.Failed++
		v.progress.Failed++
	case Busy:
		v.report.Busy++
	case Skipped:
		v.report.Skipped++
	}
	v.progress.Snapshots++
	if r.Unstored != "" {
		v.report.Unstored++
	}
	if r.State != Skipped {
		v.report.Results = append(v.report.Results, r)
	}
	if v.opt.Each != nil {
		v.opt.Each(r)
	}
	v.mu.Unlock()
	v.tell(false)
}

// noteDamage takes a chunk into the report, and into the log, once.
func (v *Verifier) noteDamage(d Damage) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, known := v.damage[d.Digest]; known {
		return
	}
	if len(v.damage) < maxDamage {
		v.damage[d.Digest] = d
	}
	if d.Missing {
		v.report.Missing++
	} else {
		v.report.Damaged++
	}
	v.progress.Damaged++
	v.opt.Log.Error("chunk is damaged or missing", "chunk", d.Digest.String(), "err", d.Reason)
}

// finished returns the report, in order.
func (v *Verifier) finished() Report {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := v.report
	for _, d := range v.damage {
		r.Damage = append(r.Damage, d)
	}
	slices.SortFunc(r.Damage, func(a, b Damage) int { return a.Digest.Compare(b.Digest) })
	slices.SortStableFunc(r.Results, func(a, b Result) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), a.Snapshot.Group.Compare(b.Snapshot.Group), cmp.Compare(b.Snapshot.Time, a.Snapshot.Time))
	})
	return r
}
