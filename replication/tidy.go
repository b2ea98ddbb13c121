package replication

import (
	"errors"
	"io/fs"
	"net/url"
	"path"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog"
)

// Where a job keeps what it needs between its runs, in the datastore's directory.
const (
	partialDir  = "partial"
	vanishedDir = "vanished"
	memorySuf   = ".json"
)

// Tidy removes what jobs have left in a datastore that are not its jobs any more:
// the beginnings of chunks, and what was absent in their passes.
func Tidy(d *catalog.Datastore, is func(job string) bool) error {
	var errs []error
	each := func(dir, suffix string, remove func(name string) error) {
		entries, err := d.FS.ReadDir(path.Join(d.Dir, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, e := range entries {
			if job, err := url.PathUnescape(strings.TrimSuffix(e.Name(), suffix)); err == nil && !is(job) {
				errs = append(errs, remove(path.Join(d.Dir, dir, e.Name())))
			}
		}
	}
	each(partialDir, "", func(name string) error {
		entries, err := d.FS.ReadDir(name)
		errs := []error{err}
		for _, e := range entries {
			errs = append(errs, d.FS.Remove(path.Join(name, e.Name())))
		}
		return errors.Join(append(errs, d.FS.Remove(name))...)
	})
	each(vanishedDir, memorySuf, d.FS.Remove)
	return errors.Join(errs...)
}
