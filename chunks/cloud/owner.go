package cloud

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// skewBound is how wrong clocks may be before a lease is misjudged. What keeps
// data safe is the epoch, not the clock.
const skewBound = 10 * time.Minute

// AcquireOptions say how far to go.
type AcquireOptions struct {
	Force        bool // take the bucket from an owner whose lease has not ended
	SingleWriter bool // accept a store without conditional writes: the operator answers for it
}

// Acquire makes the bucket ours, or renews our lease: one GET and one PUT under
// the condition that nobody came between. A new owner has a higher epoch, and
// whatever an older one writes from then on does not count.
func (s *Store) Acquire(ctx context.Context, opt AcquireOptions) error {
	s.work.Lock()
	defer s.work.Unlock()
	switch {
	case s.key == nil:
		return ErrNoKey
	case !s.b.Can().Fenced() && !opt.SingleWriter:
		return fmt.Errorf("own %s: %w", s, ErrUnfenced)
	}
	secret, err := s.secret()
	if err != nil {
		return err
	}
	was, etag, err := s.readOwner(ctx)
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	next := layout.Owner{Store: s.format.Store, Node: s.cfg.Node, Epoch: was.Epoch, Until: now.Add(s.cfg.Lease), Secret: secret}
	mine := was.Secret == secret && was.Node == s.cfg.Node
	if !mine {
		if !opt.Force && now.Before(was.Until.Add(skewBound)) {
			return fmt.Errorf("own %s: %w: %s until %s", s, ErrOwned, was.Node, was.Until.Format(time.RFC3339))
		}
		next.Epoch++
	}
	if err := s.writeOwner(ctx, next, etag); err != nil {
		return err
	}
	s.mu.Lock()
	s.onlyRead, s.fenced = false, false
	s.mu.Unlock()
	if !mine {
		return s.refresh(ctx)
	}
	return nil
}

// secret tells this directory from another one of a node of the same name.
func (s *Store) secret() (string, error) {
	name := s.path("secret")
	if b, err := disk.ReadFile(s.cfg.FS, name, 100); err == nil && len(b) > 0 {
		return string(b), nil
	}
	text := rand.Text()
	return text, disk.WriteFileAtomic(s.cfg.FS, name, []byte(text), 0o600)
}

// readOwner returns who owns the bucket; the zero Owner if nobody ever did.
func (s *Store) readOwner(ctx context.Context) (o layout.Owner, etag string, err error) {
	b, info, err := s.b.Get(ctx, layout.OwnerKey, maxSmall)
	if errors.Is(err, bucket.ErrNotFound) {
		return layout.Owner{}, "", nil
	}
	if err != nil {
		return o, "", err
	}
	if err := json.Unmarshal(b, &o); err != nil || o.Store != s.format.Store {
		return o, "", errors.Join(fmt.Errorf("%s in %s says nothing of an owner", layout.OwnerKey, s.b), err)
	}
	return o, info.ETag, nil
}

func (s *Store) writeOwner(ctx context.Context, o layout.Owner, etag string) error {
	body, err := json.Marshal(o)
	if err != nil {
		return err
	}
	opt := bucket.PutOption{IfMatch: etag, New: etag == ""}
	if !s.b.Can().Fenced() {
		opt = bucket.PutOption{}
	}
	info, err := s.b.PutBytes(ctx, layout.OwnerKey, body, opt)
	if errors.Is(err, bucket.ErrChanged) || errors.Is(err, bucket.ErrExists) {
		return fmt.Errorf("own %s: %w: somebody came first: %w", s, ErrOwned, err)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.owner, s.etag = o, info.ETag
	s.mu.Unlock()
	return nil
}

// check asks the bucket whether it is ours still. It comes after every root,
// before anything that the root allows: what the check sees as ours, a later
// owner sees too, because it lists the roots after it took over.
func (s *Store) check(ctx context.Context) error {
	is, _, err := s.readOwner(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if is.Epoch != s.owner.Epoch || is.Secret != s.owner.Secret {
		s.fenced, s.onlyRead = true, true
		return fmt.Errorf("write to %s: %w: %s, epoch %d", s, ErrFenced, is.Node, is.Epoch)
	}
	return nil
}

// writable says why we may not write.
func (s *Store) writable() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.fenced:
		return fmt.Errorf("write to %s: %w", s, ErrFenced)
	case s.onlyRead:
		return fmt.Errorf("write to %s: %w", s, ErrReadOnly)
	}
	return nil
}

func (s *Store) readOnly() bool { return s.writable() != nil }

// Owner returns who owns the bucket, as the bucket says now.
func (s *Store) Owner(ctx context.Context) (layout.Owner, error) {
	o, _, err := s.readOwner(ctx)
	return o, err
}

// Run renews the lease until ctx is done. Nothing else is asked of the bucket
// while nothing happens. It fails when somebody else has taken the bucket.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(s.cfg.Lease / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if s.readOnly() {
			continue
		}
		err := s.renew(ctx)
		if errors.Is(err, ErrFenced) {
			return err
		}
		if err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("lease was not renewed", "store", s.String(), "err", err, "retry_in", s.cfg.Lease/3)
		}
	}
}

// renew prolongs the lease with one request.
func (s *Store) renew(ctx context.Context) error {
	s.work.Lock()
	defer s.work.Unlock()
	s.mu.Lock()
	next, etag := s.owner, s.etag
	s.mu.Unlock()
	next.Until = time.Now().UTC().Add(s.cfg.Lease)
	err := s.writeOwner(ctx, next, etag)
	if errors.Is(err, ErrOwned) {
		return s.check(ctx)
	}
	return err
}
