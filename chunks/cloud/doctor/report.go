package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Severity is how bad a finding is.
type Severity uint8

// The severities. Note: worth knowing. Warning: it costs money or comfort.
// Critical: backups would be lost, unreadable, or not be made.
const (
	Note Severity = iota
	Warning
	Critical
)

var severities = [...]string{"note", "warning", "critical"}

func (s Severity) String() string { return severities[s] }

// MarshalText implements encoding.TextMarshaler.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Severity) UnmarshalText(text []byte) error {
	i := slices.Index(severities[:], string(text))
	if i < 0 {
		return fmt.Errorf("severity %q is none of %s", text, strings.Join(severities[:], ", "))
	}
	*s = Severity(i)
	return nil
}

// A Finding is something wrong.
type Finding struct {
	Check       string   `json:"check"`
	Severity    Severity `json:"severity"`
	Text        string   `json:"finding"`
	Consequence string   `json:"consequence,omitempty"`
	Cure        string   `json:"cure,omitempty"` // a command, a rule, or what to do
}

// Skipped is a check that could not be made.
type Skipped struct {
	Check string `json:"check"`
	Why   string `json:"why"`
}

// A Class is what lies in a class of storage.
type Class struct {
	Objects int64 `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

// A Report is what an examination found. Findings come with the worst first.
type Report struct {
	Bucket   string        `json:"bucket"`
	Provider string        `json:"provider,omitempty"`
	Time     time.Time     `json:"time"`
	Took     time.Duration `json:"took-ns"`
	Findings []Finding     `json:"findings"`
	Passed   []string      `json:"passed"`
	Skipped  []Skipped     `json:"skipped,omitempty"`

	Typical time.Duration    `json:"latency-p50-ns,omitempty"` // of a small request
	Slow    time.Duration    `json:"latency-p99-ns,omitempty"` // of the slowest of a few
	Speed   float64          `json:"bytes-per-second,omitempty"`
	Streams int              `json:"suggested-connections,omitempty"`
	Classes map[string]Class `json:"classes,omitempty"`
	Partial bool             `json:"classes-partial,omitempty"` // there are more objects than were looked at

	Requests map[string]int64 `json:"requests"` // made by the examination, by class
	BytesIn  int64            `json:"bytes-in"`
	BytesOut int64            `json:"bytes-out"`
}

func (r *Report) sort() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return -cmp.Compare(a.Severity, b.Severity) })
}

// Worst is the severity of the worst finding; ok is false if there is none.
func (r *Report) Worst() (s Severity, ok bool) {
	for _, f := range r.Findings {
		s, ok = max(s, f.Severity), true
	}
	return s, ok
}

// Blocks returns the critical findings whose checks are not among overridden.
func (r *Report) Blocks(overridden []string) (list []Finding) {
	for _, f := range r.Findings {
		if f.Severity == Critical && !slices.Contains(overridden, f.Check) {
			list = append(list, f)
		}
	}
	return list
}
