package main

import (
	"context"
	"fmt"
)

// A rate is what one carrier reached in one round.
type rate struct {
	perSecond, perCore float64 // MB
	rss                int64
}

// speed compares one stream by the tunnel with one by wireguard-go's own
// network stack, by QUIC of libp2p, and by plain TCP.
func speed(ctx context.Context, b *bench) error {
	names := []string{"holdfast", "wireguard", "quic", "tcp"}
	all := map[string][]rate{}
	for range b.rounds {
		for _, name := range names {
			r, err := measure(ctx, b, name)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			all[name] = append(all[name], r)
		}
	}
	fmt.Printf("one stream between two processes, median of %d rounds\n", b.rounds)
	for _, name := range names {
		fmt.Printf("  %-10s %8.0f MB/s %8.0f MB per core-second %6d MiB resident (the larger side)\n", name,
			pick(all[name], rate.second), pick(all[name], rate.core), int(pick(all[name], rate.mib)))
	}
	over := func(other string, of func(rate) float64) float64 {
		var ratios []float64
		for i, r := range all["holdfast"] {
			ratios = append(ratios, of(r)/of(all[other][i]))
		}
		return median(ratios)
	}
	v := over("wireguard", rate.second)
	b.show("one stream, MB/s, over wireguard-go's own netstack", v, "times", ">= 2", v >= 2)
	v = over("wireguard", rate.core)
	b.show("MB per core-second, over wireguard-go's own netstack", v, "times", ">= 2", v >= 2)
	v = over("quic", rate.core)
	b.show("MB per core-second, over a libp2p QUIC stream", v, "times", ">= 0.7", v >= 0.7)
	v = pick(all["holdfast"], rate.mib)
	b.show("resident memory at full load", v, "MiB", "<= 160", v <= 160)
	return nil
}

func (r rate) second() float64 { return r.perSecond }
func (r rate) core() float64   { return r.perCore }
func (r rate) mib() float64    { return float64(r.rss >> 20) }

func pick(all []rate, of func(rate) float64) float64 {
	var v []float64
	for _, r := range all {
		v = append(v, of(r))
	}
	return median(v)
}

// measure runs one stream by a carrier.
func measure(ctx context.Context, b *bench, name string) (rate, error) {
	to, where, err := start(ctx, b, "receive "+name)
	if err != nil {
		return rate{}, err
	}
	defer to.end()
	from, _, err := start(ctx, b, "send "+name+" "+where)
	if err != nil {
		return rate{}, err
	}
	defer from.end()
	sent, err := from.result()
	if err != nil {
		return rate{}, err
	}
	got, err := to.result()
	if err != nil {
		return rate{}, err
	}
	if sent.Bytes != got.Bytes {
		return rate{}, fmt.Errorf("sent %d bytes, received %d", sent.Bytes, got.Bytes)
	}
	mb := float64(sent.Bytes) / 1e6
	return rate{mb / sent.Seconds, mb / (sent.CPU + got.CPU), max(sent.RSS, got.RSS)}, nil
}
