package consensus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast-mesh/holdfast/consensus"
)

// An attacker speaks raft from a place of the network.
type attacker struct {
	net.Listener
	net       consensus.Network
	introduce func(net.Conn) error
}

func (a attacker) Dial(to raft.ServerAddress, _ time.Duration) (net.Conn, error) {
	conn, err := a.net.Dial(context.Background(), string(to), consensus.ServiceRaft)
	if err == nil && a.introduce != nil {
		if err = a.introduce(conn); err != nil {
			conn.Close()
		}
	}
	return conn, err
}

// forged is an AppendEntries that overwrites history.
func forged(name string, term uint64) *raft.AppendEntriesRequest {
	return &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte(name), Addr: []byte(name)}, Term: term,
		Entries:           []*raft.Log{{Index: 1, Term: term, Type: raft.LogCommand, Data: append([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0}, "forged"...)}},
		LeaderCommitIndex: 1,
	}
}

// The library obeys an AppendEntries of somebody who is in no configuration.
// If this test fails, it has learned to ask, and the gate is a second lock.
func TestLibraryObeysStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		addr, trans := raft.NewInmemTransport("victim")
		cfg := raft.DefaultConfig()
		cfg.LocalID, cfg.LogLevel = "victim", "OFF"
		store := raft.NewInmemStore()
		snaps := raft.NewInmemSnapshotStore()
		servers := raft.Configuration{Servers: []raft.Server{{ID: "victim", Address: "victim"}, {ID: "b", Address: "b"}, {ID: "c", Address: "c"}}}
		if err := raft.BootstrapCluster(cfg, store, store, snaps, trans, servers); err != nil {
			t.Fatal(err)
		}
		fsm := &raft.MockFSM{}
		r, err := raft.NewRaft(cfg, fsm, store, store, snaps, trans)
		if err != nil {
			t.Fatal(err)
		}
		_, stranger := raft.NewInmemTransport("x")
		stranger.Connect(addr, trans)
		var resp raft.AppendEntriesResponse
		if err := stranger.AppendEntries("victim", addr, forged("x", 1<<40), &resp); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if !resp.Success || len(fsm.Logs()) != 1 {
			t.Errorf("it does not obey: %+v, %q", resp, fsm.Logs())
		}
		if err := r.Shutdown().Error(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestStrangersAreRefused(t *testing.T) {
	all := []string{"+a", "+b", "+c"}
	tests := []struct {
		name   string
		from   string // node, as the network knows it
		hello  func(net.Conn) error
		header string
		term   uint64
		want   string // in the error
	}{
		{"who is no member", "x", introduce(1, all...), "x", 9, "x may not vote"},
		{"who is no member and says it is", "x", introduce(1, append(all, "forged", "+x")...), "x", 9, ""},
		{"who is no member, in the name of one", "x", introduce(1, all...), "a", 9, "x may not vote"},
		{"a member without a vote", "d", introduce(1, append(all, "-d")...), "d", 9, "may not vote"},
		{"an old incarnation", "b", introduce(0, all...), "b", 9, "incarnation 0 of this cluster has ended"},
		{"a stranger by our chain, of another branch", "x", introduce(1, "+a", "+b", "+x"), "x", 9, "x may not vote"},
		{"who does not say hello", "b", nil, "b", 9, ""},
		{"a voter with a term out of nowhere", "b", introduce(1, all...), "b", 1 << 40, "too far ahead"},
		{"a voter in the name of a stranger", "b", introduce(1, all...), "x", 9, "x may not vote"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 1, 3)
				c.start()
				defer c.end()
				c.form(3)
				if err := c.nodes[0].submit("true"); err != nil {
					t.Fatal(err)
				}
				if tt.from == "b" {
					c.nodes[1].crash()
				}
				view := c.net.Node(tt.from)
				l, _ := view.Listen(1)
				trans := raft.NewNetworkTransport(attacker{l, view, tt.hello}, 1, 10*time.Second, &bytes.Buffer{})
				defer trans.Close()
				var resp raft.AppendEntriesResponse
				err := trans.AppendEntries("c", "c", forged(tt.header, tt.term), &resp)
				if err == nil || !strings.Contains(err.Error(), tt.want) || resp.Success {
					t.Errorf("%v, %+v; want an error with %q", err, resp, tt.want)
				}
				trans.CloseStreams()
				time.Sleep(time.Second)
				if got := c.nodes[2].machine.items(); !slices.Equal(got, []string{"true"}) {
					t.Errorf("the victim has %q", got)
				}
			})
		})
	}
}

