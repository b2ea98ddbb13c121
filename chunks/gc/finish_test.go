package gc

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// reading is an index that does something when it was read.
type reading struct {
	Index
	after func()
}

func (r reading) Digests(ctx context.Context, fn func([]chunks.Digest) error) error {
	err := r.Index.Digests(ctx, fn)
	r.after()
	return err
}

func TestFinishListsWhatIsMissing(t *testing.T) {
	s := newSite(t, 4, canPunch)
	x := s.open()
	s.put(x, 1)
	many := make([]chunks.Digest, 3*maxListed)
	err := x.Finish(context.Background(), []Index{Seq(slices.Values(digestsOf(7, 1))), Seq(slices.Values(many))}, nil)
	var missing *MissingError
	if !errors.As(err, &missing) || missing.Count != 3*maxListed+1 || len(missing.Digests) != maxListed || missing.Digests[0] != chunk(7).Digest {
		t.Fatalf("finish: %v", err)
	}
	wants(t, err, "finish backup of vm/100", "3001 chunks are missing", chunk(7).Digest.String())
	if missing.Hint() == "" {
		t.Error("no hint")
	}
}

// Another session's write fails after this one looked, and takes the chunk
// along; then the commit succeeds, because nothing is left to write.
func TestFinishLooksAgainAfterAFailedWrite(t *testing.T) {
	s := newSite(t, 4, canPunch)
	x := s.open()
	s.put(x, 1)
	lost := reading{index(1)[0], s.store.fail}
	err := x.Finish(context.Background(), []Index{lost}, func() error { t.Error("published"); return nil })
	if !errors.Is(err, chunks.ErrMissing) {
		t.Fatalf("finish: %v", err)
	}
}

// The commit fails for another session's sake, and once; nothing of this one
// is lost, so its backup need not fail.
func TestFinishOutlivesAFailedCommitOfOthers(t *testing.T) {
	s := newSite(t, 4, canPunch)
	s.backup("old", 1)
	x := s.open()
	x.Known(chunk(1).Digest)
	s.store.faults.commit = errPlanted
	once := reading{index(1)[0], func() {
		if s.store.failures > 0 {
			s.store.faults.commit = nil
		}
	}}
	s.ok(x.Finish(context.Background(), []Index{once}, func() error { s.roots.add("new", digestsOf(1)); return nil }))
}

func TestFinishTellsWhyChunksAreMissing(t *testing.T) {
	s := newSite(t, 4, canPunch)
	x := s.open()
	s.put(x, 1)
	s.store.faults.commit = errPlanted
	err := x.Finish(context.Background(), index(1), func() error { t.Error("published"); return nil })
	wants(t, err, "1 chunks are missing", "after this: planted failure")
	if !errors.Is(err, chunks.ErrMissing) || !errors.Is(err, errPlanted) {
		t.Error(err)
	}
}

func TestFinishGivesUpOnADiskThatKeepsFailing(t *testing.T) {
	s := newSite(t, 4, canPunch)
	s.backup("old", 1)
	x := s.open()
	failing := reading{index(1)[0], s.store.fail}
	err := x.Finish(context.Background(), []Index{failing}, func() error { t.Error("published"); return nil })
	if !errors.Is(err, ErrLost) {
		t.Fatalf("finish: %v", err)
	}
}

func TestFinishPublishesNothingIfAnythingFails(t *testing.T) {
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for _, row := range []struct {
		name string
		ctx  context.Context
		bad  func(*site) Index
		want error
	}{
		{"the commit", context.Background(), func(s *site) Index { s.store.faults.commit = errPlanted; return index(1)[0] }, errPlanted},
		{"the index", context.Background(), func(s *site) Index { return sighting{&memRoot{roots: s.roots, err: errPlanted}, false} }, errPlanted},
		{"the context", cancelled, func(*site) Index { return index(1)[0] }, context.Canceled},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newSite(t, 4, canPunch)
			x := s.open()
			s.put(x, 1)
			err := x.Finish(row.ctx, []Index{row.bad(s)}, func() error { t.Error("published"); return nil })
			if !errors.Is(err, row.want) {
				t.Errorf("finish: %v, want %v", err, row.want)
			}
		})
	}
}

func TestFinishMayBeRepeatedAfterAFailedPublish(t *testing.T) {
	s := newSite(t, 4, canPunch)
	x, ctx := s.open(), context.Background()
	s.put(x, 1)
	if err := x.Finish(ctx, index(1), func() error { return errPlanted }); !errors.Is(err, errPlanted) {
		t.Fatalf("finish: %v", err)
	}
	s.ok(x.Finish(ctx, index(1), func() error { s.roots.add("new", digestsOf(1)); return nil }))
	if err := x.Finish(ctx, index(1), nil); !errors.Is(err, ErrClosed) {
		t.Fatalf("finish of a finished backup: %v", err)
	}
	s.collect(Options{})
	s.holds("1")
}
