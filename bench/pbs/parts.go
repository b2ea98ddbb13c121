package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
)

// tls measures the benchmark of the protocol against a TLS connection with
// nothing in it.
func (b *bench) tls(ctx context.Context) error {
	const store = "tls-test"
	if err := b.node.create(ctx, store); err != nil {
		return err
	}
	var best, against, ratio float64
	for range b.rounds {
		rate, _, err := raw()
		if err != nil {
			return err
		}
		out, err := b.node.client(ctx, b.node.addr, store, "benchmark", "--output-format", "json").Output()
		if err != nil {
			return err
		}
		var ours struct{ TLS struct{ Speed float64 } }
		if err := json.Unmarshal(out, &ours); err != nil {
			return err
		}
		best, against, ratio = max(best, ours.TLS.Speed), max(against, rate), max(ratio, ours.TLS.Speed/rate)
	}
	b.row("upload through TLS, of one connection", best/1e6, against/1e6, "MB/s", ratio, ">= 0.8", ratio >= 0.8)
	return b.node.remove(ctx, store)
}

// source returns what to back up.
func (b *bench) source(what string) string {
	if what == "image" {
		return "image.img:" + b.path("image")
	}
	return "tree.pxar:" + b.path("tree")
}

// size returns the MiB of a source.
func (b *bench) size(what string) int {
	if what == "image" {
		return b.imgN
	}
	return b.treeN
}

// backup backs a tree and an image up, twice each.
func (b *bench) backup(ctx context.Context) error {
	for _, what := range []string{"tree", "image"} {
		var ours, theirs [2]costs
		for range b.rounds {
			if err := b.backupRound(ctx, what, &ours, &theirs); err != nil {
				return err
			}
		}
		first, _, err := b.limit(what)
		if err != nil {
			return err
		}
		b.compare("first backup of the "+what, ours[0], theirs[0], b.size(what), first)
		b.compare("unchanged backup of the "+what, ours[1], theirs[1], b.size(what), 0)
	}
	return nil
}

func (b *bench) backupRound(ctx context.Context, what string, ours, theirs *[2]costs) error {
	const store, local = "round", "direct"
	if err := errors.Join(b.node.create(ctx, store), b.makeLocal(ctx, local)); err != nil {
		return err
	}
	for i := range 2 {
		args := []string{"backup", "--backup-id", what, "--backup-time", fmt.Sprint(1_700_000_000 + i), b.source(what)}
		err := errors.Join(
			timed(&theirs[i], nil, b.direct(ctx, b.path(local), args...)),
			timed(&ours[i], b.node, b.node.client(ctx, b.node.addr, store, args...)),
		)
		if err != nil {
			return err
		}
	}
	return errors.Join(b.node.remove(ctx, store), os.RemoveAll(b.path(local)))
}

// makeLocal makes a store that no node has.
func (b *bench) makeLocal(ctx context.Context, name string) error {
	text, err := b.direct(ctx, b.path(name), "datastore", "init", b.path(name)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("make the store %s: %w: %s", name, err, text)
	}
	return nil
}

// restore restores a tree and an image.
func (b *bench) restore(ctx context.Context) error {
	const store, local = "restore", "direct"
	if err := errors.Join(b.node.create(ctx, store), b.makeLocal(ctx, local)); err != nil {
		return err
	}
	for _, what := range []string{"tree", "image"} {
		var ours, theirs, once costs
		args := []string{"backup", "--backup-id", what, b.source(what)}
		err := errors.Join(
			timed(&once, nil, b.direct(ctx, b.path(local), args...)),
			timed(&once, nil, b.node.client(ctx, b.node.addr, store, args...)),
		)
		if err != nil {
			return err
		}
		args = []string{"restore", "host/" + what, archive(what), b.path("restored")}
		for range b.rounds {
			err := errors.Join(
				timed(&theirs, nil, b.direct(ctx, b.path(local), args...)), os.RemoveAll(b.path("restored")),
				timed(&ours, b.node, b.node.client(ctx, b.node.addr, store, args...)), os.RemoveAll(b.path("restored")),
			)
			if err != nil {
				return err
			}
		}
		_, fetch, err := b.limit(what)
		if err != nil {
			return err
		}
		b.compare("restore of the "+what, ours, theirs, b.size(what), fetch)
	}
	return errors.Join(b.node.remove(ctx, store), os.RemoveAll(b.path(local)))
}

// archive returns what the archive of a source is called.
func archive(what string) string {
	return map[string]string{"tree": "tree.pxar", "image": "image.img"}[what]
}

// many makes 16 incremental backups at the same time.
func (b *bench) many(ctx context.Context) error {
	const n, limit, store = 16, 48, "many"
	if err := b.node.create(ctx, store); err != nil {
		return err
	}
	backup := func(ctx context.Context, id, what string) error {
		var ignored costs
		return timed(&ignored, nil, b.node.client(ctx, b.node.addr, store, "backup", "--backup-id", id, b.source(what)))
	}
	if err := errors.Join(backup(ctx, "one", "image"), backup(ctx, "two", "tree")); err != nil {
		return err
	}
	for _, what := range []string{"first of known data", "incremental"} {
		before, err := b.node.memory("VmRSS")
		if err != nil {
			return err
		}
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", b.node.cmd.Process.Pid), []byte("5"), 0); err != nil {
			return err
		}
		began := time.Now()
		g, ctx := errgroup.WithContext(ctx)
		for i := range n {
			g.Go(func() error { return backup(ctx, fmt.Sprint("c", i), []string{"image", "tree"}[i%2]) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
		took := time.Since(began)
		peak, err := b.node.memory("VmHWM")
		if err != nil {
			return err
		}
		each := float64(peak-before) / n / (1 << 20)
		b.row(fmt.Sprintf("memory of each of 16 backups at once, %s (%.1f s)", what, took.Seconds()), each, limit, "MiB", each/limit, "<= 48 MiB", each <= limit)
	}
	return b.node.remove(ctx, store)
}

// far restores a tree over a line with a round trip of 150 ms.
func (b *bench) far(ctx context.Context) error {
	const limit, store = 4, "far-away"
	if err := b.node.create(ctx, store); err != nil {
		return err
	}
	line, err := newLine(b.node.addr, 75*time.Millisecond)
	if err != nil {
		return err
	}
	defer line.Close()
	var took, once costs
	if err := timed(&once, nil, b.node.client(ctx, b.node.addr, store, "backup", "--backup-id", "tree", b.source("tree"))); err != nil {
		return err
	}
	for range b.rounds {
		restore := b.node.client(ctx, line.Addr().String(), store, "restore", "host/tree", archive("tree"), b.path("restored"))
		if err := errors.Join(timed(&took, b.node, restore), os.RemoveAll(b.path("restored"))); err != nil {
			return err
		}
	}
	o := took.best()
	b.row(fmt.Sprintf("restore of the tree of %d MiB at a round trip of 150 ms", b.treeN), o, limit, "s", o/limit, "<= 4 s", o <= limit)
	return b.node.remove(ctx, store)
}
