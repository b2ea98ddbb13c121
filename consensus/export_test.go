package consensus

import (
	"net"

	"github.com/holdfast-mesh/holdfast/consensus/gate"
	"github.com/holdfast-mesh/holdfast/consensus/wire"
)

// Introduce says hello on a raft connection as a node with that roster does.
func Introduce(conn net.Conn, cluster [16]byte, incarnation uint64, r Roster) error {
	return (&gate.Gate{Cluster: cluster, Incarnation: incarnation, Roster: r}).Dial(conn)
}

// ReadFrames reads all that a node reads of others before it knows them.
var ReadFrames = func(r interface{ Read([]byte) (int, error) }) {
	var q request
	var a response
	for _, m := range []any{&q, &a} {
		_ = wire.Read(r, m, maxFrame)
	}
}

// Unstamp reads an entry of the log.
var Unstamp = wire.Unstamp

// Translate says of an error of raft whether the command may have an effect.
var Translate = translate
