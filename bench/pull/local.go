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
	var over, files []float64
	var mib int64
	for range 3 {
		a, err := b.part(ctx, "raw", beside, bytes)
		if err != nil {
			return err
		}
		to, err := b.fresh(ctx, "to")
		if err != nil {
			return err
		}
		to.close()
		p, err := b.part(ctx, "pull", where, b.dir, "to", 32)
		if err != nil {
			return err
		}
		dir := filepath.Join(b.dir, "files")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		c, err := b.part(ctx, "files", beside, bytes, dir)
		if err != nil {
			return err
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		speed := func(r result) float64 { return float64(r.Bytes) / r.Seconds / 1e6 }
		fmt.Printf("loopback: tunnel %.0f MB/s, pull %.0f, files over HTTP %.0f\n", speed(a), speed(p), speed(c))
		over, files = append(over, speed(p)/speed(a)), append(files, speed(p)/speed(c))
		mib = max(mib, p.RSS>>20)
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
	b.show("resident memory of the puller, 32 workers", float64(mib), "MiB", "<= 400", mib <= 400)
	b.show("resident memory of the source", float64(s.RSS>>20), "MiB", "<= 150", s.RSS>>20 <= 150)
	return nil
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
