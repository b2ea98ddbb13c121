package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/holdfast-mesh/holdfast/tunnel"
	"github.com/holdfast-mesh/holdfast/tunnel/tunneltest"
)

// A lab is two tunnels over a simulated network.
type lab struct {
	net    *tunneltest.Network
	relays *tunneltest.Relays
	a, b   *tunneltest.Host
	left   *tunnel.Tunnel
	right  *tunnel.Tunnel
	stop   func()
}

func newLab(ctx context.Context, l tunneltest.Link) (*lab, error) {
	ctx, cancel := context.WithCancel(ctx)
	x := &lab{net: tunneltest.New(1), relays: tunneltest.NewRelays()}
	x.stop = func() { cancel(); x.relays.Close(); x.net.Close() }
	x.net.Usual(l)
	x.a, x.b = x.net.Host("left", "203.0.113.1"), x.net.Host("right", "203.0.113.2")
	var err error
	on := func(h *tunneltest.Host) func(*tunnel.Config) {
		return func(c *tunnel.Config) {
			c.Listen = netip.MustParseAddrPort("[::]:51820")
			c.ListenUDP, c.Addresses = h.Listen, h.Addresses
			c.Relay = x.relays.For(c.Self)
		}
	}
	if x.left, err = open(ctx, "left", on(x.a)); err != nil {
		return nil, err
	}
	if x.right, err = open(ctx, "right", on(x.b)); err != nil {
		return nil, err
	}
	x.relays.Add("left", x.left)
	x.relays.Add("right", x.right)
	err = errors.Join(
		x.left.SetPeers([]tunnel.Peer{peerOf("right", netip.MustParseAddrPort("203.0.113.2:51820"))}),
		x.right.SetPeers([]tunnel.Peer{peerOf("left", netip.MustParseAddrPort("203.0.113.1:51820"))}))
	return x, err
}

// A flow is streams from left to right that are always full.
type flow struct {
	bytes   atomic.Int64
	last    atomic.Int64 // Unix nanoseconds of the last arrival
	longest atomic.Int64 // nanoseconds between two arrivals
	failed  chan error
}

func (x *lab) fill(ctx context.Context, streams int) (*flow, error) {
	l, err := x.right.Listen(service)
	if err != nil {
		return nil, err
	}
	f := &flow{failed: make(chan error, 2*streams)}
	for range streams {
		c, err := x.left.Dial(ctx, "right", service)
		if err != nil {
			return nil, err
		}
		s, err := l.Accept()
		if err != nil {
			return nil, err
		}
		go f.write(c)
		go f.read(s)
	}
	return f, nil
}

func (f *flow) write(c net.Conn) {
	buf := make([]byte, chunk)
	for {
		if _, err := c.Write(buf); err != nil {
			f.failed <- err
			return
		}
	}
}

func (f *flow) read(c net.Conn) {
	buf := make([]byte, chunk)
	for {
		n, err := c.Read(buf)
		if err != nil {
			if err != io.EOF {
				f.failed <- err
			}
			return
		}
		f.bytes.Add(int64(n))
		now := time.Now().UnixNano()
		if before := f.last.Swap(now); before > 0 && now-before > f.longest.Load() {
			f.longest.Store(now - before)
		}
	}
}

// during returns the rate in Mbit/s and the longest gap for so long.
func (f *flow) during(d time.Duration) (mbit float64, gap time.Duration) {
	f.longest.Store(0)
	bytes, at := f.bytes.Load(), time.Now()
	time.Sleep(d)
	mbit = float64(f.bytes.Load()-bytes) * 8 / 1e6 / time.Since(at).Seconds()
	return mbit, time.Duration(f.longest.Load())
}

// wan is one stream over a long, fast line.
func wan(ctx context.Context, b *bench) error {
	const rate = 1e9
	x, err := newLab(ctx, tunneltest.Link{Delay: 50 * time.Millisecond, Rate: rate, Queue: 8 << 20})
	if err != nil {
		return err
	}
	defer x.stop()
	f, err := x.fill(ctx, 1)
	if err != nil {
		return err
	}
	f.during(4 * time.Second) // slow start
	cpu := cpuTime()
	got, _ := f.during(2 * b.seconds)
	fmt.Printf("100 ms, 1 Gbit/s: both ends and the simulated network used %.2f cores\n", (cpuTime()-cpu).Seconds()/(2*b.seconds).Seconds())
	b.show("100 ms, 1 Gbit/s, no loss, one stream", got, "Mbit/s", ">= 500", got >= 500)
	return nil
}

