package stores

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/tier"
	"github.com/holdfast-mesh/holdfast/chunks/cloud"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/identity"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/usage"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/s3"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores/fit"
	"github.com/holdfast-mesh/holdfast/pbs/stores/logs"
	"github.com/holdfast-mesh/holdfast/pbs/stores/meter"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// The types of tasks on datastores in buckets, and when they run unless the
// settings say otherwise. An offload with nothing to do asks the bucket nothing.
const (
	offloadType = "offload"
	auditType   = "audit"
	refreshType = "s3-refresh"

	offloadEvent = "*:0/15"
	auditEvent   = "sun 05:30"
)

// A running tier keeps its bucket until it is stopped.
type running struct {
	*tier.Tier
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func (r *running) stop() {
	if r != nil {
		r.cancel()
		r.done.Wait()
	}
}

// NewCloud says how a datastore with a bucket is made.
type NewCloud struct {
	Encrypt  bool
	Recovery string // the recovery key: of a new store, or of the one that is in the bucket
	TakeOver bool   // from a node whose lease has not ended

	Override []string // checks of the doctor whose critical findings are accepted
}

// version tells whether what a datastore was opened with has changed.
func (s *Set) version(d settings.Datastore) string {
	if d.Backend.IsZero() || s.cfg.Clouds == nil {
		return ""
	}
	b := d.Backend
	b.After, b.Schedule, b.Audit = 0, "", "" // tasks look at them each time
	b.CacheSize = 0                          // resize sees to it
	return settings.Digest([]any{b, s.cfg.Clouds.Version(b.Client)})
}

// openOne opens a datastore, and its bucket if it has one.
func (s *Set) openOne(ctx context.Context, st *store, want settings.Datastore) (*catalog.Datastore, error) {
	log := s.cfg.Log.With("store", want.Name)
	if err := s.cfg.Away(want); err != nil {
		return nil, err
	}
	if want.Backend.IsZero() {
		return catalog.Open(ctx, catalog.Config{Dir: want.Path, FS: s.cfg.FS, Log: log, Warden: s.warden(want.Name)})
	}
	cfg, err := s.tierConfig(ctx, want)
	if err != nil {
		return nil, err
	}
	t, err := tier.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx)) // until shut
	st.cloud = &running{Tier: t, cancel: cancel}
	st.cloud.done.Go(func() {
		if err := t.Run(run); err != nil {
			log.Error("the bucket is not kept", "err", err)
		}
	})
	return t.Datastore(), nil
}

func (s *Set) tierConfig(ctx context.Context, d settings.Datastore) (cfg tier.Config, err error) {
	if s.cfg.Clouds == nil {
		return cfg, errors.New("this node has no S3 clients")
	}
	b := d.Backend
	cfg = tier.Config{
		Dir: d.Path, Node: s.cfg.Node, FS: s.cfg.FS, Log: s.cfg.Log.With("store", d.Name),
		CacheDir: b.CacheDir, CacheBytes: b.CacheSize, Warden: s.warden(d.Name), ReadOnly: b.ReadOnly, SingleWriter: b.SingleWriter,
	}
	if cfg.Bucket, err = s.cfg.Clouds.Bucket(b.Client, b.Bucket, b.Prefix); err != nil {
		return cfg, err
	}
	cfg.Bucket = cfg.Bucket.Locked(b.Lock)
	client, _ := s.cfg.Settings.State().S3Client(b.Client)
	if cfg.Provider, _, err = s3.ProviderOf(client); err != nil {
		return cfg, err
	}
	cfg.Key, err = s.cfg.Clouds.Key(ctx)
	return cfg, err
}

// prepareCloud makes a store in the bucket, or finds the one that is there, and
// a directory for it.
func (s *Set) prepareCloud(ctx context.Context, t *jobs.Task, c Create) error {
	ctx = meter.Notify(ctx, t)
	cfg, err := s.tierConfig(ctx, c.Datastore)
	if err != nil {
		return err
	}
	found, err := s.admit(ctx, t, cfg, c.Cloud.Override)
	if err != nil {
		return err
	}
	if c.Reuse {
		t.Logf("reading the snapshots of the store in %s", cfg.Bucket)
		cfg.Warn = t.Warnf
		if err := tier.Attach(ctx, cfg, c.Cloud.Recovery, c.Cloud.TakeOver); err != nil {
			return err
		}
		return fit.Keep(s.cfg.FS, cfg.Dir, found)
	}
	t.Logf("trying out %s, and making a store in it", cfg.Bucket)
	if err := tier.Create(ctx, cfg, c.Cloud.Encrypt, c.Cloud.Recovery); err != nil {
		return err
	}
	t.Logf("the recovery key opens the store; it is kept nowhere here")
	return fit.Keep(s.cfg.FS, cfg.Dir, found)
}

