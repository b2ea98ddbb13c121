// Package settings is what an operator has set up on a node: which datastores
// there are, the jobs on them, and the rules for traffic.
//
// It is a value in a [Store]; until a node has joined a mesh the store is a
// file, afterwards the ledger. What is said of one datastore and has to move
// with it (comment, maintenance, trash delay) lies in the datastore instead,
// as [catalog.Settings]. Names and JSON are those of the configuration of a
// Proxmox Backup Server (PBS protocol notes §7.3-7.6).
package settings

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-mesh/holdfast/access/statefile"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/retention"
)

// State is all that is set up. Its lists are sorted by name or ID.
type State struct {
	Datastores   []Datastore   `json:"datastores"`
	PruneJobs    []PruneJob    `json:"prune-jobs"`
	VerifyJobs   []VerifyJob   `json:"verify-jobs"`
	SyncJobs     []SyncJob     `json:"sync-jobs"`
	OffloadJobs  []OffloadJob  `json:"offload-jobs"`
	ExportJobs   []ExportJob   `json:"export-jobs"`
	JobRules     []JobRule     `json:"job-rules"`
	TrafficRules []TrafficRule `json:"traffic-rules"`
	S3Clients    []S3Client    `json:"s3-clients"`

	Remotes        []Remote        `json:"remotes"`
	NotifyTargets  []NotifyTarget  `json:"notify-targets"`
	NotifyMatchers []NotifyMatcher `json:"notify-matchers"`
}

// A Datastore says where a datastore is and what the node does for it.
type Datastore struct {
	Name             string `json:"name"`
	Path             string `json:"path"`
	GCSchedule       string `json:"gc-schedule,omitempty"` // calendar event; "": by hand
	NotificationMode string `json:"notification-mode,omitempty"`
	Notify           string `json:"notify,omitempty"`
	NotifyUser       string `json:"notify-user,omitempty"`
	Tuning           string `json:"tuning,omitempty"`       // kept for clients; nothing here needs tuning
	ExpectedAge      string `json:"expected-age,omitempty"` // ours: a group whose newest snapshot is older is reported

	Backend Backend `json:"backend,omitzero"` // zero: the directory alone

	// Of a datastore on a disk that comes and goes: the UUID of its file system, and
	// where that is mounted, at Path or above it. The second is ours.
	BackingDevice string `json:"backing-device,omitempty"`
	MountPoint    string `json:"mount-point,omitempty"`
}

// A PruneJob prunes a namespace of a datastore.
type PruneJob struct {
	ID       string           `json:"id"`
	Store    string           `json:"store"`
	NS       naming.Namespace `json:"ns,omitempty"`
	MaxDepth *int             `json:"max-depth,omitempty"` // levels below NS; nil: all
	Schedule string           `json:"schedule"`
	Comment  string           `json:"comment,omitempty"`
	Disable  bool             `json:"disable,omitempty"`
	retention.Keep
}

// A VerifyJob verifies a namespace of a datastore.
type VerifyJob struct {
	ID             string           `json:"id"`
	Store          string           `json:"store"`
	NS             naming.Namespace `json:"ns,omitempty"`
	MaxDepth       *int             `json:"max-depth,omitempty"`
	Schedule       string           `json:"schedule,omitempty"`
	Comment        string           `json:"comment,omitempty"`
	IgnoreVerified *bool            `json:"ignore-verified,omitempty"` // nil: true
	OutdatedAfter  *int             `json:"outdated-after,omitempty"`  // days
	ReadThreads    int              `json:"read-threads,omitempty"`
	VerifyThreads  int              `json:"verify-threads,omitempty"`
	Sample         int              `json:"sample,omitempty"`    // ours: only so many stretches of what is in a bucket; 0: all
	MaxBytes       int64            `json:"max-bytes,omitempty"` // ours: only stretches, of so many bytes together; 0: no bound
}

// A TrafficRule limits the rate of connections from some networks. Rates and
// bursts are in bytes (per second) as text with a unit: "10 MiB".
type TrafficRule struct {
	Name      string   `json:"name"`
	Networks  []string `json:"network"` // in CIDR notation
	RateIn    string   `json:"rate-in,omitempty"`
	BurstIn   string   `json:"burst-in,omitempty"`
	RateOut   string   `json:"rate-out,omitempty"`
	BurstOut  string   `json:"burst-out,omitempty"`
	Timeframe []string `json:"timeframe,omitempty"` // windows of the day; none: always
	Users     []string `json:"users,omitempty"`
	Comment   string   `json:"comment,omitempty"`
}

// A Store keeps the state. [OpenFile] keeps it in a file; a mesh keeps it in
// its ledger.
type Store interface {
	// State returns the newest state known here, at once and without a lock.
	// Nobody may change it.
	State() *State

	// Update runs change on a copy of the newest state, and returns when the
	// result is durable and State shows it. If change fails, nothing is changed
	// and its error is returned as it is. change may run more than once and
	// must not wait.
	Update(ctx context.Context, change func(*State) error) error
}

// OpenFile returns a Store in one JSON file with the mode 0600.
func OpenFile(path string) (*statefile.File[State], error) { return statefile.Open(path, file) }

