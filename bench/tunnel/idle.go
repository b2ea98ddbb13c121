package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/tunnel"
)

const (
	idlePeers = 200
	nextKey   = "hub, later" // that the hub changes to
)

// idle measures one node with many peers that it has talked to, and does not
// any more. The peers live in another process.
func idle(ctx context.Context, b *bench) error {
	peers, where, err := start(ctx, b, fmt.Sprintf("peers %d", idlePeers))
	if err != nil {
		return err
	}
	defer peers.end()
	hub, _, err := start(ctx, b, "hub "+where)
	if err != nil {
		return err
	}
	defer hub.end()
	r, err := hub.result()
	if err != nil {
		return err
	}
	heap := float64(r.Heap) / (1 << 20)
	b.show(fmt.Sprintf("%d idle peers: heap", idlePeers), heap, "MiB", "<= 25", heap <= 25)
	rotating := float64(r.HeapRotating) / (1 << 20)
	fmt.Printf("%d idle peers: heap while our key changes %.1f MiB, for three minutes\n", idlePeers, rotating)
	cpu := 100 * r.CPU / r.Seconds
	b.show(fmt.Sprintf("%d idle peers: processor", idlePeers), cpu, "% of a core", "<= 0.5", cpu <= 0.5)
	fmt.Printf("%d idle peers: resident %d MiB\n", idlePeers, r.RSS>>20)
	return nil
}

func peerName(i int) string { return fmt.Sprintf("peer%03d", i) }

// playPeers runs many tunnels that know the hub.
func playPeers(ctx context.Context, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	var where []string
	for i := range n {
		t, err := open(ctx, peerName(i), nil)
		if err != nil {
			return err
		}
		hub := peerOf("hub")
		hub.Keys = append([]tunnel.PublicKey{keyOf(nextKey).Public()}, hub.Keys...)
		if err := t.SetPeers([]tunnel.Peer{hub}); err != nil {
			return err
		}
		l, err := t.Listen(service)
		if err != nil {
			return err
		}
		go func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				c.Close()
			}
		}()
		where = append(where, t.LocalAddr().String())
	}
	if err := say(strings.Join(where, ",")); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// playHub talks to each peer once, and then to none.
func playHub(ctx context.Context, where string, b *bench) error {
	if err := say("ready"); err != nil {
		return err
	}
	before := heap()
	t, err := open(ctx, "hub", nil)
	if err != nil {
		return err
	}
	var table []tunnel.Peer
	for i, w := range strings.Split(where, ",") {
		at, err := netip.ParseAddrPort(w)
		if err != nil {
			return err
		}
		table = append(table, peerOf(peerName(i), at))
	}
	if err := t.SetPeers(table); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(20)
	for _, p := range table {
		g.Go(func() error {
			c, err := t.Dial(gctx, p.ID, service)
			if err != nil {
				return err
			}
			return c.Close()
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	direct := 0
	for _, s := range t.Stats() {
		if s.Path == tunnel.PathDirect {
			direct++
		}
	}
	if direct < idlePeers {
		return errors.New(fmt.Sprint(direct, " of the peers have a direct path"))
	}
	select { // until WireGuard's keepalives are over and the peers are not in use
	case <-time.After(22 * time.Second):
	case <-ctx.Done():
		return nil
	}
	var r result
	err = b.profiled("idle", func() error {
		m := begin()
		time.Sleep(20 * time.Second)
		m.end(&r)
		return nil
	})
	if err != nil {
		return err
	}
	r.Heap = heap() - before
	if err := t.Rotate(keyOf(nextKey)); err != nil {
		return err
	}
	time.Sleep(2 * time.Second)
	r.HeapRotating = heap() - before
	if err := say(r); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
