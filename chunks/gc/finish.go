package gc

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// finishAttempts bounds how often Finish looks after write failures. A disk
// that fails three times in a row is not going well.
const finishAttempts = 3

// maxListed bounds how many digests a MissingError carries; Missing lists all.
const maxListed = 1000

// A MissingError says that a snapshot names chunks that the store lacks.
type MissingError struct {
	Digests []chunks.Digest // the first thousand
	Count   int             // all of them, repetitions included
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("%d chunks are missing, the first is %s", e.Count, e.Digests[0])
}

// Is makes a MissingError match [chunks.ErrMissing].
func (e *MissingError) Is(target error) bool { return target == chunks.ErrMissing }

// Hint is printed on its own line below the error.
func (e *MissingError) Hint() string {
	return "run the backup again; it sends what is missing"
}

// Finish ends a backup. It looks up and pins every chunk that indexes name,
// makes all of them durable, and only then calls publish, which makes the
// snapshot's files durable and visible to [Roots.Each] before it returns.
//
// It fails with a [*MissingError] if a chunk is not here, whatever the session
// was told before: this check, and not a lease or a clock, is what keeps a
// published snapshot whole. After any failure nothing has been published (by
// us; publish answers for itself), the session is still open, and Finish may
// be called again.
func (s *Session) Finish(ctx context.Context, indexes []Index, publish func() error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	if err := s.secure(ctx, indexes); err != nil {
		return fmt.Errorf("finish %s of %s: %w", s.kind, s.owner, err)
	}
	if err := publish(); err != nil {
		return fmt.Errorf("publish %s of %s: %w", s.kind, s.owner, err)
	}
	s.c.release(s)
	return nil
}

// secure returns when every chunk of indexes is here, pinned and durable. If a
// write fails meanwhile, for whomever, it looks again at what that left.
func (s *Session) secure(ctx context.Context, indexes []Index) error {
	store := s.c.cfg.Store
	var failed error
	for range finishAttempts {
		failures := store.Failures()
		if err := s.check(ctx, indexes); err != nil && failed != nil {
			return fmt.Errorf("%w, after this: %w", err, failed)
		} else if err != nil {
			return err
		}
		failed = store.Commit(ctx)
		if err := ctx.Err(); err != nil {
			return err
		}
		// A Commit succeeds also when somebody else's failed just before it
		// and took along entries that check has seen.
		if failed == nil && store.Failures() == failures {
			return nil
		}
		failed = cmp.Or(failed, ErrLost)
	}
	return fmt.Errorf("make chunks durable: %w", failed)
}

// check looks up and pins every digest of indexes.
func (s *Session) check(ctx context.Context, indexes []Index) error {
	lacking := &MissingError{}
	var missing []chunks.Digest
	for _, index := range indexes {
		err := index.Digests(ctx, func(ds []chunks.Digest) error {
			for batch := range slices.Chunk(ds, pinBatch) {
				missing = s.pin(batch, missing[:0])
				lacking.Count += len(missing)
				room := maxListed - len(lacking.Digests)
				lacking.Digests = append(lacking.Digests, missing[:min(room, len(missing))]...)
			}
			return ctx.Err()
		})
		if err != nil {
			return fmt.Errorf("read the index: %w", err)
		}
	}
	if lacking.Count > 0 {
		return lacking
	}
	return nil
}
