// Package fit says why a bucket is not taken for backups.
package fit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/doctor"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// file is the last report of the doctor, in the directory of a datastore.
const file = "cloud/doctor.json"

// Keep keeps what the doctor found of the bucket of the datastore in dir.
func Keep(fsys disk.FS, dir string, r *doctor.Report) error {
	body, err := json.Marshal(r)
	if err == nil {
		err = disk.WriteFileAtomic(fsys, filepath.Join(dir, file), body, 0o600)
	}
	return err
}

// Last returns what was last found of the bucket of the datastore in dir; nil if it was
// never examined.
func Last(fsys disk.FS, dir string) (*doctor.Report, error) {
	body, err := disk.ReadFile(fsys, filepath.Join(dir, file), 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	r := new(doctor.Report)
	if err == nil {
		err = json.Unmarshal(body, r)
	}
	if err != nil {
		return nil, fmt.Errorf("last report of the doctor in %s: %w", dir, err)
	}
	return r, nil
}

// readers are the checks that matter to somebody who only reads what is there.
var readers = []string{"endpoint", "region", "clock", "keys"}

// Admit fails if a bucket is refused for what was found, and nobody answers for it by
// name. Who only reads may be about to rescue what is left in a bad bucket.
func Admit(r *doctor.Report, override []string, reader bool) error {
	found := r.Blocks(override)
	if reader {
		found = slices.DeleteFunc(found, func(f doctor.Finding) bool { return !slices.Contains(readers, f.Check) })
	}
	if len(found) > 0 {
		return Refused(found)
	}
	return nil
}

// Refused says which findings a bucket is refused for; there is one at least.
func Refused(found []doctor.Finding) error { return &sick{found} }

type sick struct{ found []doctor.Finding }

func (e *sick) Error() string {
	var list []string
	for _, f := range e.found {
		list = append(list, f.Check+": "+f.Text)
	}
	return "the bucket is not fit for backups: " + strings.Join(list, "; ")
}

// Hint is printed on its own line below the error.
func (e *sick) Hint() string {
	or, answer := "; or ", "answer for it by name: --override "+e.found[0].Check
	if strings.HasPrefix(e.found[0].Cure, "aws ") {
		or = " # or " // so that all of it can be pasted
	}
	return e.found[0].Cure + or + answer
}

// Own is what the operator knows of a bucket's provider, and nobody else.
func Own(p prices.Provider, b *bucket.Bucket) []prices.Provider {
	if p.ID == "" {
		return nil
	}
	host, _, _, _, _ := b.Place()
	host, _, _ = strings.Cut(host, ":")
	p.Hosts, p.Class = []string{host}, b.StorageClass()
	return []prices.Provider{p}
}

// Unkept says that the bucket of a datastore is owned by a node that has not been heard of.
func Unkept(name string, is layout.Owner) error { return &unkept{name, is} }

type unkept struct {
	name string
	is   layout.Owner
}

func (u *unkept) Error() string {
	return fmt.Sprintf("the bucket of datastore '%s' belongs to node %s, which has not renewed its lease since %s", u.name, u.is.Node, u.is.Until.Format(time.RFC3339))
}

// Hint is printed on its own line below the error.
func (u *unkept) Hint() string {
	return "if it is gone for good: holdfast datastore take-over " + u.name
}
