package backup

import (
	"context"
	"fmt"
	"net/http"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// put stores a chunk that was checked, unless it is there already.
//
// What is there under the same name need not be the same chunk: of an
// encrypted one nobody here can see that. Taken for the same it would ruin the
// backups of everybody who has a plain chunk of that name. So a plain chunk,
// which has been proved to be what its name says, takes the place of an
// encrypted one, and an encrypted one never that of a plain one (§5.8).
func (s *Session) put(ctx context.Context, d chunks.Digest, b chunks.Blob) (duplicate bool, err error) {
	for range 3 { // another session may do the same
		if duplicate, err = s.writer.Session().Put(ctx, d, b); err != nil || !duplicate {
			return duplicate, err
		}
		good, err := s.same(d, b)
		if err != nil || good {
			return true, err
		}
	}
	return false, fmt.Errorf("it is replaced again and again")
}

// same tells whether the chunk that is there may stand for b. One that may not
// is denied from now on, so that b can be stored.
func (s *Session) same(d chunks.Digest, b chunks.Blob) (bool, error) {
	kind, err := b.Kind()
	if err != nil {
		return false, err
	}
	packs := s.req.Datastore.Chunks()
	ref, there, ok, err := packs.LookupKind(d)
	switch {
	case !ok:
		return false, nil // it has been condemned, or moved: put it again
	case err == nil && there.IsEncrypted() == kind.IsEncrypted():
		return true, nil
	case err == nil && kind.IsEncrypted():
		return false, upgrade.Errorf(http.StatusBadRequest, "chunk %s is there, and not encrypted: an encrypted one cannot take its place", d)
	case err != nil && kind.IsEncrypted():
		return false, err // this one proves nothing, and can mend nothing
	}
	s.log.Warn("chunk is replaced by a plain one that was proved to be it", "digest", d.Short(), "there", there, "err", err)
	s.task.Warnf("chunk %s is there as %s, or damaged (%v), and is replaced", d.Short(), there, err)
	return false, packs.Quarantine(ref)
}
