package stack

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// A Backlog is what waits to be sent to a node.
type Backlog struct {
	Full   bool // a program waits: the buffer of a connection is full
	Window bool // and what is on its way fills the largest window that TCP has
}

// Backlogs returns the backlog of each node with a connection.
func (s *Stack) Backlogs() map[netip.Addr]Backlog {
	all := map[netip.Addr]Backlog{}
	for _, e := range s.net.RegisteredEndpoints() {
		ep, ok := e.(*tcp.Endpoint)
		if !ok || ep.EndpointState() != tcp.StateEstablished {
			continue
		}
		remote, err := ep.GetRemoteAddress()
		if err != nil {
			continue
		}
		addr := netip.AddrFrom16(remote.Addr.As16())
		b := all[addr]
		if ep.Readiness(waiter.WritableEvents) == 0 {
			b.Full = true
			var info tcpip.TCPInfoOption
			if ep.GetSockOpt(&info) == nil {
				const nearly = maxBuffer / 10 * 9
				b.Window = b.Window || int(info.SndCwnd)*(s.cfg.MTU-ipLen-tcpLen) >= nearly
			}
		}
		all[addr] = b
	}
	return all
}
