package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
)

// listed is the one root of a benchmark: digests in memory.
type listed struct {
	id      string
	digests []chunks.Digest
}

func (l *listed) Each(_ context.Context, fn func(gc.Root) error) error { return fn(l) }
func (l *listed) ID() string                                           { return l.id }
func (l *listed) Size() int64                                          { return int64(len(l.digests)) << 13 }
func (l *listed) Digests(ctx context.Context, fn func([]chunks.Digest) error) error {
	if len(l.digests) == 0 {
		return fs.ErrNotExist
	}
	return fn(l.digests)
}

func gcSuite(ctx context.Context, b *bench) error {
	if err := gcMark(ctx, b); err != nil {
		return err
	}
	return gcReclaim(ctx, b)
}

// gcMark compares what a garbage collection costs for each chunk before
// anything is removed: 200,000 chunks, 90 % of them live, the peer's with 153
// files a directory.
func gcMark(ctx context.Context, b *bench) error {
	n := b.scaled(200_000)
	all := names(makeBlobs(256, 4096), n)
	var live []chunks.Digest
	for i, d := range all {
		if i%10 != 0 {
			live = append(live, d)
		}
	}
	f, err := b.gcFiles(all)
	if err != nil {
		return err
	}
	root := &listed{digests: live}
	c, done, err := b.gcPacks(ctx, all, root)
	if err != nil {
		return err
	}
	defer done()
	for _, m := range []struct {
		what        string
		fresh, cold bool
		want        float64
		peer        string
	}{
		{"mark and plan, roots never seen", true, true, 100, "files, names cold"},
		{"mark and plan, roots never seen", true, false, 50, "files, all cached"},
		{"mark and plan, roots seen before", false, false, 50, "files, all cached"},
	} {
		dead := n - len(live)
		if !m.fresh { // a collection that is not dry keeps what it saw, and leaves nothing dead
			if _, err := c.Run(ctx, gc.Options{}); err != nil {
				return err
			}
			dead = -1 // but in packs that were open
		}
		ours := func() (float64, error) {
			if m.fresh { // a root that was never seen: every digest is looked up
				root.id = fmt.Sprint(time.Now().UnixNano())
			}
			return dryRun(ctx, c, n, len(live), dead)
		}
		theirs := func() (float64, error) {
			if m.cold && !dropCaches() {
				return 0, errNotRoot
			}
			mark, sweep, err := f.collect(live)
			return (mark + sweep).Seconds() * 1e9 / float64(n), err
		}
		if err := b.gcRow(m.what, m.peer, m.want, ours, theirs); err != nil {
			return err
		}
	}
	return nil
}

// gcRow prints nanoseconds for each chunk against those of the peer.
func (b *bench) gcRow(what, peer string, want float64, ours, theirs func() (float64, error)) error {
	for _, warm := range []func() (float64, error){ours, theirs} {
		if _, err := warm(); errors.Is(err, errNotRoot) {
			b.row(what, "", peer, "needs root", "", true)
			return nil
		} else if err != nil {
			return err
		}
	}
	x, y, err := paired(b.rounds(5), ours, theirs)
	if err != nil {
		return err
	}
	b.row(what, fmt.Sprintf("%.0f ns/chunk", x), fmt.Sprintf("%.0f ns/chunk (%s)", y, peer),
		fmt.Sprintf("%.0f", y/x), fmt.Sprintf(">= %g", want), y/x >= want)
	return nil
}

// gcFiles fills the peer.
func (b *bench) gcFiles(all []chunks.Digest) (*files, error) {
	dir, err := b.sub("gc-files")
	if err != nil {
		return nil, err
	}
	f, err := newFiles(dir, max(len(all)/153, 1))
	if err != nil {
		return nil, err
	}
	set := makeBlobs(256, 4096) // neither side reads content
	for i, d := range all {
		if err := f.put(d, set.blobs[i%len(set.blobs)]); err != nil {
			return nil, err
		}
	}
	return f, f.commit()
}

// gcPacks fills a store and returns its collector.
func (b *bench) gcPacks(ctx context.Context, all []chunks.Digest, root gc.Roots) (*gc.Collector, func(), error) {
	dir, err := b.sub("gc-packs")
	if err != nil {
		return nil, nil, err
	}
	s, err := openNew(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	set := makeBlobs(256, 4096)
	for i, d := range all {
		if _, err := s.Put(ctx, d, set.blobs[i%len(set.blobs)]); err != nil {
			return nil, nil, err
		}
	}
	if err := s.Commit(ctx); err != nil {
		return nil, nil, err
	}
	// A collection that is not dry begins with this; it writes the index out.
	if _, _, err := s.BeginEpoch(ctx); err != nil {
		return nil, nil, err
	}
	c, err := gc.New(gc.Config{Store: s, Roots: root, FS: disk.OS{}, Dir: filepath.Join(dir, "gc")})
	return c, func() { c.Close(); s.Close() }, err
}

// dryRun times mark and plan, in nanoseconds for each chunk.
func dryRun(ctx context.Context, c *gc.Collector, n, live, dead int) (float64, error) {
	began := time.Now()
	r, err := c.Run(ctx, gc.Options{DryRun: true})
	took := time.Since(began)
	if err == nil && (dead >= 0 && r.Plan.DeadChunks != int64(dead) || r.Plan.LiveChunks != int64(live)) {
		err = fmt.Errorf("plan has %d live and %d dead chunks, want %d and %d", r.Plan.LiveChunks, r.Plan.DeadChunks, live, dead)
	}
	return took.Seconds() * 1e9 / float64(n), err
}

var errNotRoot = fmt.Errorf("dropping caches takes root")

// gcReclaim frees every tenth of 1 MiB chunks.
func gcReclaim(ctx context.Context, b *bench) error {
	set, n := makeBlobs(1<<20, 256), b.scaled(1024)
	all := names(set, n)
	dir, err := b.sub("gc-reclaim")
	if err != nil {
		return err
	}
	s, err := openNew(ctx, dir)
	if err != nil {
		return err
	}
	defer s.Close()
	root := &listed{id: "root"}
	for i, d := range all {
		if _, err := s.Put(ctx, d, set.blobs[i%len(set.blobs)]); err != nil {
			return err
		}
		if i%10 != 0 {
			root.digests = append(root.digests, d)
		}
	}
	if err := s.Commit(ctx); err != nil {
		return err
	}
	c, err := gc.New(gc.Config{Store: s, Roots: root, FS: disk.OS{}, Dir: filepath.Join(dir, "gc")})
	if err != nil {
		return err
	}
	defer c.Close()
	began := time.Now()
	r, err := c.Run(ctx, gc.Options{})
	if err != nil {
		return err
	}
	can := s.Abilities()
	what := fmt.Sprintf("reclaim 10 %% of %d 1 MiB chunks (punch %v, clone %v): %d MB freed in %d ms, copied",
		n, can.Punch, can.Clone, r.RemovedBytes/1e6, time.Since(began).Milliseconds())
	limit := 0.0
	if !can.Punch && !can.Clone {
		limit = float64(n) * (1 << 20)
	}
	b.atMost(what, float64(r.CopiedBytes), "B", limit)
	return nil
}
