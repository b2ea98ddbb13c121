package logs

import (
	"errors"
	"fmt"

	"github.com/holdfast-mesh/holdfast/catalog/tier"
	"github.com/holdfast-mesh/holdfast/chunks/cloud"
	"github.com/holdfast-mesh/holdfast/jobs"
)

// Offloaded writes what an offload did, or how far it got.
func Offloaded(t *jobs.Task, r tier.OffloadReport, err error) {
	if err != nil {
		t.Logf("%s", unfinished(r, err))
		return
	}
	t.Logf("%d chunks (%s) in %d packs are in the bucket, %d chunks left the disk", r.Chunks, Human(r.Bytes), r.Packs, r.Evicted)
	t.Logf("of %d snapshots %d are new in the bucket, and %d wait for chunks; %d files were sent, %d removed",
		r.Mirror.Snapshots, r.Mirror.Added, r.Mirror.Waiting, r.Mirror.Written, r.Mirror.Removed)
	if n := r.Mirror.Nowhere; n > 0 {
		t.Warnf("%s", tier.Nowhere(n))
	}
}

// unfinished says how far an offload got, and what comes of the rest.
func unfinished(r tier.OffloadReport, err error) string {
	rest := "goes with the next offload"
	if errors.Is(err, cloud.ErrFenced) || errors.Is(err, cloud.ErrOwned) || errors.Is(err, cloud.ErrReadOnly) {
		rest = "stays until this node owns the bucket again"
	}
	return fmt.Sprintf("%d chunks (%s) were to be sent, and %d left the disk: what the bucket has not confirmed is still here, and %s",
		r.Chunks, Human(r.Bytes), r.Evicted, rest)
}

// Audited writes what an audit of a bucket found and did.
func Audited(t *jobs.Task, r cloud.AuditReport) {
	if r.Classes == nil { // it failed before it compared anything
		return
	}
	t.Logf("%d objects, %s; %d packs are missing, %d have another length, %d objects that nothing names were removed",
		r.Objects, Human(r.Bytes), len(r.Missing), len(r.Wrong), r.Deleted)
	if r.Archived > 0 {
		t.Warnf("%d packs are in an archive class: nothing in them can be read or restored before they are thawed, which takes hours and money; `holdfast datastore thaw NAME --dry-run` says how much, and `holdfast s3 endpoint check` which rule moves them", r.Archived)
	}
	if n := len(r.Foreign); n > 0 {
		t.Warnf("%d objects among those of the store have names that are none of ours, %q first: they are left alone. If they are those of another store, move that one: `holdfast datastore migrate` to a prefix of its own", n, r.Foreign[0])
	}
	if r.Rescued > 0 {
		t.Logf("%d chunks of packs that are gone were still on this machine, or in dead packs of the bucket: they are kept, and go to the bucket with the next offload", r.Rescued)
	}
	for _, key := range r.Restored {
		t.Logf("%s was gone or damaged, and was written anew from the copy here", key)
	}
	for _, key := range r.Gone {
		t.Logf("%s is gone or damaged, and there is no copy of it here", key)
	}
}

// Doubted warns of what cannot be seen in a bucket.
func Doubted(t *jobs.Task, st tier.Stats) {
	if st.Doubt != "" {
		t.Warnf("%s", st.Doubt)
	}
}
