package exports

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/export/plain"
	"github.com/holdfast-mesh/holdfast/catalog/listing"
	"github.com/holdfast-mesh/holdfast/catalog/retention"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/replication/crypt"
)

// mark is the file that says which directory is meant. Where it is missing something
// is not mounted, or something else is.
const mark = ".holdfast-export"

// sums is written last: a directory without it is not whole.
const sums = "SHA256SUMS"

// stamp is how times are written in names.
const stamp = "2006-01-02T15-04-05Z"

// Claim marks the directory of a job. It is not made: that a mount is missing would
// not be seen then.
func Claim(j settings.ExportJob) error {
	if info, err := os.Stat(j.Path); err != nil || !info.IsDir() {
		return &hinted{fmt.Errorf("%s is no directory (%w)", j.Path, cmp.Or(err, fs.ErrInvalid)), "make it, or mount what belongs there"}
	}
	return os.WriteFile(filepath.Join(j.Path, mark), []byte("Holdfast exports backups to this directory.\n"), 0o600)
}

// A Config is what a run works with.
type Config struct {
	Job           settings.ExportJob
	Local         *catalog.Datastore
	Keys          crypt.Keys
	Printf, Warnf func(format string, args ...any)
	Progress      func(done, total int)
	Wrote         func(file string, bytes int64) // is called while a file grows; default: nobody is told

	// Fence, of a job that nodes share, keeps a run out that was superseded.
	Fence *jobs.Fence
}

// A Report is what a run did.
type Report struct{ Groups, Written, Skipped, Left, Removed, Failed int }

// A target is what a run is about: the newest snapshot of a group, and where it goes.
type target struct {
	listing.Info
	where string // below the directory of the job
}

// targets lists the newest snapshot of each group that the job is about, in order.
func (cfg Config) targets(ctx context.Context) (all []target, err error) {
	j := cfg.Job
	if _, err := os.Stat(filepath.Join(j.Path, mark)); err != nil {
		return nil, &hinted{fmt.Errorf("%s is not the directory that was meant: it has no %s", j.Path, mark), "mount what belongs there; if it is the right one: holdfast job update " + j.ID + " --path " + j.Path}
	}
	filters, err := j.Filters()
	if err != nil {
		return nil, err
	}
	depth := -1
	if j.MaxDepth != nil {
		depth = *j.MaxDepth
	}
	list, err := cfg.Local.List(ctx, catalog.ListOptions{Namespace: j.NS, Depth: depth, Filters: filters})
	if err != nil {
		return nil, err
	}
	newest := map[string]listing.Info{}
	for _, i := range list {
		where := filepath.Join(string(i.Namespace), string(i.Type), i.ID)
		if i.Finished() && (newest[where].ID == "" || i.Time > newest[where].Time) {
			newest[where] = i
		}
	}
	for _, where := range slices.Sorted(maps.Keys(newest)) {
		all = append(all, target{newest[where], where})
	}
	return all, nil
}

// Run writes the newest snapshot of each group, unless it is there, and removes from
// the directory what the rules of the job do not keep. It goes on after the failure
// of a group, and fails in the end.
func Run(ctx context.Context, cfg Config) (r Report, err error) {
	all, err := cfg.targets(ctx)
	if err != nil {
		return r, err
	}
	for n, t := range all {
		if ctx.Err() != nil {
			return r, context.Cause(ctx)
		}
		if err := cfg.fenced(); err != nil {
			return r, err
		}
		r.Groups++
		if err := cfg.group(ctx, filepath.Join(cfg.Job.Path, t.where), t.Info, &r); err != nil && ctx.Err() == nil {
			r.Failed++
			cfg.Warnf("%s: %v", t.where, err)
		}
		cfg.Progress(n+1, len(all))
	}
	cfg.Printf("%d snapshots were written, %d were there, %d were left out, %d exports were removed", r.Written, r.Skipped, r.Left, r.Removed)
	if r.Failed > 0 {
		return r, fmt.Errorf("%d groups were not exported", r.Failed)
	}
	return r, nil
}

// group exports a snapshot to a directory below dir.
func (cfg Config) group(ctx context.Context, dir string, i listing.Info, r *Report) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	to := filepath.Join(dir, time.Unix(i.Time, 0).UTC().Format(stamp))
	if _, err := os.Stat(filepath.Join(to, sums)); err == nil {
		r.Skipped++
		return cfg.prune(dir, r)
	}
	s, err := cfg.Local.OpenSnapshot(ctx, i.Namespace, i.Snapshot())
	if err != nil {
		return err
	}
	defer s.Close()
	var key *chunks.Key
	if crypt.Of(s.Manifest()) != crypt.Open {
		if key = cfg.Keys.For(s.Manifest()); key == nil {
			cfg.Warnf("%s is left out: it is encrypted, and the job has no key for it", i.Snapshot())
			r.Left++
			return nil
		}
	}
	for _, old := range []string{to, to + ".part"} { // of a run that was cut short
		if err := os.RemoveAll(old); err != nil {
			return err
		}
	}
	if _, err := plain.Export(ctx, archive.Open(s, archive.Options{Key: key}), to+".part", plain.Options{Progress: cfg.Wrote}); err != nil {
		return err
	}
	if err := cfg.fenced(); err != nil { // it took a while
		return err
	}
	if err := os.Rename(to+".part", to); err != nil {
		return err
	}
	r.Written++
	cfg.Printf("wrote %s", to)
	return cfg.prune(dir, r)
}

// surplus are the exports in a directory that the rules do not keep, with one more at a
// time, if that is not zero.
func (cfg Config) surplus(dir string, more int64) (names []string, err error) {
	if cfg.Job.Keep.IsZero() {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var have []retention.Backup
	for _, e := range entries {
		at, err := time.Parse(stamp, e.Name())
		if _, whole := os.Stat(filepath.Join(dir, e.Name(), sums)); err == nil && whole == nil {
			have = append(have, retention.Backup{Time: at.Unix(), Finished: true})
		}
	}
	if more != 0 {
		have = append(have, retention.Backup{Time: more, Finished: true})
	}
	for _, d := range retention.Plan(have, cfg.Job.Keep, nil) {
		if !d.Keep() && d.Time != more {
			names = append(names, filepath.Join(dir, time.Unix(d.Time, 0).UTC().Format(stamp)))
		}
	}
	return names, nil
}

// prune removes from a directory the exports that the rules do not keep.
func (cfg Config) prune(dir string, r *Report) error {
	names, err := cfg.surplus(dir, 0)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		if err := os.RemoveAll(name); err != nil {
			errs = append(errs, err)
			continue
		}
		r.Removed++
		cfg.Printf("removed %s", name)
	}
	return errors.Join(errs...)
}

// A hinted error has a known cure.
type hinted struct {
	error
	cure string
}

func (e *hinted) Unwrap() error { return e.error }

// Hint is printed on its own line below the error.
func (e *hinted) Hint() string { return e.cure }