var file = statefile.Kind[State]{
	Name: "settings", Version: 1, Limit: 32 << 20,
	New: New, Clone: Clone, Tidy: (*State).tidy, Check: (*State).Check,
	Loss: "no datastore is known; create each again with the path that it had, and nothing in it is lost",
}

// ErrModified says that somebody else has changed the configuration.
var ErrModified error = modifiedError{}

type modifiedError struct{}

// Error is what a real server says; clients show it to people.
func (modifiedError) Error() string {
	return "detected modified configuration - file changed by other user? Try again."
}

// Digest returns 64 hexadecimal digits that change with a part of the state,
// for optimistic locking.
func Digest(part any) string {
	text, _ := json.Marshal(part) // plain structs: this cannot fail
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// CheckDigest fails with ErrModified if want is neither "" nor the digest.
func CheckDigest(part any, want string) error {
	if want != "" && want != Digest(part) {
		return ErrModified
	}
	return nil
}

// New returns the state of a node on which nothing is set up.
func New() *State {
	s := &State{}
	s.tidy()
	return s
}

// Clone returns a copy that shares nothing with s and is in order. It copies by
// way of JSON, which is what the state is made for.
func Clone(s *State) *State {
	text, err := json.Marshal(s)
	c := &State{}
	if err == nil {
		err = json.Unmarshal(text, c)
	}
	if err != nil {
		panic(fmt.Sprintf("settings that were read cannot be written: %v", err))
	}
	c.tidy()
	return c
}

// tidy sorts the lists and makes them, so that equal states are equal as JSON.
func (s *State) tidy() {
	s.Datastores = sorted(s.Datastores, func(d Datastore) string { return d.Name })
	s.PruneJobs = sorted(s.PruneJobs, func(j PruneJob) string { return j.ID })
	s.VerifyJobs = sorted(s.VerifyJobs, func(j VerifyJob) string { return j.ID })
	s.SyncJobs = sorted(s.SyncJobs, func(j SyncJob) string { return j.ID })
	s.OffloadJobs = sorted(s.OffloadJobs, func(j OffloadJob) string { return j.ID })
	s.ExportJobs = sorted(s.ExportJobs, func(j ExportJob) string { return j.ID })
	s.JobRules = sorted(s.JobRules, func(r JobRule) string { return r.Job })
	s.dropRules()
	s.S3Clients = sorted(s.S3Clients, func(c S3Client) string { return c.ID })
	s.Remotes = sorted(s.Remotes, func(r Remote) string { return r.Name })
	s.NotifyTargets = sorted(s.NotifyTargets, func(t NotifyTarget) string { return t.Name })
	s.NotifyMatchers = sorted(s.NotifyMatchers, func(m NotifyMatcher) string { return m.Name })
	s.TrafficRules = sorted(s.TrafficRules, func(r TrafficRule) string { return r.Name })
}

func sorted[T any](list []T, name func(T) string) []T {
	if list == nil {
		return []T{}
	}
	slices.SortFunc(list, func(a, b T) int { return cmp.Compare(name(a), name(b)) })
	return list
}

// Check says what is wrong with a state: names that are no names, or are there
// twice, and paths that are not absolute. What the texts in it mean is checked
// by who uses them.
func (s *State) Check() error {
	for _, d := range s.Datastores {
		if err := naming.CheckStoreName(d.Name); err != nil {
			return err
		}
		if d.Path == "" || d.Path[0] != '/' {
			return fmt.Errorf("datastore %s: path %q is not absolute", d.Name, d.Path)
		}
	}
	return errors.Join(
		distinct("datastore", s.Datastores, func(d Datastore) string { return d.Name }),
		distinct("prune job", s.PruneJobs, func(j PruneJob) string { return j.ID }),
		distinct("verify job", s.VerifyJobs, func(j VerifyJob) string { return j.ID }),
		distinct("sync job", s.SyncJobs, func(j SyncJob) string { return j.ID }),
		distinct("offload job", s.OffloadJobs, func(j OffloadJob) string { return j.ID }),
		distinct("export job", s.ExportJobs, func(j ExportJob) string { return j.ID }),
		distinct("rule of a job", s.JobRules, func(r JobRule) string { return r.Job }),
		distinct("S3 client", s.S3Clients, func(c S3Client) string { return c.ID }),
		distinct("remote", s.Remotes, func(r Remote) string { return r.Name }),
		distinct("notification target", s.NotifyTargets, func(t NotifyTarget) string { return t.Name }),
		distinct("notification matcher", s.NotifyMatchers, func(m NotifyMatcher) string { return m.Name }),
		distinct("traffic rule", s.TrafficRules, func(r TrafficRule) string { return r.Name }),
	)
}

func distinct[T any](what string, list []T, name func(T) string) error {
	for i := range list {
		if i > 0 && name(list[i]) == name(list[i-1]) {
			return fmt.Errorf("%s %q is there twice", what, name(list[i]))
		}
		if name(list[i]) == "" {
			return fmt.Errorf("%s without a name", what)
		}
	}
	return nil
}

// Datastore returns the datastore of that name.
func (s *State) Datastore(name string) (Datastore, bool) {
	i := slices.IndexFunc(s.Datastores, func(d Datastore) bool { return d.Name == name })
	if i < 0 {
		return Datastore{}, false
	}
	return s.Datastores[i], true
}
