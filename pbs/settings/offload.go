package settings

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
)

// An OffloadJob copies snapshots of a datastore of this node that is on a disk
// into one whose home is a bucket. It is ours; its names are those of sync jobs
// where these have the same thing.
type OffloadJob struct {
	ID           string           `json:"id"`
	Store        string           `json:"store"` // on a disk
	NS           naming.Namespace `json:"ns,omitempty"`
	To           string           `json:"to"` // in a bucket
	ToNS         naming.Namespace `json:"to-ns,omitempty"`
	MaxDepth     *int             `json:"max-depth,omitempty"` // levels below NS; nil: all
	GroupFilter  []string         `json:"group-filter,omitempty"`
	After        string           `json:"after,omitempty"` // only snapshots that are at least so old: "7d"
	Owner        string           `json:"owner,omitempty"` // of the groups there; "": root@pam
	VerifiedOnly bool             `json:"verified-only,omitempty"`
	TransferLast int              `json:"transfer-last,omitempty"` // of each group the newest so many; 0: all
	Schedule     string           `json:"schedule,omitempty"`
	Comment      string           `json:"comment,omitempty"`
	Disable      bool             `json:"disable,omitempty"` // do not run it by itself
}

// OffloadJob returns the offload job of that ID.
func (s *State) OffloadJob(id string) (OffloadJob, bool) {
	i := slices.IndexFunc(s.OffloadJobs, func(j OffloadJob) bool { return j.ID == id })
	if i < 0 {
		return OffloadJob{}, false
	}
	return s.OffloadJobs[i], true
}

// Filters reads the group filters of a job.
func (j OffloadJob) Filters() (naming.Filters, error) {
	return SyncJob{GroupFilter: j.GroupFilter}.Filters()
}

// OwnerOrRoot returns whose the copies are.
func (j OffloadJob) OwnerOrRoot() string { return SyncJob{Owner: j.Owner}.OwnerOrRoot() }

// Age reads how old a snapshot has to be.
func (j OffloadJob) Age() (time.Duration, error) {
	if j.After == "" {
		return 0, nil
	}
	return ParseAge(j.After)
}

// Check says what is wrong with a job as a whole.
func (j OffloadJob) Check() error {
	if _, err := j.Filters(); err != nil {
		return err
	}
	if _, err := j.Age(); err != nil {
		return err
	}
	depth := deref(j.MaxDepth)
	switch {
	case j.Store == j.To:
		return errors.New("source and target are the same")
	case j.NS.Depth()+depth > naming.MaxDepth || j.ToNS.Depth()+depth > naming.MaxDepth:
		return fmt.Errorf("max-depth %d below a namespace is more than %d levels", depth, naming.MaxDepth)
	}
	return nil
}