// loss is many streams over a line that loses packets.
func loss(ctx context.Context, b *bench) error {
	x, err := newLab(ctx, tunneltest.Link{Delay: 20 * time.Millisecond, Rate: 100e6, Loss: 0.01})
	if err != nil {
		return err
	}
	defer x.stop()
	f, err := x.fill(ctx, 16)
	if err != nil {
		return err
	}
	f.during(time.Second)
	got, _ := f.during(2 * b.seconds)
	b.show("40 ms, 100 Mbit/s, 1 % loss, 16 streams", got, "Mbit/s", ">= 35", got >= 35)
	return nil
}

// blackhole takes UDP away, and gives it back.
func blackhole(ctx context.Context, b *bench) error {
	x, err := newLab(ctx, tunneltest.Link{Delay: 10 * time.Millisecond, Rate: 200e6})
	if err != nil {
		return err
	}
	defer x.stop()
	f, err := x.fill(ctx, 2)
	if err != nil {
		return err
	}
	f.during(2 * time.Second)
	line := tunneltest.Link{Delay: 10 * time.Millisecond, Rate: 200e6}
	var away, back []float64
	for range b.rounds {
		x.net.Usual(tunneltest.Link{Down: true})
		_, gap := f.during(5 * time.Second)
		away = append(away, gap.Seconds())
		x.net.Usual(line)
		at := time.Now()
		for x.left.Stats()[0].Path != tunnel.PathDirect || x.right.Stats()[0].Path != tunnel.PathDirect {
			time.Sleep(10 * time.Millisecond)
		}
		back = append(back, time.Since(at).Seconds())
		f.during(2 * time.Second)
	}
	v := maximum(away)
	b.show("UDP blackholed: traffic flows again by relay", v, "s", "<= 3", v <= 3)
	v = maximum(back)
	b.show("UDP back: direct again", v, "s", "<= 3", v <= 3)
	b.show("TCP connections lost", float64(len(f.failed)), "", "0", len(f.failed) == 0)
	return nil
}

func maximum(v []float64) float64 {
	m := v[0]
	for _, x := range v {
		m = max(m, x)
	}
	return m
}

// rotate changes a key under load, at each end in turn.
func rotate(ctx context.Context, b *bench) error {
	x, err := newLab(ctx, tunneltest.Link{Delay: 20 * time.Millisecond, Rate: 100e6})
	if err != nil {
		return err
	}
	defer x.stop()
	f, err := x.fill(ctx, 1)
	if err != nil {
		return err
	}
	f.during(2 * time.Second)
	right := peerOf("right", netip.MustParseAddrPort("203.0.113.2:51820"))
	left := peerOf("left", netip.MustParseAddrPort("203.0.113.1:51820"))
	var with, without []float64
	for range b.rounds {
		_, gap := f.during(1500 * time.Millisecond)
		without = append(without, gap.Seconds())
		key := tunnel.NewPrivateKey()
		left.Keys = append([]tunnel.PublicKey{key.Public()}, left.Keys[0])
		right.Keys = append([]tunnel.PublicKey{tunnel.NewPrivateKey().Public()}, right.Keys[0])
		if err := x.right.SetPeers([]tunnel.Peer{left}); err != nil {
			return err
		}
		if err := x.left.Rotate(key); err != nil {
			return err
		}
		_, gap = f.during(1500 * time.Millisecond)
		with = append(with, gap.Seconds())
	}
	fmt.Printf("longest gap in ms without rotation %.0f, with %.0f (40 ms, 100 Mbit/s, saturated)\n", 1e3*median(without), 1e3*median(with))
	v := median(with) / median(without)
	b.show("key rotation under load: longest gap over the gap without", v, "times", "<= 2", v <= 2)
	b.show("TCP connections lost", float64(len(f.failed)), "", "0", len(f.failed) == 0)
	return nil
}
