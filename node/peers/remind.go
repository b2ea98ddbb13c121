package peers

import (
	"context"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/frame"
	"github.com/holdfast-mesh/holdfast/mesh/host"
)

// reminder is the protocol by which a node that knows of no other is told that it
// belongs to others: it was put back to a time when it was alone. It would lead
// itself, and take changes that nobody else ever sees, while all others take it for
// unreachable. The links that it is given are believed because operators have
// signed them, whoever brings them; nothing is told to who brings them.
const reminder = "/holdfast/reminder/1"

type reminding struct {
	Links [][]byte `cbor:"1,keyasint"` // of the chain, from the first on
}

const (
	remindEvery = 10 * time.Second
	remindTime  = 10 * time.Second
	maxReminder = 4 << 20
)

// remindAll reminds the members that are not reached, until ctx ends.
func (l *Link) remindAll(ctx context.Context) error {
	tick := time.NewTicker(remindEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for node, p := range l.Peers() {
			if p.Path == PathNone && l.cluster.Roster().Member(node) == nil {
				l.remind(ctx, node)
			}
		}
	}
}

// remind gives the whole chain to a member that does not let us in as one.
func (l *Link) remind(ctx context.Context, node string) {
	ctx, cancel := context.WithTimeout(ctx, remindTime)
	defer cancel()
	conn, err := l.host.Open(ctx, node, reminder)
	if err != nil {
		return
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	links, size := l.cluster.Roster().Links(0), 0
	for i, link := range links {
		if size += len(link) + 8; size > maxReminder/2 {
			links = links[:i] // the roster brings the rest, to who is a member then
			break
		}
	}
	if frame.Write(conn, reminding{links}) == nil {
		_ = conn.CloseWrite() // who does not listen is told again
	}
}

// answerReminder takes links over that others have, while this node knows of nobody.
func (l *Link) answerReminder(ctx context.Context, in host.Inbound) {
	if !l.alone() {
		return
	}
	in.SetDeadline(time.Now().Add(remindTime))
	var r reminding
	if err := frame.Read(in, maxReminder, &r); err != nil {
		return
	}
	known, _ := l.cluster.Roster().Head()
	if uint64(len(r.Links)) <= known {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, remindTime)
	defer cancel()
	if err := l.cluster.Remember(ctx, in.Node, r.Links[known:]); err != nil {
		l.cfg.Log.Warn("what another node says of who belongs to the cluster is not taken", "node", in.Node, "err", err)
		return
	}
	l.cfg.Log.Error("this node knew of no other, and belongs to a cluster with others: its disk went back to a time when it was alone", "node", in.Node)
	l.kick()
	l.cluster.Group().Recheck()
}

// alone tells whether this node knows of no other that belongs to its cluster.
func (l *Link) alone() bool {
	for _, node := range l.cluster.Nodes() {
		if node != l.self.NodeID() && l.cluster.Roster().Member(node) == nil {
			return false
		}
	}
	return true
}
