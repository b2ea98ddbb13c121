// Package fit says why a bucket is not taken for backups.
package fit

import (
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/doctor"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
)

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
	cures := e.found[0].Cure
	return cures + "; or answer for it by name: --override " + e.found[0].Check
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
