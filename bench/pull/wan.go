package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/replication/rate"
	"github.com/holdfast-mesh/holdfast/tunnel/tunneltest"
)

// content is the share of a line that content can have: a full packet has 1280
// bytes of which 1208 are of a stream, and 60 more around it.
const content = 1208.0 / 1340

// fresh makes an empty site, and an old one of that name goes.
func (b *bench) fresh(ctx context.Context, name string) (*site, error) {
	if err := os.RemoveAll(filepath.Join(b.dir, name)); err != nil {
		return nil, err
	}
	return newSite(ctx, b.dir, name, nil)
}

// filled makes a site of so many MiB.
func (b *bench) filled(ctx context.Context, name string, mib int) (*site, error) {
	s, err := b.fresh(ctx, name)
	if err == nil {
		err = s.fill(ctx, mib)
	}
	return s, err
}

// over pulls b.size MiB over a line and returns bytes a second.
func (b *bench) over(ctx context.Context, x *lab, sources, workers int) (float64, error) {
	to, err := b.fresh(ctx, "to")
	if err != nil {
		return 0, err
	}
	defer to.close()
	start := time.Now()
	r, err := x.pull(to, sources, workers, nil)
	if err == nil && r.Swarm.Fetched != int64(b.size/4) {
		err = fmt.Errorf("%d chunks came, want %d", r.Swarm.Fetched, b.size/4)
	}
	return float64(r.Swarm.Bytes) / time.Since(start).Seconds(), err
}

// line is one source over a long line without loss.
func line(ctx context.Context, b *bench) error {
	home, err := b.filled(ctx, "home", b.size)
	if err != nil {
		return err
	}
	defer home.close()
	const mbit = 200e6
	x, err := newLab(ctx, tunneltest.Link{Delay: 75 * time.Millisecond, Rate: mbit, Queue: mbit / 8 * 150 / 1000}, home)
	if err != nil {
		return err
	}
	defer x.stop()
	got, err := b.over(ctx, x, 1, 4)
	if err != nil {
		return err
	}
	share := got * 8 / mbit
	fmt.Printf("150 ms, 200 Mbit/s: %.1f MB/s, %.3f of the line, %.3f of what content can have of it\n", got/1e6, share, share/content)
	b.show("150 ms, 200 Mbit/s, one source: share of what the line can carry", share/content, "", ">= 0.9", share/content >= 0.9)
	return nil
}

// loss is the same line with loss, against one TCP stream.
func loss(ctx context.Context, b *bench) error {
	home, err := b.filled(ctx, "home", b.size)
	if err != nil {
		return err
	}
	defer home.close()
	x, err := newLab(ctx, tunneltest.Link{Delay: 75 * time.Millisecond, Rate: 200e6, Queue: 200e6 / 8 * 150 / 1000, Loss: 0.005}, home)
	if err != nil {
		return err
	}
	defer x.stop()
	one, err := x.stream(20 * time.Second)
	if err != nil {
		return err
	}
	whole := b.size
	b.size = max(b.size/8, 64) // it takes long enough
	defer func() { b.size = whole }()
	small, err := b.filled(ctx, "home2", b.size)
	if err != nil {
		return err
	}
	defer small.close()
	y, err := newLab(ctx, tunneltest.Link{Delay: 75 * time.Millisecond, Rate: 200e6, Queue: 200e6 / 8 * 150 / 1000, Loss: 0.005}, small)
	if err != nil {
		return err
	}
	defer y.stop()
	got, err := b.over(ctx, y, 1, 4)
	if err != nil {
		return err
	}
	fmt.Printf("150 ms, 0.5 %% loss: %.2f MB/s, one TCP stream %.2f MB/s\n", got/1e6, one/1e6)
	b.show("150 ms, 0.5 % loss, one source: over one TCP stream", got/one, "times", ">= 6", got/one >= 6)
	return nil
}

// sources are two and three sources with a line each, against one.
func sources(ctx context.Context, b *bench) error {
	var sites []*site
	for _, name := range []string{"home", "dc", "third"} {
		s, err := b.filled(ctx, name, b.size/2)
		if err != nil {
			return err
		}
		defer s.close()
		sites = append(sites, s)
	}
	x, err := newLab(ctx, tunneltest.Link{Delay: 20 * time.Millisecond, Rate: 100e6}, sites...)
	if err != nil {
		return err
	}
	defer x.stop()
	whole := b.size
	b.size /= 2
	defer func() { b.size = whole }()
	var got [4]float64
	for n := 1; n <= 3; n++ {
		if got[n], err = b.over(ctx, x, n, 4); err != nil {
			return err
		}
		fmt.Printf("%d sources of 100 Mbit/s, 40 ms: %.2f MB/s\n", n, got[n]/1e6)
	}
	b.show("two sources over one", got[2]/got[1], "times", ">= 1.85", got[2]/got[1] >= 1.85)
	b.show("three sources over one", got[3]/got[1], "times", ">= 2.7", got[3]/got[1] >= 2.7)
	return nil
}

