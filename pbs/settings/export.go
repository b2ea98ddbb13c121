package settings

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/retention"
)

// An ExportJob writes the newest snapshots of groups to a directory in forms that
// need no Holdfast to be read, and keeps as many there as its own rules say. It is
// ours.
type ExportJob struct {
	ID          string           `json:"id"`
	Store       string           `json:"store"`
	NS          naming.Namespace `json:"ns,omitempty"`
	MaxDepth    *int             `json:"max-depth,omitempty"` // levels below NS; nil: all
	GroupFilter []string         `json:"group-filter,omitempty"`
	Path        string           `json:"path"`                     // a directory that is there
	Keys        []string         `json:"associated-key,omitempty"` // decrypt what they encrypted; other encrypted snapshots are left out
	Schedule    string           `json:"schedule,omitempty"`
	Comment     string           `json:"comment,omitempty"`
	Disable     bool             `json:"disable,omitempty"`
	retention.Keep
}

// ExportJob returns the export job of that ID.
func (s *State) ExportJob(id string) (ExportJob, bool) {
	i := slices.IndexFunc(s.ExportJobs, func(j ExportJob) bool { return j.ID == id })
	if i < 0 {
		return ExportJob{}, false
	}
	return s.ExportJobs[i], true
}

// Filters reads the group filters of a job.
func (j ExportJob) Filters() (naming.Filters, error) {
	return SyncJob{GroupFilter: j.GroupFilter}.Filters()
}

// Check says what is wrong with a job as a whole.
func (j ExportJob) Check() error {
	if _, err := j.Filters(); err != nil {
		return err
	}
	switch {
	case !filepath.IsAbs(j.Path) || filepath.Clean(j.Path) != j.Path || j.Path == "/":
		return errors.New("path has to be that of a directory, from the root: /mnt/usb/backups")
	case j.NS.Depth()+deref(j.MaxDepth) > naming.MaxDepth:
		return fmt.Errorf("max-depth %d below a namespace is more than %d levels", deref(j.MaxDepth), naming.MaxDepth)
	}
	return j.Keep.Check()
}