func introduce(incarnation uint64, links ...string) func(net.Conn) error {
	return func(conn net.Conn) error {
		r := newRoster()
		for _, l := range links {
			r.links = append(r.links, []byte(l))
		}
		return consensus.Introduce(conn, clusterID, incarnation, r)
	}
}

// Operators have signed twice behind the same link, on two sides of a cut: both halves
// still speak Raft, since the ledger is what says whose branch counts. They once
// refused each other for ever.
func TestTwoBranchesSpeak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 3)
		c.start()
		defer c.end()
		c.form(3)
		c.nodes[2].crash()
		for _, n := range c.nodes[:2] {
			n.roster.add("+x")
		}
		c.nodes[2].roster.add("+y")
		c.nodes[2].start()
		time.Sleep(time.Minute)
		if err := c.leader().submit("for all"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if got := c.nodes[2].machine.items(); !slices.Equal(got, []string{"for all"}) {
			t.Errorf("it has %q", got)
		}
	})
}

// A node that was away does not know yet that its caller may vote. It is shown.
func TestLaggingNodeLearnsWhoMayCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 4)
		for _, n := range c.nodes[:3] { // d is not known yet
			n.roster = newRoster("+a", "+b", "+c")
		}
		d := c.nodes[3]
		d.roster = newRoster("+a", "+b", "+c", "+d")
		for _, n := range c.nodes {
			n.start()
		}
		defer c.end()
		time.Sleep(2 * time.Minute)
		for _, n := range c.nodes[:2] {
			n.roster.add("+d")
		}
		time.Sleep(2 * time.Minute)
		lagging := c.nodes[2]
		leader := c.leader()
		if err := leader.submit("for all"); err != nil {
			t.Fatal(err)
		}
		lagging.crash()
		lagging.start()
		time.Sleep(time.Minute)
		c.agree()
		if err := lagging.roster.Member("d"); err != nil {
			t.Errorf("it was not shown the new link: %v", err)
		}
	})
}

// Who loses the vote loses its connections at once.
func TestConnectionsEndWithTheVote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 3)
		c.start()
		defer c.end()
		leader := c.form(3)
		for _, n := range c.nodes {
			n.roster.add("-" + leader.name)
		}
		for _, n := range c.nodes {
			if n != leader {
				n.group.Recheck()
			}
		}
		time.Sleep(time.Minute)
		next := c.nodes[(slices.Index(c.nodes, leader)+1)%3]
		if err := next.submit("without it"); err != nil {
			t.Errorf("the others cannot go on: %v", err)
		}
		if now := c.nodes[(slices.Index(c.nodes, leader)+1)%3].group.Status().Leader; now == leader.name {
			t.Error("it still leads")
		}
	})
}

func TestBadSnapshotIsNotInstalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 3)
		c.start()
		defer c.end()
		c.form(3)
		c.nodes[2].crash()
		for i := range 6000 { // more than the log keeps behind a snapshot
			if err := c.nodes[0].submit(fmt.Sprint(i % 7)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Minute)
		if first, _ := c.leader().disk.FirstIndex(); first < 1000 {
			t.Fatalf("the leader still has entry %d", first)
		}
		c.nodes[2].start()
		c.nodes[2].machine.mu.Lock()
		c.nodes[2].machine.limit = errors.New("a row has no signature")
		c.nodes[2].machine.mu.Unlock()
		time.Sleep(5 * time.Minute)
		if got := c.nodes[2].machine.items(); len(got) != 0 {
			t.Errorf("it was installed: %q", got)
		}
		if list, _ := c.nodes[2].disk.Stores().Snapshots.List(); len(list) > 0 && list[0].Index > 100 {
			t.Errorf("raft can see it: %+v", list[0])
		}
		c.nodes[2].machine.mu.Lock()
		c.nodes[2].machine.limit = nil
		c.nodes[2].machine.mu.Unlock()
		time.Sleep(5 * time.Minute)
		c.agree()
	})
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 0xa0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 2, 0x81, 0x40})
	f.Fuzz(func(t *testing.T, b []byte) {
		consensus.ReadFrames(bytes.NewReader(b))
		if ms, command, err := consensus.Unstamp(b); err == nil && len(command)+9 != len(b) {
			t.Errorf("%d, %x of %x", ms, command, b)
		}
	})
}
