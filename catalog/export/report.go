package export

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
)

// maxRefusals bounds the list in a [Report]; Refused counts all.
const maxRefusals = 1000

// A Report says what became of an import or an export. It is valid also if
// that failed or was stopped.
type Report struct {
	Groups    int   `json:"groups"`
	Snapshots int   `json:"snapshots"` // copied
	Present   int   `json:"present"`   // were there already
	Chunks    int64 `json:"chunks"`    // copied
	Bytes     int64 `json:"bytes"`     // of these, as they are stored
	Known     int64 `json:"known"`     // chunks that were there already and were not copied

	Unfinished int   `json:"unfinished"` // snapshots without manifest, left out
	Vanished   int   `json:"vanished"`   // snapshots that somebody removed meanwhile
	BadChunks  int64 `json:"bad-chunks"` // files that PBS set aside as damaged, left out
	Refused    int   `json:"refused"`    // what could not be copied

	Refusals []Refusal `json:"refusals"` // the first 1,000
}

// A Refusal is something that was not copied, and why.
type Refusal struct {
	What   string `json:"what"` // "customers/acme:vm/100/2024-01-02T03:04:05Z", a group, or a path
	Reason string `json:"reason"`
	Err    error  `json:"-"`
}

func (r *Report) refuse(what string, err error) {
	r.Refused++
	if len(r.Refusals) < maxRefusals {
		r.Refusals = append(r.Refusals, Refusal{what, err.Error(), err})
	}
}

// label is what messages call a group or a snapshot.
func label(ns catalog.Namespace, what fmt.Stringer) string {
	if ns == "" {
		return what.String()
	}
	return string(ns) + ":" + what.String()
}

// A skip is an error for which one snapshot is refused. All others end the
// import or export.
type skip struct{ error }

func (s skip) Unwrap() error { return s.error }

func isSkip(err error) bool {
	var s skip
	return errors.As(err, &s)
}

// Progress says how far an import or export is.
type Progress struct {
	What            string // the snapshot that is being copied
	Snapshots, Done int    // all, and those that are dealt with
	Chunks, Bytes   int64  // copied so far; bytes as they are stored
	Known           int64  // chunks that need not be copied
}

// progressEvery is the least time between two calls of a progress function.
const progressEvery = 100 * time.Millisecond

// A meter counts what is copied, from several goroutines.
type meter struct {
	mu     sync.Mutex
	now    Progress
	told   time.Time
	report func(Progress)
}

// add changes the figures and tells of them, unless it did so a moment ago.
func (m *meter) add(change func(*Progress)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.now)
	if m.report == nil || time.Since(m.told) < progressEvery && m.now.Done < m.now.Snapshots {
		return
	}
	m.told = time.Now()
	m.report(m.now)
}

// copied notes one chunk of n bytes.
func (m *meter) copied(n int) {
	m.add(func(p *Progress) { p.Chunks, p.Bytes = p.Chunks+1, p.Bytes+int64(n) })
}

// known notes n chunks that need not be copied.
func (m *meter) known(n int) { m.add(func(p *Progress) { p.Known += int64(n) }) }

// figures puts what was counted into a report.
func (m *meter) figures(r *Report) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r.Chunks, r.Bytes, r.Known = m.now.Chunks, m.now.Bytes, m.now.Known
}
