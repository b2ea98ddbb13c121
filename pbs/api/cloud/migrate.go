package cloud

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/doctor"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/migrate"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/s3"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// migration reads where a store is copied to.
func migration(c *rest.Call) stores.Migration {
	override := c.Texts("override")
	for _, name := range override {
		if !slices.Contains(doctor.Names(), name) {
			c.Fail("override", "there is no check '%s'; there are %s", name, strings.Join(doctor.Names(), ", "))
		}
	}
	m := stores.Migration{
		Client: upgrade.Parsed(c.Params, "client", upgrade.ParseStore), Bucket: upgrade.Parsed(c.Params, "bucket", line),
		Prefix: place(c.Params, "prefix"), Home: c.Bool("home"), Override: override,
	}
	if strings.Contains(m.Bucket+m.Prefix, ",") {
		c.Fail("prefix", "names of buckets and prefixes must not have a comma")
	}
	return m
}

// A migratePlan is what it takes to copy a store.
type migratePlan struct {
	migrate.Plan
	Manifest string `json:"manifest,omitempty"` // for S3 Batch Operations
}

// planMigrate says what has to be copied. It is a listing of both buckets, which costs.
func (a *api) planMigrate(ctx context.Context, c *rest.Call) (any, error) {
	store, m, all, rate := c.Store(), migration(c), c.Bool("manifest"), int64(20<<20)
	if c.Has("rate") {
		rate = c.Int("rate", 1, 1<<40)
	}
	if all && m.Home {
		c.Fail("manifest", "a list copies nothing, so the store cannot move: copy by the list first, and then move without it")
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	to, err := a.Clients.Bucket(m.Client, m.Bucket, m.Prefix)
	if err != nil {
		return nil, err
	}
	t, done, err := a.Stores.UseTier(store)
	if err != nil {
		return nil, err
	}
	defer done()
	left, err := t.Migration(ctx, to)
	if err != nil {
		return nil, err
	}
	state := a.Settings.State()
	d, _ := state.Datastore(store)
	old, _ := state.S3Client(d.Backend.Client)
	fresh, _ := state.S3Client(m.Client)
	from, _, err := s3.ProviderOf(old)
	there, _, err2 := s3.ProviderOf(fresh)
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	p := migratePlan{Plan: left.Plan(rate, from, there)}
	if all {
		var out strings.Builder
		err = left.Manifest(&out)
		p.Manifest = out.String()
	}
	return p, err
}

// migrate begins to copy a store into another bucket.
func (a *api) migrate(ctx context.Context, c *rest.Call) (any, error) {
	store, m := c.Store(), migration(c)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if err := a.free(ctx, store, m); err != nil {
		return nil, err
	}
	return a.start(c, func(store, auth string) (any, error) { return a.Stores.StartMigrate(store, auth, m) })
}

// free fails if somebody else works in the bucket to which a store is to be copied. The
// task looks again, and under a condition; here it is before the doctor writes anything.
func (a *api) free(ctx context.Context, store string, m stores.Migration) error {
	to, err := a.Clients.Bucket(m.Client, m.Bucket, m.Prefix)
	if err != nil {
		return err
	}
	t, done, err := a.Stores.UseTier(store)
	if err != nil {
		return err
	}
	defer done()
	_, err = t.Free(ctx, to)
	return err
}
