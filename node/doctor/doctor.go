// Package doctor finds out what is wrong with a node and the machine under it,
// before it costs a backup, and says how it is cured. What is wrong with a bucket
// is found by the package of the same name below chunks/cloud, whose words for
// findings these are.
//
//	doctor.go   the examination        disks.go  directories, file systems, space
//	machine.go  what the system tells  mesh.go   the port, paths, quorum, versions
//	mounts.go   which file system      local.go  clock, memory, certificate, guard
package doctor

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/doctor"
)

// Config says what is examined.
type Config struct {
	Machine Machine      // default: this one
	World   func() World // what the node knows of itself; required

	// Found is told of a finding that the examination before did not have, but
	// not of notes; nil: nobody is told.
	Found func(doctor.Finding)
}

// A World is what a node knows of itself.
type World struct {
	Name, Version string
	Places        []Place // the directory of the node first
	Secret        []string
	Operator      string // file with the operator's key, if it lies here
	Sessions      int64  // bytes that sessions may take
	Certificate   *x509.Certificate

	Listen  string // mesh port; "": the node is linked to no other
	Peers   []Peer
	Quorum  string // why there is none
	Idle    bool   // and that this node serves nothing therefore
	Advice  string // about the number of votes
	Breaker string // why the guard's breaker is open
	Guard   []string
}

// A Place is a directory that has to last.
type Place struct{ Name, Dir string } // "the node", "datastore main"

// A Peer is another node, and the way to it.
type Peer struct {
	Name      string        `json:"name"`
	Path      string        `json:"path"` // "direct", "relay", "none"
	Address   netip.Addr    `json:"address,omitzero"`
	Interface string        `json:"interface,omitempty"` // of this machine
	RTT       time.Duration `json:"rtt-ns,omitempty"`
	Version   string        `json:"version,omitempty"`
	Heard     time.Time     `json:"heard,omitzero"`
	Why       string        `json:"why,omitempty"` // it is not reached
}

// A Report is what an examination found; the worst comes first.
type Report struct {
	Node     string           `json:"node"`
	Version  string           `json:"version"`
	Time     time.Time        `json:"time"`
	Took     time.Duration    `json:"took-ns"`
	Findings []doctor.Finding `json:"findings"`
	Passed   []string         `json:"passed"`
	Skipped  []doctor.Skipped `json:"skipped,omitempty"`
	Paths    []Peer           `json:"paths,omitempty"`
}

// A Doctor examines one node.
type Doctor struct {
	cfg  Config
	last atomic.Pointer[Report]
}

// New returns a Doctor. It starts nothing.
func New(cfg Config) (*Doctor, error) {
	if cfg.World == nil {
		return nil, errors.New("doctor: there is nothing to examine")
	}
	cfg.Machine = cfg.Machine.withDefaults()
	return &Doctor{cfg: cfg}, nil
}

// Last returns what the last examination found; nil: there was none.
func (d *Doctor) Last() *Report { return d.last.Load() }

// How often a node is examined, and when first: what it is linked to is known
// by then.
const (
	firstAfter = 5 * time.Minute
	every      = 6 * time.Hour
)

// Run examines the node from time to time until ctx is done.
func (d *Doctor) Run(ctx context.Context) error {
	next := time.NewTimer(firstAfter)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
		}
		if _, err := d.Examine(ctx); err != nil {
			return nil // ctx has ended
		}
		next.Reset(every)
	}
}

// Examine examines the node. It writes, and removes again, a file of 4 KiB in
// each of its directories, and fails only if ctx ends.
func (d *Doctor) Examine(ctx context.Context) (*Report, error) {
	x := &exam{World: d.cfg.World(), m: d.cfg.Machine, now: time.Now()}
	for _, c := range checks {
		x.at = c.name
		n, m := len(x.report.Findings), len(x.report.Skipped)
		c.look(x)
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		if len(x.report.Findings) == n && len(x.report.Skipped) == m {
			x.report.Passed = append(x.report.Passed, c.name)
		}
	}
	r := &x.report
	r.Node, r.Version, r.Time, r.Took, r.Paths = x.Name, x.Version, x.now.UTC(), time.Since(x.now), x.Peers
	slices.SortStableFunc(r.Findings, func(a, b doctor.Finding) int { return -cmp.Compare(a.Severity, b.Severity) })
	d.tell(d.last.Swap(r), r)
	return r, nil
}

// tell tells of what is new.
func (d *Doctor) tell(before, now *Report) {
	for _, f := range now.Findings {
		old := before != nil && slices.ContainsFunc(before.Findings, func(b doctor.Finding) bool { return b.Check == f.Check && b.Severity >= f.Severity })
		if f.Severity > doctor.Note && !old && d.cfg.Found != nil {
			d.cfg.Found(f)
		}
	}
}

// A check is one thing that can be wrong.
type check struct {
	name string
	look func(*exam)
}

var checks = []check{
	{"clock", clock},
	{"secrets", secrets},
	{"filesystem", filesystem},
	{"mount-options", mountOptions},
	{"fsync", fsync},
	{"space", space},
	{"inodes", inodes},
	{"reserved", reserved},
	{"memory", memoryOf},
	{"descriptors", descriptors},
	{"mesh-port", meshPort},
	{"paths", paths},
	{"buffers", buffers},
	{"version", version},
	{"quorum", quorum},
	{"certificate", certificate},
	{"guard", guard},
	{"operator-key", operatorKey},
}

// Names are the names of all checks.
func Names() (names []string) {
	for _, c := range checks {
		names = append(names, c.name)
	}
	return names
}

// An exam is an examination that goes on.
type exam struct {
	World
	m      Machine
	now    time.Time
	at     string // the check that runs
	report Report
}

func (x *exam) find(s doctor.Severity, text, consequence, cure string) {
	x.report.Findings = append(x.report.Findings, doctor.Finding{Check: x.at, Severity: s, Text: text, Consequence: consequence, Cure: cure})
}

func (x *exam) skip(why string) {
	x.report.Skipped = append(x.report.Skipped, doctor.Skipped{Check: x.at, Why: why})
}