// UseTier is Use for what is in a bucket. It fails if the datastore has none.
func (s *Set) UseTier(name string) (t *tier.Tier, done func(), err error) {
	if _, done, err = s.Use(name, false); err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	r := s.stores[name].cloud
	s.mu.Unlock()
	if r == nil {
		done()
		return nil, nil, upgrade.Errorf(http.StatusBadRequest, "datastore '%s' has no bucket", name)
	}
	return r.Tier, done, nil
}

// Cloud returns what is known of a datastore's bucket; ok is false if it has none.
func (s *Set) Cloud(name string) (st tier.Stats, ok bool) {
	t, done, err := s.UseTier(name)
	if err != nil {
		return st, false
	}
	defer done()
	return t.Stats(), true
}

// cacheFits refuses a bound that is more than the whole disk of the cache.
func (s *Set) cacheFits(d settings.Datastore) error {
	dir := cmp.Or(d.Backend.CacheDir, d.Path)
	space, err := s.cfg.FS.Space(dir)
	if err == nil && d.Backend.CacheSize > space.TotalBytes {
		return upgrade.Errorf(http.StatusBadRequest, "a cache of %s in %s: the disk there has %s", logs.Human(d.Backend.CacheSize), dir, logs.Human(space.TotalBytes))
	}
	return nil
}

// resize gives caches the bounds that the settings say, while they are used. One
// that cannot have its bound is reported, and stops none of the others.
func (s *Set) resize(list []settings.Datastore) error {
	var errs []error
	for _, d := range list {
		s.mu.Lock()
		var r *running
		if st := s.stores[d.Name]; st != nil && st.d != nil {
			r = st.cloud
		}
		s.mu.Unlock()
		if r == nil || r.Stats().Cache.Bound == d.Backend.CacheSize {
			continue
		}
		if err := r.Resize(d.Backend.CacheSize); err != nil {
			errs = append(errs, fmt.Errorf("cache of datastore %s: %w", d.Name, err))
		}
	}
	return errors.Join(errs...)
}

// collectOne collects garbage, in the bucket as well.
func (s *Set) collectOne(ctx context.Context, t *jobs.Task, name string, d *catalog.Datastore, opt gc.Options) (gc.Report, error) {
	ti, done, err := s.UseTier(name)
	if err != nil {
		return d.Collect(ctx, opt)
	}
	defer done()
	if s.cfg.Agreed != nil { // else something in it may be held by a decision that is not known here
		if err := s.cfg.Agreed(ctx); err != nil {
			return gc.Report{}, fmt.Errorf("nothing is deleted in the bucket of datastore '%s' while the cluster has no quorum: %w", name, err)
		}
	}
	ctx, run := s.Metered(ctx, t, ti, name)
	opt.Planned = func(p gc.Plan) { run.Says(ti.ForecastCollect(ctx, p)) }
	r, err := ti.Collect(ctx, opt)
	if r.Deleted > 0 {
		t.Logf("%d objects were deleted in the bucket", r.Deleted)
	}
	logs.Doubted(t, ti.Stats())
	run.End(err)
	return r.Report, err
}

// Metered counts what work on a bucket asks of it until the run is ended.
func (s *Set) Metered(ctx context.Context, t *jobs.Task, ti *tier.Tier, name string) (context.Context, *meter.Run) {
	return meter.Begin(ctx, t, ti, name, func(r usage.Run) {
		d, _ := s.cfg.Settings.State().Datastore(name)
		if err := s.cfg.Clouds.Keep(d.Backend.Client, r); err != nil {
			s.cfg.Log.Warn("what a task asked of a bucket is not kept", "task", r.Task, "err", err)
		}
	})
}

// cloudSchedules are those of datastores in buckets.
func (s *Set) cloudSchedules(state *settings.State) (list []jobs.Schedule) {
	for _, d := range state.Datastores {
		if d.Backend.IsZero() {
			continue
		}
		add := func(typ, event string, work func(context.Context, *jobs.Task) error) {
			if d.Backend.ReadOnly {
				event = ""
			}
			list = append(list, jobs.Schedule{Name: typ + ":" + d.Name, Event: event, Type: typ, ID: d.Name, Auth: root, Work: work})
		}
		add(offloadType, cmp.Or(d.Backend.Schedule, offloadEvent), s.affordable(d.Name, s.claimed(d.Name, s.offload(d.Name))))
		add(auditType, cmp.Or(d.Backend.Audit, auditEvent), s.affordable(d.Name, s.claimed(d.Name, s.audit(d.Name))))
		add(doctorType, doctorEvent, s.examine(d.Name))
	}
	return list
}

