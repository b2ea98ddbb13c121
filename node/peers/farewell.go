package peers

import (
	"context"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/mesh/frame"
	"github.com/holdfast-mesh/holdfast/mesh/host"
)

// farewell is the protocol by which a node that was removed learns that: who was
// cut off hears nothing else of the cluster, and would take it for unreachable.
// It asks with the length of its chain, and is told the links behind that, which
// operators have signed. A machine that waited for approval and was denied is told
// that, for which nobody has signed: it is only shown.
const farewell = "/holdfast/farewell/1"

type (
	farewellAsk struct {
		Count uint64 `cbor:"1,keyasint"`
		Head  []byte `cbor:"2,keyasint,omitempty"`
	}
	farewellAnswer struct {
		Links  [][]byte `cbor:"1,keyasint,omitempty"`
		Denied bool     `cbor:"2,keyasint,omitempty"`
	}
)

const (
	farewellEvery = 10 * time.Second // between questions, while nothing is heard
	farewellTime  = 10 * time.Second // for one of them
	maxFarewell   = 4 << 20
)

// Denied tells whether a member says that this machine, which waits for approval,
// was denied it.
func (l *Link) Denied() bool { return l.denied.Load() && l.cluster.Waits() }

// answerFarewell tells a node that was removed, and nobody else.
func (l *Link) answerFarewell(_ context.Context, in host.Inbound) {
	in.SetDeadline(time.Now().Add(farewellTime))
	var q farewellAsk
	if err := frame.Read(in, 64, &q); err != nil {
		return
	}
	var a farewellAnswer
	if c := l.cluster; !(members{c}).Member(in.Node) && c.RemovalSigned(in.Node) {
		if a.Links = c.Roster().Links(q.Count); len(a.Links) == 0 || len(q.Head) == 32 && c.Roster().Parts(q.Count, [32]byte(q.Head)) {
			a.Links = c.Roster().Links(0) // it has a branch of its own, with more links perhaps
		}
	} else if m, is := ledger.Members.Get(c.View(), in.Node); is && m.Body.State == ledger.Removed {
		a.Denied = !(members{c}).Member(in.Node)
	}
	_ = frame.Write(in, a) // who hung up asks again
}

// awaitFarewell asks the others whether this node was removed, while it hears
// nothing of the cluster, and returns when it was.
func (l *Link) awaitFarewell(ctx context.Context) {
	tick := time.NewTicker(farewellEvery)
	defer tick.Stop()
	for !l.cluster.Gone() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if time.Since(l.cluster.Group().Status().LeaderSeen) < 2*farewellEvery {
			continue
		}
		for _, node := range l.cluster.Nodes() {
			if node != l.self.NodeID() && !l.cluster.Gone() {
				l.askFarewell(ctx, node)
			}
		}
	}
}

func (l *Link) askFarewell(ctx context.Context, node string) {
	ctx, cancel := context.WithTimeout(ctx, farewellTime)
	defer cancel()
	conn, err := l.host.Open(ctx, node, farewell)
	if err != nil {
		return
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	known, head := l.cluster.Roster().Head()
	if frame.Write(conn, farewellAsk{known, head[:]}) != nil {
		return
	}
	var a farewellAnswer
	if err := frame.Read(conn, maxFarewell, &a); err != nil {
		return
	}
	l.denied.Store(a.Denied)
	if len(a.Links) == 0 {
		return
	}
	if err := l.cluster.Roster().Extend(a.Links); err != nil && !l.cluster.Gone() {
		l.cfg.Log.Warn("what a member says of the removal of this node is not taken", "member", node, "err", err)
	}
}
