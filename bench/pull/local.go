package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"
)

// local compares a pull between two processes on loopback with what the tunnel
// itself carries, and with a copy of the same bytes as files; and it looks at
// memory. Sides that are compared take turns.
func local(ctx context.Context, b *bench) error {
	home, err := b.filled(ctx, "home", b.size)
	if err != nil {
		return err
	}
	home.close()
	src, where, err := start(ctx, "source", b.dir, "home")
	if err != nil {
		return err
	}
	defer src.end()
	empty, err := b.fresh(ctx, "empty")
	if err != nil {
		return err
	}
	empty.close()
	plain, beside, err := start(ctx, "source", b.dir, "empty") // what it sends must not count as memory of a source
	if err != nil {
		return err
	}
	defer plain.end()
	bytes := int64(b.size) << 20
	var over, files, copies []float64
	var mib int64
	for range 3 {
		r, err := b.round(ctx, where, beside, bytes)
		if err != nil {
			return err
		}
		fmt.Printf("loopback: tunnel %.0f MB/s, pull %.0f, files over HTTP %.0f, rclone copy at the tunnel's rate %.0f\n", r.tunnel/1e6, r.pull/1e6, r.files/1e6, r.rclone/1e6)
		over, files, mib = append(over, r.pull/r.tunnel), append(files, r.pull/r.files), max(mib, r.rss>>20)
		if r.rclone > 0 {
			copies = append(copies, r.pull/r.rclone)
		}
	}
	src.in.Close()
	s, err := src.result()
	if err != nil {
		return err
	}
	v := median(over)
	b.show("pull on loopback over what the tunnel carries", v, "", ">= 0.85", v >= 0.85)
	v = median(files)
	b.show("pull over files of 4 MiB by HTTP, 4 at a time, through the tunnel", v, "times", "> 1", v > 1)
	if len(copies) > 0 {
		v = median(copies)
		b.show("pull over rclone copy of 4 MiB files at the tunnel's rate", v, "times", "> 1", v > 1)
	} else {
		fmt.Println("there is no rclone here to compare with")
	}
	b.show("resident memory of the puller, 32 workers", float64(mib), "MiB", "<= 400", mib <= 400)
	b.show("resident memory of the source", float64(s.RSS>>20), "MiB", "<= 150", s.RSS>>20 <= 150)
	return nil
}

// A round is each side once, in bytes a second, and what the puller took of memory.
type round struct {
	tunnel, pull, files, rclone float64
	rss                         int64
}

func (b *bench) round(ctx context.Context, where, beside string, bytes int64) (r round, err error) {
	speed := func(r result) float64 { return float64(r.Bytes) / r.Seconds }
	a, err := b.part(ctx, "raw", beside, bytes)
	if err != nil {
		return r, err
	}
	to, err := b.fresh(ctx, "to")
	if err != nil {
		return r, err
	}
	to.close()
	p, err := b.part(ctx, "pull", where, b.dir, "to", 32)
	if err != nil {
		return r, err
	}
	dir := filepath.Join(b.dir, "files")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	c, err := b.part(ctx, "files", beside, bytes, dir)
	if err != nil {
		return r, err
	}
	r = round{tunnel: speed(a), pull: speed(p), files: speed(c), rss: p.RSS}
	r.rclone, err = b.rclone(ctx, bytes, r.tunnel)
	return r, err
}

func median(v []float64) float64 {
	s := slices.Clone(v)
	slices.Sort(s)
	return s[len(s)/2]
}

// part runs a process to its end.
func (b *bench) part(ctx context.Context, words ...any) (result, error) {
	p, _, err := start(ctx, words...)
	if err != nil {
		return result{}, err
	}
	defer p.end()
	return p.result()
}

// killed is a puller that is killed 20 times. What it received more than once is
// counted: all that its processes read, over the content that there is. So what
// they were told beside it counts as well.
func killed(ctx context.Context, b *bench) error {
	home, err := b.filled(ctx, "home", b.size)
	if err != nil {
		return err
	}
	defer home.close()
	gate, err := newGate(ctx, home)
	if err != nil {
		return err
	}
	defer gate.close()
	count := filepath.Join(b.dir, "count")
	os.Setenv(counts, count)
	defer os.Unsetenv(counts)
	read, err := sharedCounter(count)
	if err != nil {
		return err
	}
	if err := b.killTwenty(ctx, gate, read); err != nil {
		return err
	}
	whole := int64(b.size) << 20
	twice := float64(read.Load()-whole) / float64(whole)
	fmt.Printf("killed 20 times during %d MiB: %.0f KiB a kill were read twice, or are no content\n", b.size, float64(read.Load()-whole)/20/(1<<10))
	b.show("killed 20 times: bytes fetched twice, of all", twice, "", "<= 0.01", twice <= 0.01)
	return nil
}

// killTwenty pulls everything, and is killed twenty times meanwhile.
func (b *bench) killTwenty(ctx context.Context, gate *gate, read *atomic.Int64) error {
	to, err := b.fresh(ctx, "to")
	if err != nil {
		return err
	}
	to.close()
	const kills, perSecond = 20, 40 // MiB
	os.Setenv(slowed, fmt.Sprint(perSecond))
	defer os.Unsetenv(slowed)
	for range kills {
		p, _, err := start(ctx, "pull", gate.where(), b.dir, "to", 8)
		if err != nil {
			return err
		}
		// Not by the clock, which says nothing on a busy machine: after about as much as
		// is its share, at any byte.
		share := int64(b.size) << 20 / (kills + 1)
		until := read.Load() + share/2 + rand.Int64N(share)
		for read.Load() < until && ctx.Err() == nil && p.cmd.ProcessState == nil {
			time.Sleep(time.Millisecond)
			if read.Load() >= int64(b.size)<<20 {
				break
			}
		}
		_ = p.cmd.Process.Kill()
		p.end()
	}
	os.Unsetenv(slowed)
	_, err = b.part(ctx, "pull", gate.where(), b.dir, "to", 8)
	return err
}