// limited is a limit of a job, shared by its streams.
func limited(ctx context.Context, b *bench) error {
	home, err := b.filled(ctx, "home", 720)
	if err != nil {
		return err
	}
	defer home.close()
	x, err := newLab(ctx, tunneltest.Link{}, home)
	if err != nil {
		return err
	}
	defer x.stop()
	to, err := b.fresh(ctx, "to")
	if err != nil {
		return err
	}
	defer to.close()
	const limit, burst = 20 << 20, 1 << 20
	x.bytes.Store(0)
	in := rate.New(nil, rate.Fixed(rate.Limit{Rate: limit, Burst: burst}))
	var at30 int64
	timer := time.AfterFunc(30*time.Second, func() { at30 = x.bytes.Load() })
	defer timer.Stop()
	if _, err := x.pull(to, 1, 8, in); err != nil {
		return err
	}
	v := float64(at30-burst) / (30 * limit)
	b.show("limit of 20 MiB/s, 8 workers, 30 s, burst taken off: of the limit", v, "", "0.97-1.03", v >= 0.97 && v <= 1.03)
	return nil
}

// idle is a pull that finds nothing new.
func idle(ctx context.Context, b *bench) error {
	home, err := newSite(ctx, "/", "home", disktest.NewMem())
	if err != nil {
		return err
	}
	defer home.close()
	to, err := newSite(ctx, "/", "to", disktest.NewMem())
	if err != nil {
		return err
	}
	defer to.close()
	for g := range 1000 {
		for n := range 10 {
			if err := home.backUp(ctx, snapshot(fmt.Sprintf("vm/%d", 100+g), n), 1000, series(g%50, 2)); err != nil {
				return err
			}
		}
	}
	x, err := newLab(ctx, tunneltest.Link{}, home)
	if err != nil {
		return err
	}
	defer x.stop()
	if _, err := x.pull(to, 1, 8, nil); err != nil {
		return err
	}
	x.net.Usual(tunneltest.Link{Delay: 75 * time.Millisecond, Rate: 200e6})
	x.bytes.Store(0)
	start := time.Now()
	r, err := x.pull(to, 1, 8, nil)
	if err != nil {
		return err
	}
	if r.Pulled > 0 || r.Skipped != 10_000 {
		return fmt.Errorf("a pull that finds nothing new: %+v", r)
	}
	v := time.Since(start).Seconds()
	b.show("nothing new, 10,000 snapshots, 150 ms", v, "s", "<= 3", v <= 3)
	v = float64(x.bytes.Load()) / (1 << 20)
	b.show("the same: bytes exchanged", v, "MiB", "<= 1", v <= 1)
	return nil
}

// small is many small snapshots over a long line.
func small(ctx context.Context, b *bench) error {
	home, err := b.fresh(ctx, "home")
	if err != nil {
		return err
	}
	defer home.close()
	for g := range 10 {
		for n := range 3 {
			if err := home.backUp(ctx, snapshot(fmt.Sprintf("ct/%d", 100+g), n), 100_000, series(3*(3*g+n), 3)); err != nil {
				return err
			}
		}
	}
	x, err := newLab(ctx, tunneltest.Link{Delay: 75 * time.Millisecond, Rate: 200e6}, home)
	if err != nil {
		return err
	}
	defer x.stop()
	to, err := b.fresh(ctx, "to")
	if err != nil {
		return err
	}
	defer to.close()
	start := time.Now()
	r, err := x.pull(to, 1, 4, nil)
	if err == nil && r.Pulled != 30 {
		err = fmt.Errorf("%d snapshots came, want 30", r.Pulled)
	}
	v := time.Since(start).Seconds()
	b.show("30 new snapshots of 300 KB in 10 groups, 150 ms (PBS: 32)", v, "s", "<= 4", v <= 4)
	return err
}

// changed is a pull of the second backup of an image of which little changed.
func changed(ctx context.Context, b *bench) error {
	home, err := b.filled(ctx, "home", b.size/2)
	if err != nil {
		return err
	}
	defer home.close()
	x, err := newLab(ctx, tunneltest.Link{Delay: 5 * time.Millisecond, Rate: 1e9}, home)
	if err != nil {
		return err
	}
	defer x.stop()
	to, err := b.fresh(ctx, "to")
	if err != nil {
		return err
	}
	defer to.close()
	if _, err := x.pull(to, 1, 4, nil); err != nil {
		return err
	}
	seeds := series(0, b.size/8)
	for i := 0; i < len(seeds); i += 50 {
		seeds[i] += 1 << 20
	}
	if err := home.backUp(ctx, snapshot("vm/100", 1), 4<<20, seeds); err != nil {
		return err
	}
	x.bytes.Store(0)
	r, err := x.pull(to, 1, 4, nil)
	if err != nil {
		return err
	}
	v := float64(x.bytes.Load()) / float64(r.Swarm.Bytes)
	b.show(fmt.Sprintf("2 %% changed (%d chunks): bytes on the wire over missing blobs", r.Swarm.Fetched), v, "", "<= 1.03", v <= 1.03)
	return nil
}
