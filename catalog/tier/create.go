package tier

import (
	"context"
	"errors"
	"fmt"

	"filippo.io/age"

	"github.com/holdfast-mesh/holdfast/chunks/cloud"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/identity"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
	packs "github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

// Create makes a new store in the bucket and a datastore of it in an empty
// directory. The recovery key is tried on it, and kept nowhere: without it and
// without this node the bucket cannot be opened.
func Create(ctx context.Context, cfg Config, encrypt bool, recovery string) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	if cfg.Key == nil {
		return cloud.ErrNoKey
	}
	if err := identity.Apart(cfg.Bucket); err != nil {
		return err
	}
	drawer, err := seal.ParseIdentity(recovery)
	if err != nil {
		return err
	}
	can, err := probe(ctx, cfg)
	if err != nil {
		return err
	}
	if err := initDir(cfg, format.ID{}); err != nil {
		return err
	}
	id, err := identity.Create(ctx, cfg.Bucket.With(can), identity.Options{
		Encrypt: encrypt, Recipients: []age.Recipient{cfg.Key.Recipient(), drawer.Recipient()}, Proof: drawer,
	})
	if err == nil {
		err = disk.MkdirAll(cfg.FS, cfg.at("meta"), 0o750)
	}
	if err == nil { // that there is a second copy of the format need not be asked
		err = disk.WriteFileAtomic(cfg.FS, cfg.at("meta/"+layout.FormatCopyKey), nil, 0o640)
	}
	if err != nil {
		return err
	}
	return cfg.writeState(state{Store: id, Can: can, Own: true})
}

// Attach makes a datastore of a store that is in the bucket, in an empty directory,
// or in one that was such a datastore of it before. recovery is its recovery key, "" if this node's key opens it, or if
// it is only read and not encrypted. The bucket becomes ours if nobody else's
// lease holds, or by force.
func Attach(ctx context.Context, cfg Config, recovery string, force bool) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	if !cfg.ReadOnly {
		if err := identity.Apart(cfg.Bucket); err != nil {
			return err
		}
	}
	can, err := probe(ctx, cfg)
	if err != nil {
		return err
	}
	id, f, err := find(ctx, cfg.Bucket)
	if err != nil {
		return err
	}
	if f.Trouble != nil {
		cfg.warn("the format of the store was read from its copy: %v; an audit by the owner mends it", f.Trouble)
	}
	s := state{Store: id, Can: can, Own: !cfg.ReadOnly}
	if s.Wrapped, err = rewrap(cfg, f, recovery); err != nil {
		return err
	}
	if err := initDir(cfg, id); err != nil {
		return err
	}
	if err := cfg.writeState(s); err != nil {
		return err
	}
	t, err := Open(ctx, cfg)
	if err != nil {
		return err
	}
	if !cfg.ReadOnly {
		err = t.acquire(ctx, cloud.AcquireOptions{Force: force, SingleWriter: cfg.SingleWriter})
	}
	if err == nil {
		_, err = t.Refresh(ctx)
	}
	if doubt := t.Stats().Doubt; doubt != "" && cfg.Warn != nil { // it is in the log already
		cfg.Warn("%s", doubt)
	}
	return errors.Join(err, t.Close())
}

func (c Config) warn(format string, args ...any) {
	c.Log.Warn(fmt.Sprintf(format, args...))
	if c.Warn != nil {
		c.Warn(format, args...)
	}
}

// probe finds out what the store can do. Of a bucket that is only read nothing
// is asked for which it would have to be written.
func probe(ctx context.Context, cfg Config) (bucket.Capabilities, error) {
	if cfg.ReadOnly {
		return bucket.Capabilities{Ranges: true, Lists: true}, nil
	}
	can, err := cfg.Bucket.Probe(ctx)
	if err == nil {
		err = can.Usable()
	}
	if err == nil && !can.Fenced() && !cfg.SingleWriter {
		err = cloud.ErrUnfenced
	}
	if err != nil {
		err = fmt.Errorf("use %s: %w", cfg.Bucket, err)
	}
	return can, err
}

// find returns the only store in a bucket.
func find(ctx context.Context, b *bucket.Bucket) (id format.ID, f layout.Format, err error) {
	ids, err := identity.Stores(ctx, b)
	switch {
	case err != nil:
		return id, f, err
	case len(ids) == 0:
		return id, f, fmt.Errorf("attach %s: %w", b, identity.ErrNoStore)
	case len(ids) > 1:
		return id, f, fmt.Errorf("attach %s: there are %d stores below this prefix", b, len(ids))
	}
	f, err = identity.ReadFormat(ctx, b.Sub(layout.Root+ids[0].String()), ids[0])
	return ids[0], f, err
}

// rewrap returns the store's key for this node alone; nil if the bucket's own
// copy will do, or nothing can be opened and nothing has to be.
func rewrap(cfg Config, f layout.Format, recovery string) ([]byte, error) {
	if recovery == "" {
		if cfg.Key != nil {
			if _, err := seal.Unwrap(f.Wrapped, cfg.Key); err == nil {
				return nil, nil
			}
		}
		if cfg.ReadOnly && f.KeyID == "" {
			return nil, nil
		}
		return nil, fmt.Errorf("attach %s: %w", cfg.Bucket, cloud.ErrNoKey)
	}
	drawer, err := seal.ParseIdentity(recovery)
	if err != nil {
		return nil, err
	}
	key, err := seal.Unwrap(f.Wrapped, drawer)
	if err != nil {
		return nil, err
	}
	if cfg.Key == nil {
		return nil, fmt.Errorf("attach %s: %w", cfg.Bucket, cloud.ErrNoKey)
	}
	return key.Wrap(cfg.Key.Recipient())
}

// initDir makes the directory a datastore. One that an attempt before has left, or
// that was one of the store of that ID before, is used with what is in it; zero: of
// none.
func initDir(cfg Config, id format.ID) error {
	if _, err := packs.Read(cfg.FS, cfg.Dir); err == nil {
		if s, err := readState(cfg); err == nil && (id == format.ID{} || s.Store != id) {
			return &identity.Problem{
				Text: fmt.Sprintf("directory %s has a cloud datastore already, of store %s", cfg.Dir, s.Store),
				Cure: "give another directory; or attach that store with --reuse; or remove the directory, if all that is in it may go",
			}
		}
	} else if _, err := packs.Init(cfg.FS, cfg.Dir, 0); err != nil {
		return err
	}
	return disk.MkdirAll(cfg.FS, cfg.at(""), 0o750)
}
