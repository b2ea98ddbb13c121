package exports

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-mesh/holdfast/access/statefile"
	"github.com/holdfast-mesh/holdfast/catalog/listing"
	"github.com/holdfast-mesh/holdfast/jobs"
)

// A Step is something that a run would do.
type Step struct {
	Do    string // "write", "skip", "remove"
	What  string
	Why   string
	Bytes int64
}

// Plan returns what a run would do now. Nothing is changed.
func Plan(ctx context.Context, cfg Config) (steps []Step, err error) {
	all, err := cfg.targets(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range all {
		dir := filepath.Join(cfg.Job.Path, t.where)
		to := filepath.Join(dir, time.Unix(t.Time, 0).UTC().Format(stamp))
		more := t.Time
		if _, err := os.Stat(filepath.Join(to, sums)); err == nil {
			steps = append(steps, Step{Do: "skip", What: to, Why: "it is there"})
			more = 0
		} else {
			steps = append(steps, Step{"write", to, "it is the newest of its group", size(t.Info)})
		}
		names, err := cfg.surplus(dir, more)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			steps = append(steps, Step{Do: "remove", What: name, Why: "no rule of the job keeps it"})
		}
	}
	return steps, ctx.Err()
}

// errSuperseded ends a run that another node has taken over.
var errSuperseded = errors.New("another node has taken this job over")

// fenced refuses a run of a job that nodes share if a later one has been here: the
// directory remembers the greatest fence that it has seen of each job.
func (cfg Config) fenced() error {
	if cfg.Fence == nil {
		return nil
	}
	name := filepath.Join(cfg.Job.Path, mark+"-"+cfg.Job.ID)
	var seen jobs.Fence
	text, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(text, &seen)
	}
	switch f := *cfg.Fence; {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("read the fence of job '%s': %w", cfg.Job.ID, err)
	case f == seen:
		return nil
	case f.Incarnation < seen.Incarnation, f.Incarnation == seen.Incarnation && f.Index < seen.Index:
		return fmt.Errorf("%w: its fence is %d, and this one's %d", errSuperseded, seen.Index, f.Index)
	}
	text, _ = json.Marshal(cfg.Fence) // plain numbers: this cannot fail
	_, err = statefile.WriteSecret(name, text, true)
	return err
}

// size is how large a snapshot is, as its manifest says.
func size(i listing.Info) int64 {
	if i.Size == nil {
		return 0
	}
	return int64(*i.Size)
}
