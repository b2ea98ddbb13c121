package cloud

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/identity"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
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
	secret, err := identity.Secret(s.cfg.FS, s.path("secret"))
	if err != nil {
		return err
	}
	epoch := s.Newest().Seq.Epoch
	was, etag, err := identity.Previous(ctx, s.b, s.format.Store, epoch > 0, opt.Force)
	if errors.Is(err, identity.ErrDamaged) {
		was, etag, err = identity.RecoverOwner(ctx, s.cfg.FS, s.path("owner"), s.b, s.format.Store, err)
	}
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	next := layout.Owner{Store: s.format.Store, Node: s.cfg.Node, Epoch: was.Epoch, Until: now.Add(s.cfg.Lease), Secret: secret}
	mine := was.Secret == secret && was.Node == s.cfg.Node && was.Epoch >= epoch
	if !mine && !opt.Force && now.Before(was.Until.Add(skewBound)) {
		return fmt.Errorf("own %s: %w: node %s has it until %s", s, ErrOwned, was.Node, was.Until.Format(time.RFC3339))
	}
	s.mu.Lock()
	stale := s.stale
	s.mu.Unlock()
	var bad layout.Seq
	var newest *layout.Head
	if !mine || stale || s.meta.Behind().N > 0 { // no root may be newer than ours, also if the owner's object was lost
		if newest, err = s.meta.Newest(ctx); err != nil {
			return err
		}
		if bad = s.meta.Behind(); bad.N > 0 && !opt.Force && !(mine && bad.Epoch < was.Epoch) { // else we were forced before
			return fmt.Errorf("own %s: root %s: %w", s, bad, ErrBehind)
		}
		if !mine || bad.N > 0 {
			next.Epoch = max(was.Epoch, epoch, newest.Seq.Epoch, bad.Epoch) + 1
			s.queue.Doubt()
		}
	}
	if err := s.writeOwner(ctx, next, etag); err != nil {
		return err
	}
	s.mu.Lock()
	s.onlyRead, s.fenced, s.dirty = false, false, s.dirty || bad.N > 0
	s.mu.Unlock()
	switch {
	case !mine || bad.N > 0: // again, now that nobody else can write; the next check says whether that still was so
		err = s.refresh(ctx)
	case newest != nil:
		err = s.take(ctx, newest)
	}
	if err == nil {
		err = s.writable()
	}
	s.table.trust(err == nil && mine && bad.N == 0) // then the roots were read before the bucket said that it is ours still
	return err
}

func (s *Store) writeOwner(ctx context.Context, o layout.Owner, etag string) error {
	etag, err := identity.TakeOwner(ctx, s.cfg.FS, s.path("owner"), s.b, o, etag)
	if errors.Is(err, bucket.ErrChanged) || errors.Is(err, bucket.ErrExists) {
		return fmt.Errorf("own %s: %w: somebody came first: %w", s, ErrOwned, err)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.owner, s.etag = o, etag
	s.mu.Unlock()
	return nil
}

// check asks the bucket whether it is ours still. It comes after every root, our own
// that was adopted too, before anything that the root allows: what the check sees as
// ours, a later owner sees too, because it lists the roots after it took over. What
// anything but "it is ours" means is that nothing leaves the disk: see [table.proved].
func (s *Store) check(ctx context.Context) error {
	if err := s.writable(); err != nil {
		return err
	}
	is, _, err := identity.ReadOwner(ctx, s.b, s.format.Store)
	if errors.Is(err, identity.ErrDamaged) {
		is, err = s.mendOwner(ctx, err)
	}
	if err == nil {
		err = s.judge(is)
	}
	s.table.trust(err == nil)
	return err
}

// mendOwner writes the damaged object of the owner anew if that still is ours.
func (s *Store) mendOwner(ctx context.Context, why error) (is layout.Owner, err error) {
	s.mu.Lock()
	is, etag := s.owner, s.etag
	s.mu.Unlock()
	if etag, err = identity.MendOwner(ctx, s.b, is, etag, why); err != nil {
		return is, err
	}
	s.cfg.Log.Warn("what the bucket says of its owner was damaged, and is whole again: it was ours", "store", s.String())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.etag = etag
	return is, identity.KeepOwner(s.cfg.FS, s.path("owner"), is, etag)
}

// judge says what an answer of the bucket means.
func (s *Store) judge(is layout.Owner) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case is.Epoch == 0:
		return fmt.Errorf("write to %s: %w", s, ErrNoOwner)
	case is.Epoch != s.owner.Epoch || is.Secret != s.owner.Secret || s.head.Seq.Epoch > s.owner.Epoch:
		s.fence(is.Node, is.Epoch)
		return fmt.Errorf("write to %s: %w: %s, epoch %d", s, ErrFenced, is.Node, is.Epoch)
	}
	return nil
}

// fence notes that the bucket is somebody else's. The caller holds mu.
func (s *Store) fence(node string, epoch uint64) {
	if !s.fenced {
		s.cfg.Log.Error("another node has taken the bucket over: what was not confirmed before stays on this disk", "store", s.String(), "node", node, "epoch", epoch, "ours", s.owner.Epoch)
	}
	s.fenced, s.onlyRead = true, true
	s.table.trust(false)
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

// An Owner is who may write to a bucket, and until when without asking again.
type Owner = layout.Owner

// Owner returns who owns the bucket, as the bucket says now.
func (s *Store) Owner(ctx context.Context) (Owner, error) {
	o, _, err := identity.ReadOwner(ctx, s.b, s.format.Store)
	return o, err
}

// Run renews the lease until ctx is done. Nothing else is asked of the bucket
// while nothing happens. It fails when somebody else has taken the bucket.
func (s *Store) Run(ctx context.Context) error {
	held := func() bool { return s.writable() == nil }
	return identity.Hold(ctx, s.cfg.Lease/3, held, s.renew, ErrFenced, s.cfg.Log.With("store", s.String()))
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
