package feeds

import (
	"context"
	"errors"
	"net"

	"github.com/holdfast-mesh/holdfast/mesh/network"
)

// alone is the network of a node that has no other.
type alone struct{}

var errAlone = errors.New("this node is linked to no other")

func (alone) Dial(context.Context, string, uint16) (net.Conn, error) { return nil, errAlone }
func (alone) Listen(uint16) (net.Listener, error)                    { return nil, errAlone }
func (alone) ListenPacket(uint16) (network.PacketConn, error)        { return nil, errAlone }
