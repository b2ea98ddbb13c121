// Package verify reads backups again and says whether they are whole.
//
// [Run] checks snapshots as PBS does (PBS protocol notes §9.4): files against
// the manifest, then every chunk that an index names, once a run however many
// snapshots name it. What it found is stored in each manifest. A chunk that is
// damaged is denied from then on, so that the next backup stores it anew, and
// fails every snapshot that names it.
//
// A [Verifier] does the same and remembers, so that it can heal afterwards:
// [Verifier.Heal] fetches what is damaged or missing from another place and
// verifies the snapshots that were hit once more.
//
// Chunks are read in the order in which they lie in packs, for many snapshots
// at a time, by as many readers as are asked for. Memory is
// bounded: four bytes for each chunk seen, and some 100 MB for what is under
// way, whatever the size of the store.
package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"runtime"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/upid"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// Options say what is verified, and how. The zero value verifies all of the
// root namespace, and nothing below it.
type Options struct {
	Namespace catalog.Namespace
	Depth     int                                         // levels of namespaces below; negative: all
	Filters   catalog.Filters                             // groups; none: all
	Only      func(catalog.Namespace, catalog.Group) bool // of these groups, those that it says; nil: all
	Group     *catalog.Group                              // only this one, in Namespace itself
	Snapshot  *catalog.Snapshot                           // only this one, in Namespace itself

	// IgnoreVerified skips snapshots that have been verified, also those that
	// failed, unless that is more than OutdatedAfter days ago; with 0 it is
	// never too long ago. Command lines set it unless told otherwise.
	IgnoreVerified bool
	OutdatedAfter  int

	// Key opens the encrypted chunks of snapshots whose manifest names it. Of
	// all others that are encrypted, the sums of the stored bytes are checked.
	Key *chunks.Key

	Readers   int    // files read at the same time; default: as the store was opened
	Workers   int    // chunks decoded at the same time; default: processors
	RateBytes int64  // stored bytes read per second; 0: no limit
	UPID      string // of the task, stored with each result; default: a new one
	Store     string // name of the datastore in a new UPID; default: that of its directory

	// Progress, if given, is called a few times a second, never twice at a time.
	Progress func(Progress)

	// Each, if given, is told of each snapshot when it is known how it is, also
	// of those that are skipped; never twice at a time.
	Each func(Result)

	Log *slog.Logger     // default: discard
	Now func() time.Time // default: time.Now
}

func (o Options) withDefaults(dir string) (Options, error) {
	o.Workers = cmp.Or(o.Workers, runtime.GOMAXPROCS(0))
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	o.Store = cmp.Or(o.Store, path.Base(dir))
	if o.Now == nil {
		o.Now = time.Now
	}
	switch {
	case o.Workers < 1 || o.Workers > 256:
		return o, fmt.Errorf("verify: workers is %d, want 1 to 256", o.Workers)
	case o.Readers < 0 || o.Readers > 64:
		return o, fmt.Errorf("verify: readers is %d, want 1 to 64, or 0", o.Readers)
	case o.OutdatedAfter < 0:
		return o, fmt.Errorf("verify: outdated-after is %d days, want 0 or more", o.OutdatedAfter)
	case o.RateBytes < 0:
		return o, fmt.Errorf("verify: rate is %d bytes per second, want 0 or more", o.RateBytes)
	case o.Group != nil && o.Snapshot != nil:
		return o, errors.New("verify: both a group and a snapshot are chosen")
	}
	if o.UPID == "" {
		host, _ := os.Hostname() // "" becomes the node "localhost"
		run, err := upid.New(upid.NodeName(host), o.taskType(), o.taskID(), "root@pam", o.Now())
		if err != nil {
			return o, fmt.Errorf("verify: %w", err)
		}
		o.UPID = run.String()
	}
	if _, err := upid.Parse(o.UPID); err != nil {
		return o, fmt.Errorf("verify: %w", err)
	}
	return o, nil
}

// taskType and taskID are those that PBS gives such a task (§7.9).
func (o Options) taskType() string {
	switch {
	case o.Snapshot != nil:
		return "verify_snapshot"
	case o.Group != nil:
		return "verify_group"
	}
	return "verify"
}

func (o Options) taskID() string {
	switch {
	case o.Snapshot != nil:
		return fmt.Sprintf("%s:%s/%s/%X", o.Store, o.Namespace.Path(), o.Snapshot.Group, o.Snapshot.Time)
	case o.Group != nil:
		return fmt.Sprintf("%s:%s/%s", o.Store, o.Namespace.Path(), o.Group)
	case o.Namespace != "":
		return o.Store + ":" + o.Namespace.Path()
	}
	return o.Store
}

// Run verifies what opt chooses. Damage is reported, not an error: Run fails
// when it cannot go on, or ctx ends, and then what was verified by that time
// has been stored and is in the report.
func Run(ctx context.Context, d *catalog.Datastore, opt Options) (Report, error) {
	v, err := New(d, opt)
	if err != nil {
		return Report{}, err
	}
	return v.Run(ctx)
}

// A Verifier verifies and heals, and remembers which chunks it has read. Its
// methods must not be called concurrently.
type Verifier struct {
	d     *catalog.Datastore
	store catalog.Store
	bulk  chunks.BatchSource // of store
	opt   Options

	notes notes
	pace  pace
	cpu   chan struct{} // one token for each chunk that is being decoded

	pending  []*pending                // snapshots whose chunks are being read
	queue    map[chunks.Digest]request // chunks to be read next
	denied   *pack.Set                 // what was in quarantine before these are read
	held     int64                     // bytes of the indexes of pending
	again    bool                      // verify also what was verified not long ago
	unstored bool                      // a state could not be stored, and that was said
	round    int                       // chunks that are read before states are stored

	mu sync.Mutex // guards what readers report

	report   Report
	damage   map[chunks.Digest]Damage
	progress Progress
	told     time.Time
}

// New returns a Verifier. It starts nothing.
func New(d *catalog.Datastore, opt Options) (*Verifier, error) {
	opt, err := opt.withDefaults(d.Dir)
	if err != nil {
		return nil, err
	}
	return &Verifier{
		d: d, store: d.Chunks(), bulk: d.Bulk(), opt: opt, round: roundChunks,
		pace: pace{rate: opt.RateBytes}, cpu: make(chan struct{}, opt.Workers),
	}, nil
}

// Run verifies what the options choose. See [Run].
func (v *Verifier) Run(ctx context.Context) (Report, error) {
	list, err := v.targets(ctx)
	if err != nil {
		return Report{}, err
	}
	return v.verify(ctx, list)
}

// verify verifies a list of snapshots.
func (v *Verifier) verify(ctx context.Context, list []target) (Report, error) {
	v.report = Report{UPID: v.opt.UPID}
	v.damage = map[chunks.Digest]Damage{}
	v.progress = Progress{SnapshotsTotal: len(list)}
	v.queue = map[chunks.Digest]request{}
	err := v.each(ctx, list)
	for _, p := range v.pending { // of a run that was cut short
		p.reader.Close()
	}
	v.pending, v.queue, v.held = nil, nil, 0
	v.tell(true)
	return v.finished(), err
}

func (v *Verifier) each(ctx context.Context, list []target) error {
	for _, t := range list {
		if err := v.begin(ctx, t); err != nil {
			return err
		}
		if len(v.queue) >= v.round || len(v.pending) >= roundSnapshots || v.held >= roundIndexes {
			if err := v.settle(ctx); err != nil {
				return err
			}
		}
	}
	return v.settle(ctx)
}