// StartOffload begins an offload now, by the age that is set up.
func (s *Set) StartOffload(name, auth string) (jobs.UPID, error) {
	return s.trigger(offloadType, name, auth)
}

// StartAudit begins an audit of the bucket.
func (s *Set) StartAudit(name, auth string) (jobs.UPID, error) {
	return s.trigger(auditType, name, auth)
}

func (s *Set) trigger(typ, name, auth string) (jobs.UPID, error) {
	_, done, err := s.UseTier(name)
	if err != nil {
		return jobs.UPID{}, err
	}
	defer done()
	u, err := s.cfg.Scheduler.Trigger(typ+":"+name, auth)
	if errors.Is(err, jobs.ErrRunning) {
		return u, upgrade.Errorf(http.StatusBadRequest, "%s of '%s' is running already", typ, name)
	}
	return u, err
}

func (s *Set) offload(name string) func(context.Context, *jobs.Task) error {
	return func(ctx context.Context, t *jobs.Task) error {
		ti, done, err := s.UseTier(name)
		if err != nil {
			return err
		}
		defer done()
		d, _ := s.cfg.Settings.State().Datastore(name)
		if d.Backend.After > 0 {
			t.Logf("moving what has been here for %s", d.Backend.After)
		}
		ctx, run := s.Metered(ctx, t, ti, name)
		opt := tier.OffloadOptions{After: d.Backend.After, Progress: func(p cloud.OffloadReport) {
			if p.Packs%16 == 0 {
				t.Logf("%d packs sent", p.Packs)
			}
		}}
		run.Says(ti.ForecastOffload(ctx, opt))
		r, err := ti.Offload(ctx, opt)
		logs.Offloaded(t, r, err)
		run.End(err)
		return err
	}
}

func (s *Set) audit(name string) func(context.Context, *jobs.Task) error {
	return func(ctx context.Context, t *jobs.Task) error {
		ti, done, err := s.UseTier(name)
		if err != nil {
			return err
		}
		defer done()
		ctx, run := s.Metered(ctx, t, ti, name)
		run.Says(ti.ForecastAudit(), nil)
		r, _, err := ti.Audit(ctx)
		logs.Audited(t, r)
		run.End(err)
		if err == nil && len(r.Missing)+len(r.Wrong) > 0 && ti.Stats().Lost > 0 {
			err = &identity.Problem{Text: "packs are lost that snapshots may need", Cure: fmt.Sprintf("fetch their chunks from other sites: holdfast datastore heal %s; holdfast datastore verify %s tells which snapshots are at risk", name, name)}
		}
		return err
	}
}

// StartRefresh reads the snapshots of the bucket again.
func (s *Set) StartRefresh(name, auth string) (jobs.UPID, error) {
	_, done, err := s.UseTier(name)
	if err != nil {
		return jobs.UPID{}, err
	}
	defer done()
	return s.cfg.Tasks.Start(context.Background(), refreshType, name, auth, func(ctx context.Context, t *jobs.Task) error {
		ti, done, err := s.UseTier(name)
		if err != nil {
			return err
		}
		defer done()
		ctx, run := s.Metered(ctx, t, ti, name)
		run.Says(ti.ForecastRefresh(), nil)
		r, err := ti.Refresh(ctx)
		t.Logf("the bucket has %d snapshots; %d files were written here, %d removed", r.Snapshots, r.Written, r.Removed)
		logs.Doubted(t, ti.Stats())
		run.End(err)
		return err
	})
}

// StartTakeOver makes the bucket ours.
func (s *Set) StartTakeOver(name, auth string, force bool) (jobs.UPID, error) {
	_, done, err := s.UseTier(name)
	if err != nil {
		return jobs.UPID{}, err
	}
	defer done()
	return s.cfg.Tasks.Start(context.Background(), "take-over", name, auth, func(ctx context.Context, t *jobs.Task) error {
		ti, done, err := s.UseTier(name)
		if err != nil {
			return err
		}
		defer done()
		take := func(ctx context.Context, _ bool, _ error) error { return ti.TakeOver(ctx, force) }
		if force || s.cfg.Claim == nil {
			err = take(ctx, false, nil)
		} else {
			err = s.cfg.Claim(ctx, name, ti.Stats().Store, take) // nobody is in the middle of something
		}
		if err == nil {
			t.Logf("the bucket is ours: %s", ti.Stats().Bucket)
			logs.Doubted(t, ti.Stats())
		}
		return err
	})
}
