package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/node/peers/peerstest"
	"github.com/holdfast-mesh/holdfast/tunnel/tunneltest"
)

const (
	patience = 5 * time.Minute // for what takes seconds
	// line is between any two nodes: 20 ms there and 20 ms back.
	lineDelay = 20 * time.Millisecond
)

// mesh makes nodes in this process that are members of one cluster and do not run,
// but for the first.
func mesh(ctx context.Context, nodes int) (m *peerstest.Mesh, end func() error, err error) {
	dir, err := os.MkdirTemp("", "hf")
	if err != nil {
		return nil, nil, err
	}
	m = peerstest.New(dir, rand.Uint64())
	end = func() error { return errors.Join(m.Close(), os.RemoveAll(dir)) }
	m.Net.Usual(tunneltest.Link{Delay: lineDelay})
	first, err := m.Found(ctx, m.Net.Host("n0", "11.0.0.1"))
	if err == nil {
		err = first.Start()
	}
	if err != nil {
		return nil, nil, errors.Join(err, end())
	}
	_, err = await(ctx, func() string {
		if len(first.Link.Ask()) == 0 || first.Cluster.Group().Status().Leader == "" {
			return "the first node does not lead"
		}
		return ""
	})
	var hosts []*tunneltest.Host
	for i := 1; i < nodes; i++ {
		hosts = append(hosts, m.Net.Host(fmt.Sprint("n", i), fmt.Sprintf("11.0.1.%d", i)))
	}
	if err == nil {
		err = m.Admit(ctx, hosts...)
	}
	if err != nil {
		return nil, nil, errors.Join(err, end())
	}
	return m, end, nil
}

func await(ctx context.Context, apart func() string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return peerstest.Await(ctx, apart)
}

// startAll runs all nodes but the first, at once, and waits until they are one.
func startAll(ctx context.Context, m *peerstest.Mesh) (time.Duration, error) {
	began := time.Now()
	for _, n := range m.Nodes[1:] {
		if err := n.Start(); err != nil {
			return 0, err
		}
	}
	_, err := await(ctx, func() string { return peerstest.Apart(m.Nodes) })
	return time.Since(began), err
}

// crowd measures how long many nodes take to be one.
func crowd(ctx context.Context, nodes int) (err error) {
	m, end, err := mesh(ctx, nodes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	took, err := startAll(ctx, m)
	if err != nil {
		return err
	}
	fmt.Printf("%d nodes: one %.1f s after they were started; at most 30 s is promised\n", nodes, took.Seconds())
	half := m.Nodes[nodes/2:]
	m.Split(half, true)
	alone, err := await(ctx, func() string {
		for _, n := range m.Nodes[:nodes/2] {
			ways := n.Link.Peers()
			for _, o := range half {
				if ways[o.ID].Gossip == "alive" {
					return n.Name + " believes in " + o.Name
				}
			}
		}
		return ""
	})
	if err != nil {
		return err
	}
	if err := sleep(ctx, 30*time.Second); err != nil {
		return err
	}
	m.Split(half, false)
	took, err = await(ctx, func() string { return peerstest.Apart(m.Nodes) })
	if err != nil {
		return err
	}
	fmt.Printf("%d nodes: the halves saw that they were apart after %.1f s, and were one %.1f s after the line was back; at most 30 s is promised\n", nodes, alone.Seconds(), took.Seconds())
	return nil
}

// ejections measures how long all others take to cut a node off.
func ejections(ctx context.Context, nodes, times int) (err error) {
	m, end, err := mesh(ctx, nodes+times)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	if _, err := startAll(ctx, m); err != nil {
		return err
	}
	var all []time.Duration
	left := slices.Clone(m.Nodes)
	for range times {
		i := 1 + rand.IntN(len(left)-1)
		victim := left[i]
		left = slices.Delete(left, i, i+1)
		began := time.Now()
		if err := m.Eject(ctx, left[rand.IntN(len(left))], victim); err != nil {
			return err
		}
		said := time.Since(began)
		_, err := await(ctx, func() string {
			for _, n := range left {
				if what := peerstest.Reaches(n, victim); what != "" {
					return n.Name + " has it in its " + what
				}
			}
			return ""
		})
		if err != nil {
			return err
		}
		took := time.Since(began)
		fmt.Printf("ejected from %d nodes: the ledger had it after %.2f s, all had cut it off after %.2f s\n", len(left), said.Seconds(), took.Seconds())
		all = append(all, took)
	}
	slices.Sort(all)
	fmt.Printf("median %.2f s, most %.2f s; at most 2 s is promised\n", all[len(all)/2].Seconds(), all[len(all)-1].Seconds())
	return nil
}
