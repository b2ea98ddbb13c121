// Package gate judges who may speak Raft with a node, before a byte of Raft is read:
// hashicorp/raft obeys an AppendEntries of anybody (measured).
package gate

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/wire"
)

// Every connection for Raft begins with this, before a byte of it is Raft:
//
//	both:    hello
//	whoever has the longer authority chain:  the links that the other lacks
//	who accepted:  verdict
//
// So a node that was away learns from whoever calls it that the caller may,
// before it judges; and one of an old incarnation learns that it is one. Two whose
// chains part have nothing to give each other here: the ledger, which this is the way
// to, says whose branch counts.
type hello struct {
	Cluster     []byte `cbor:"1,keyasint"`
	Incarnation uint64 `cbor:"2,keyasint"`
	Length      uint64 `cbor:"3,keyasint"` // of the authority chain
	Head        []byte `cbor:"4,keyasint"`
}

type verdict struct {
	Refused string `cbor:"1,keyasint,omitempty"` // why, or "" for welcome
}

const (
	// Timeout is what an introduction takes at most.
	Timeout  = 10 * time.Second
	maxFrame = 1 << 20
	maxLinks = 8 << 20 // of an authority chain
)

// A Roster is as much of the authority chain as a gate asks.
type Roster interface {
	Head() (length uint64, hash [32]byte)
	Links(from uint64) [][]byte              // the links from number from, 0 being the first
	Parts(length uint64, head [32]byte) bool // whether there are so many links here, which end otherwise
	Extend(links [][]byte) error             // takes over links that follow the head, if they are valid
	Member(node string) error                // nil: it belongs to the cluster
	Voter(node string) error                 // nil: it may speak Raft
}

// A Gate is that of one life of Raft.
type Gate struct {
	Cluster     [16]byte
	Incarnation uint64 // with which this node's Raft was started
	Roster      Roster
}

func (g *Gate) hello() hello {
	length, head := g.Roster.Head()
	return hello{g.Cluster[:], g.Incarnation, length, head[:]}
}

// Accept judges a connection from a node. Who is a stranger to our chain may
// still show us a longer one, and is shown nothing of ours but its length.
func (g *Gate) Accept(conn net.Conn, node string) error {
	theirs, err := g.exchange(conn, g.Roster.Member(node) == nil)
	if err == nil {
		err = g.fits(theirs)
	}
	if err == nil {
		err = g.Roster.Voter(node)
	}
	v := verdict{}
	if err != nil {
		v.Refused = fmt.Sprintf("%.200s", err.Error())
		if err := errors.Join(wire.Write(conn, v, maxFrame), conn.SetDeadline(time.Time{})); err != nil {
			return err
		}
		return fmt.Errorf("%w: %w", wire.ErrRefused, err)
	}
	return errors.Join(wire.Write(conn, v, maxFrame), conn.SetDeadline(time.Time{}))
}

// Dial introduces this node on a connection that it made.
func (g *Gate) Dial(conn net.Conn) error {
	theirs, err := g.exchange(conn, true)
	if err != nil {
		return err
	}
	var v verdict
	if err := wire.Read(conn, &v, maxFrame); err != nil {
		return err
	}
	if v.Refused != "" {
		return fmt.Errorf("%w: %s", wire.ErrRefused, v.Refused)
	}
	return errors.Join(g.fits(theirs), conn.SetDeadline(time.Time{}))
}

// exchange says hello, and gives or takes the links that one side lacks. A
// stranger is given none.
func (g *Gate) exchange(conn net.Conn, give bool) (theirs hello, err error) {
	ours := g.hello()
	if err = conn.SetDeadline(time.Now().Add(Timeout)); err != nil {
		return theirs, err
	}
	if err = wire.Write(conn, ours, maxFrame); err != nil {
		return theirs, err
	}
	if err = wire.Read(conn, &theirs, maxFrame); err != nil {
		return theirs, err
	}
	if string(theirs.Cluster) != string(ours.Cluster) {
		return theirs, fmt.Errorf("%w: it belongs to another cluster", wire.ErrRefused)
	}
	if len(theirs.Head) != len(ours.Head) {
		return theirs, fmt.Errorf("%w: a head of %d bytes", wire.ErrRefused, len(theirs.Head))
	}
	switch {
	case ours.Length > theirs.Length:
		links := [][]byte{}
		if give && !g.Roster.Parts(theirs.Length, [32]byte(theirs.Head)) {
			links = g.Roster.Links(theirs.Length)
		}
		err = wire.Write(conn, links, maxLinks)
	case ours.Length < theirs.Length:
		var links [][]byte
		if err = wire.Read(conn, &links, maxLinks); err == nil && len(links) > 0 {
			err = g.Roster.Extend(links)
		}
	}
	return theirs, err
}

func (g *Gate) fits(theirs hello) error {
	switch {
	case theirs.Incarnation < g.Incarnation:
		return fmt.Errorf("incarnation %d of this cluster has ended, the present one is %d", theirs.Incarnation, g.Incarnation)
	case theirs.Incarnation > g.Incarnation:
		return fmt.Errorf("this node is still in incarnation %d, not %d", g.Incarnation, theirs.Incarnation)
	}
	return nil
}
