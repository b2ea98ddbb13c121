package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/catalog"
)

// tls measures the benchmark of the protocol against a TLS connection with
// nothing in it.
func (b *bench) tls(ctx context.Context) error {
	s, err := b.start("tls")
	if err != nil {
		return err
	}
	defer s.stop()
	c, err := s.client(nil)
	if err != nil {
		return err
	}
	const d = 2 * time.Second
	var ours, raw, ratio float64
	least := [2]float64{math.Inf(1), math.Inf(1)} // processor seconds for each byte: ours, raw
	for range b.rounds {
		began := s.used() + used()
		r, err := s.raw(d)
		if err != nil {
			return err
		}
		between := s.used() + used()
		o, err := c.Benchmark(ctx, d)
		if err != nil {
			return err
		}
		least[0] = min(least[0], (s.used()+used()-between).Seconds()/o)
		least[1] = min(least[1], (between-began).Seconds()/r)
		ours, raw, ratio = max(ours, o/1e6), max(raw, r/1e6), max(ratio, o/r)
	}
	b.row("upload through TLS, of one connection", ours, raw, "MB/s", ratio, ">= 0.8", ratio >= 0.8)
	fmt.Fprintf(b.out, "  processors\t%.2f ms/MB\t%.2f ms/MB\t%.2f\t\t\n", least[0]*1e9/d.Seconds(), least[1]*1e9/d.Seconds(), least[1]/least[0])
	return nil
}

// raw fills a TLS connection and returns bytes per second.
func (s *server) raw(d time.Duration) (float64, error) {
	conn, err := tls.Dial("tcp", s.Sink, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	data := make([]byte, 4<<20)
	sent, began := 0, time.Now()
	for time.Since(began) < d {
		n, err := conn.Write(data)
		if err != nil {
			return 0, err
		}
		sent += n
	}
	return float64(sent) / time.Since(began).Seconds(), nil
}

// backup backs a tree and an image up, twice each.
func (b *bench) backup(ctx context.Context) error {
	for _, what := range []string{"tree", "image"} {
		var ours, theirs [2]costs
		for round := range b.rounds {
			if err := b.backupRound(ctx, fmt.Sprint(what, round), what, &ours, &theirs); err != nil {
				return err
			}
		}
		for i, when := range []string{"first", "unchanged"} {
			b.compare(fmt.Sprintf("%s backup of the %s", when, what), ours[i], theirs[i], b.size(what))
		}
	}
	return nil
}

func (b *bench) backupRound(ctx context.Context, name, what string, ours, theirs *[2]costs) error {
	s, err := b.start(name)
	if err != nil {
		return err
	}
	defer os.RemoveAll(b.path(name))
	defer s.stop()
	c, err := s.client(nil)
	if err != nil {
		return err
	}
	defer c.Close()
	d, err := openStore(ctx, b.path(name, "direct"))
	if err != nil {
		return err
	}
	defer d.Close()
	for i := range 2 {
		snap := b.next(what)
		err := errors.Join(
			timed(&theirs[i], nil, func() error { return direct(ctx, d, snap, b.source(what)) }),
			timed(&ours[i], s, func() error { return remote(ctx, c, snap, b.source(what)) }),
		)
		if err != nil {
			return err
		}
	}
	return nil
}

// restore restores a tree and an image.
func (b *bench) restore(ctx context.Context) error {
	for _, what := range []string{"tree", "image"} {
		s, err := b.start("restore-" + what)
		if err != nil {
			return err
		}
		defer s.stop()
		d, err := openStore(ctx, b.path("restore-"+what, "direct"))
		if err != nil {
			return err
		}
		defer d.Close()
		var ours, theirs costs
		if err := b.restoreBoth(ctx, s, d, what, &ours, &theirs); err != nil {
			return err
		}
		b.compare("restore of the "+what, ours, theirs, b.size(what))
	}
	return nil
}

func (b *bench) restoreBoth(ctx context.Context, s *server, d *catalog.Datastore, what string, ours, theirs *costs) error {
	c, err := s.client(nil)
	if err != nil {
		return err
	}
	defer c.Close()
	snap := b.next(what)
	if err := errors.Join(direct(ctx, d, snap, b.source(what)), remote(ctx, c, snap, b.source(what))); err != nil {
		return err
	}
	for range b.rounds {
		local, err := d.OpenSnapshot(ctx, "", snap)
		if err != nil {
			return err
		}
		err = b.fetch(ctx, local, nil, what, theirs)
		local.Close()
		if err != nil {
			return err
		}
		far, err := c.OpenSnapshot(ctx, "", snap)
		if err != nil {
			return err
		}
		if err := errors.Join(b.fetch(ctx, far, s, what, ours), far.Close()); err != nil {
			return err
		}
	}
	return nil
}

// many makes 16 incremental backups at the same time.
func (b *bench) many(ctx context.Context) error {
	const n, limit = 16, 48
	s, err := b.start("many")
	if err != nil {
		return err
	}
	defer s.stop()
	all := func() error {
		g, ctx := errgroup.WithContext(ctx)
		for i := range n {
			snap, src := b.next(fmt.Sprint("c", i)), b.source([]string{"image", "tree"}[i%2])
			g.Go(func() error {
				c, err := s.client(nil)
				if err != nil {
					return err
				}
				defer c.Close()
				return remote(ctx, c, snap, src)
			})
		}
		return g.Wait()
	}
	c, err := s.client(nil)
	if err != nil {
		return err
	}
	if err := errors.Join(remote(ctx, c, b.next("one"), b.source("image")), remote(ctx, c, b.next("two"), b.source("tree"))); err != nil {
		return err
	}
	for _, what := range []string{"first of known data", "incremental"} {
		before, err := s.memory("VmRSS")
		if err != nil {
			return err
		}
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.cmd.Process.Pid), []byte("5"), 0); err != nil {
			return err
		}
		began := time.Now()
		if err := all(); err != nil {
			return err
		}
		took := time.Since(began)
		peak, err := s.memory("VmHWM")
		if err != nil {
			return err
		}
		each := float64(peak-before) / n / (1 << 20)
		b.row(fmt.Sprintf("memory of each of 16 backups at once, %s (%.1f s)", what, took.Seconds()), each, limit, "MiB", each/limit, "<= 48 MiB", each <= limit)
	}
	return nil
}

// far restores a tree over a line with a round trip of 150 ms.
func (b *bench) far(ctx context.Context) error {
	const limit = 4
	s, err := b.start("far")
	if err != nil {
		return err
	}
	defer s.stop()
	near, err := s.client(nil)
	if err != nil {
		return err
	}
	snap := b.next("tree")
	if err := remote(ctx, near, snap, b.source("tree")); err != nil {
		return err
	}
	c, err := s.client(func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return newDistant(conn, 75*time.Millisecond), nil
	})
	if err != nil {
		return err
	}
	defer c.Close()
	var took costs
	for range b.rounds {
		origin, err := c.OpenSnapshot(ctx, "", snap)
		if err != nil {
			return err
		}
		if err := errors.Join(b.fetch(ctx, origin, s, "tree", &took), origin.Close()); err != nil {
			return err
		}
	}
	o := took.best()
	b.row(fmt.Sprintf("restore of the tree of %d MiB at a round trip of 150 ms", b.treeN), o, limit, "s", o/limit, "<= 4 s", o <= limit)
	return nil
}
