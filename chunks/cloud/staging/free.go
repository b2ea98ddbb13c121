package staging

import (
	"context"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bitmap"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cache"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// Usage tells what chunks of those lengths occupy in a pack of the bucket, and how
// much of that those in dead do.
func Usage(lens []uint32, sealed bool, dead []uint64) (u pack.Usage) {
	u.Entries = uint32(len(lens))
	for i, n := range lens {
		size := format.AlignUp(layout.FrameSize(sealed, n), format.SmallAlign)
		if bitmap.Has(dead, uint32(i)) {
			u.Dead++
			u.DeadBytes += size
		} else {
			u.LiveBytes += size
		}
	}
	return u
}

// Free removes packs of a local store in which nothing lives any more. What is
// partly dead is the collector's business.
func Free(ctx context.Context, local *pack.Store) error {
	usage, err := local.Measure(local.Condemned())
	if err != nil {
		return err
	}
	for _, info := range local.Packs() {
		u, ok := usage[info.Number]
		if !ok || u.Dead < u.Entries || !info.Sealed {
			continue
		}
		if _, err := local.Reclaim(ctx, info.Number, pack.Drop, nil); err != nil {
			return err
		}
	}
	return nil
}

// Spare takes out of a set of entries of a local store those whose chunks live
// elsewhere too: they stay until somebody has made sure that they may go.
func Spare(local *pack.Store, set *pack.Set, elsewhere func(chunks.Digest) bool) {
	if set.Len() == 0 {
		return
	}
	spared := &pack.Set{}
	entries, err := local.Entries(context.Background(), func(i pack.Info) bool { return set.Row(i.Number) != nil })
	for _, e := range entries {
		if elsewhere(e.Digest) {
			spared.Add(e.Ref)
		}
	}
	if err != nil { // nothing is known: all stays
		spared = set.Clone()
	}
	set.AndNot(spared)
}

// Keep stores anew, on the disk, what this machine has of chunks that are wanted, in the
// cache or condemned, and returns how many that were: these go from want.
func Keep(ctx context.Context, c *cache.Live, local *pack.Store, want map[chunks.Digest]bool) (n int, err error) {
	for d := range want {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		b := Remains(ctx, c, local, d)
		if b == nil {
			continue
		}
		if _, _, err := local.Append(ctx, d, b, nil); err != nil {
			return n, err
		}
		delete(want, d)
		n++
	}
	if n == 0 {
		return 0, nil
	}
	return n, local.Commit(ctx)
}

// Remains returns what this machine has of a chunk, in the cache or
// on the disk; nil if that is nothing whole.
func Remains(ctx context.Context, c *cache.Live, local *pack.Store, d chunks.Digest) (b chunks.Blob) {
	if b, _ = c.Get(d, nil); b != nil && b.Verify(d, nil) == nil {
		return b
	}
	if b, err := local.Get(ctx, d, nil); err == nil && b.Verify(d, nil) == nil {
		return b
	}
	return nil
}
