package stores

import (
	"context"
	"net/http"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/tier"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/doctor"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/s3"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores/fit"
	"github.com/holdfast-mesh/holdfast/pbs/stores/meter"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

const (
	doctorType  = "s3-doctor"
	doctorEvent = "sun 06:30"
)

// patient is what the doctor has to know of a datastore.
func (s *Set) patient(cfg tier.Config) doctor.Config {
	p := doctor.Config{Bucket: cfg.Bucket, Node: s.cfg.Node, Reader: cfg.ReadOnly, Grace: cfg.Grace, GCs: 30, Own: fit.Own(cfg.Provider, cfg.Bucket)}
	if cfg.CacheBytes == 0 {
		return p
	}
	dir := cfg.CacheDir
	if dir == "" {
		dir = cfg.Dir
	}
	p.Cache = doctor.CacheAt(dir, cfg.CacheBytes)
	return p
}

// admit examines a bucket before a datastore is made in it. The report is kept with the
// datastore when there is one: what was answered for by name is not forgotten.
func (s *Set) admit(ctx context.Context, t *jobs.Task, cfg tier.Config, override []string) (*doctor.Report, error) {
	r, err := doctor.Examine(ctx, s.patient(cfg))
	if err != nil {
		return nil, err
	}
	s3.LogReport(t, r)
	t.Logf("requests to the store: %s", meter.Requests(r.Requests))
	return r, fit.Admit(r, override, cfg.ReadOnly)
}

// StartDoctor begins to examine a datastore's bucket.
func (s *Set) StartDoctor(name, auth string) (jobs.UPID, error) {
	return s.trigger(doctorType, name, auth)
}

// examine examines a datastore's bucket and keeps the report.
func (s *Set) examine(name string) func(context.Context, *jobs.Task) error {
	return func(ctx context.Context, t *jobs.Task) error {
		ti, done, err := s.UseTier(name)
		if err != nil {
			return err
		}
		defer done()
		d, ok := s.cfg.Settings.State().Datastore(name)
		if !ok {
			return upgrade.Errorf(http.StatusNotFound, "no such datastore '%s'", name)
		}
		cfg, err := s.tierConfig(ctx, d)
		if err != nil {
			return err
		}
		p, st := s.patient(cfg), ti.Stats()
		p.Store = st.Store
		if err := ti.Garbage(func(bytes int64, age time.Duration) {
			p.Doomed = append(p.Doomed, doctor.Doomed{Bytes: bytes, Age: age})
		}); err != nil {
			return err
		}
		if p.Cache != nil {
			p.Cache.Used, p.Cache.Pinned = st.Cache.Used, st.Cache.Pinned
		}
		r, err := doctor.Examine(ctx, p)
		if err != nil {
			return err
		}
		s3.LogReport(t, r)
		t.Logf("requests to the store: %s", meter.Requests(r.Requests))
		if err := fit.Keep(s.cfg.FS, d.Path, r); err != nil {
			return err
		}
		if found := r.Blocks(nil); len(found) > 0 {
			return fit.Refused(found)
		}
		return nil
	}
}

// Doctor returns the last report about a datastore's bucket; nil if it was
// never examined.
func (s *Set) Doctor(name string) (*doctor.Report, error) {
	_, done, err := s.UseTier(name)
	if err != nil {
		return nil, err
	}
	defer done()
	d, _ := s.cfg.Settings.State().Datastore(name)
	return fit.Last(s.cfg.FS, d.Path)
}

// canLock tries whether the bucket takes the locks that a datastore is to have: else
// the provider would refuse every object from then on.
func (s *Set) canLock(ctx context.Context, d settings.Datastore) error {
	cfg, err := s.tierConfig(ctx, d)
	if err != nil {
		return err
	}
	return doctor.TryLock(ctx, cfg.Bucket)
}
