package host

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/config"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/sec"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/x/rate"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	quicgo "github.com/quic-go/quic-go"
)

// ErrSomeoneElse is what dialling fails with if the node that answers at an
// address is not the one that was asked for.
var ErrSomeoneElse = errors.New("another node answers at this address")

// open starts libp2p.
func (h *Host) open(at netip.AddrPort) (host.Host, func() error, error) {
	key, err := crypto.UnmarshalEd25519PrivateKey(h.cfg.Key)
	if err != nil {
		return nil, nil, err
	}
	resources, err := limits()
	if err != nil {
		return nil, nil, err
	}
	port, err := h.quic(key, resources)
	if err != nil {
		resources.Close()
		return nil, nil, err
	}
	gate := &gate{h: h}
	byTCP := libp2p.Transport(tcp.NewTCPTransport)
	if h.cfg.Simulated {
		byTCP = libp2p.ChainOptions()
	}
	p, err := libp2p.New(
		libp2p.Identity(key),
		libp2p.ListenAddrStrings(h.listenAt(at)...),
		libp2p.Transport(quic.NewTransport),
		byTCP,
		libp2p.Security(noise.ID, noise.New),
		libp2p.QUICReuse(func() *quicreuse.ConnManager { return port }),
		libp2p.ResourceManager(&watched{resources, h}),
		libp2p.ConnectionGater(gate),
		libp2p.ConnectionManager(connmgr.NullConnMgr{}), // the gate and the limits suffice
		libp2p.UserAgent("holdfast/"+h.cfg.Version),
		libp2p.EnableRelay(),
		libp2p.EnableHolePunching(),
		libp2p.ForceReachabilityPublic(), // so that nothing asks around about it
		libp2p.DisableMetrics(),
		libp2p.UDPBlackHoleSuccessCounter(nil), // a site that was cut off for long is dialled again
		libp2p.IPv6BlackHoleSuccessCounter(nil),
	)
	if err != nil {
		resources.Close()
		return nil, nil, errors.Join(err, port.Close())
	}
	if err := h.listens(p, at); err != nil {
		return nil, nil, errors.Join(err, p.Close(), port.Close())
	}
	r, err := relay.New(p, relay.WithACL(gate), relay.WithResources(relay.Resources{
		ReservationTTL: reservationTTL, MaxReservations: 128, MaxCircuits: 64, BufferSize: 16 << 10,
		MaxReservationsPerIP: 128, MaxReservationsPerASN: 128,
	}), relay.WithReservationAddressFilter(func(ma.Multiaddr) bool { return false }))
	if err != nil {
		return nil, nil, errors.Join(err, p.Close(), port.Close())
	}
	return p, func() error { return errors.Join(r.Close(), p.Close(), port.Close()) }, nil
}

// listens says which half of the mesh port could not be opened: libp2p is
// content with either, and so are we, but not without a word.
func (h *Host) listens(p host.Host, at netip.AddrPort) error {
	open := map[int]bool{}
	for _, m := range p.Network().ListenAddresses() {
		for _, half := range []int{ma.P_TCP, ma.P_QUIC_V1} {
			if _, err := m.ValueForProtocol(half); err == nil {
				open[half] = true
			}
		}
	}
	switch {
	case !open[ma.P_TCP] && !open[ma.P_QUIC_V1]:
		return errors.New("neither TCP nor UDP can be opened")
	case !open[ma.P_TCP] && !h.cfg.Simulated:
		h.cfg.Log.Warn("the mesh port is not open for TCP: is it in use? nodes whose UDP is blocked cannot connect", "at", at)
	case !open[ma.P_QUIC_V1]:
		h.cfg.Log.Warn("the mesh port is not open for QUIC: nodes connect by TCP only", "at", at)
	}
	return nil
}

// quic returns what libp2p opens its UDP sockets with. It counts connections
// among the limits before they cost a handshake, and has clients show that
// they are where they say when there are many.
func (h *Host) quic(key crypto.PrivKey, resources network.ResourceManager) (*quicreuse.ConnManager, error) {
	reset, err := config.PrivKeyToStatelessResetKey(key)
	if err != nil {
		return nil, err
	}
	token, err := config.PrivKeyToTokenGeneratorKey(key)
	if err != nil {
		return nil, err
	}
	count := func(ctx context.Context, from *quicgo.ClientInfo) (context.Context, error) {
		at, err := quicreuse.ToQuicMultiaddr(from.RemoteAddr, quicgo.Version1)
		if err != nil {
			return ctx, err
		}
		scope, err := resources.OpenConnection(network.DirInbound, false, at)
		if err != nil {
			return ctx, err
		}
		ctx = network.WithConnManagementScope(ctx, scope)
		context.AfterFunc(ctx, scope.Done)
		return ctx, nil
	}
	return quicreuse.NewConnManager(reset, token, quicreuse.OverrideListenUDP(h.meshPort()),
		quicreuse.ConnContext(count), quicreuse.VerifySourceAddress(resources.VerifySourceAddress))
}

// meshPort returns what libp2p opens UDP sockets with. The first of each family
// is the mesh port; should libp2p ask for another, it gets one of its own.
func (h *Host) meshPort() func(string, *net.UDPAddr) (net.PacketConn, error) {
	var mu sync.Mutex
	given := map[string]bool{}
	return func(family string, at *net.UDPAddr) (net.PacketConn, error) {
		mu.Lock()
		defer mu.Unlock()
		if h.cfg.QUIC == nil || given[family] {
			return net.ListenUDP(family, at)
		}
		given[family] = true
		return h.cfg.QUIC(family), nil
	}
}

// listenAt returns where to listen.
func (h *Host) listenAt(at netip.AddrPort) []string {
	return slices.DeleteFunc(listenAt(at), func(text string) bool { return h.cfg.Simulated && strings.Contains(text, "/tcp/") })
}

// listenAt returns the multiaddresses of an address for TCP and QUIC.
func listenAt(at netip.AddrPort) []string {
	var all []string
	add := func(family string, ip netip.Addr) {
		all = append(all, fmt.Sprintf("/%s/%s/tcp/%d", family, ip, at.Port()), fmt.Sprintf("/%s/%s/udp/%d/quic-v1", family, ip, at.Port()))
	}
	ip := at.Addr().Unmap()
	if ip.IsUnspecified() || ip.Is4() {
		add("ip4", pick(ip.IsUnspecified(), netip.IPv4Unspecified(), ip))
	}
	if ip.IsUnspecified() || ip.Is6() {
		add("ip6", pick(ip.IsUnspecified(), netip.IPv6Unspecified(), ip))
	}
	return all
}

func pick[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}

const (
	handshakes  = 64  // connections at a time that have not proven whose they are
	connections = 512 // at a time, in all
	perAddress  = 64  // connections at a time from one address: nodes behind one NAT share it
)

// limits bounds what all others together can have this node hold: connections,
// streams, memory. They are far above what a mesh of 64 nodes needs.
func limits() (network.ResourceManager, error) {
	scaling := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&scaling)
	fixed := rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{
			Conns: connections, ConnsInbound: connections / 2, ConnsOutbound: connections, FD: connections / 2,
			Streams: 8192, StreamsInbound: 4096, StreamsOutbound: 4096, Memory: 192 << 20,
		},
		Transient: rcmgr.ResourceLimits{
			Conns: 3 * handshakes, ConnsInbound: handshakes, ConnsOutbound: 2 * handshakes, FD: 2 * handshakes,
			Streams: 512, StreamsInbound: 256, StreamsOutbound: 256, Memory: 32 << 20,
		},
		PeerDefault: rcmgr.ResourceLimits{
			Conns: 16, ConnsInbound: 8, ConnsOutbound: 16, FD: 8,
			Streams: 256, StreamsInbound: 128, StreamsOutbound: 256, Memory: 32 << 20,
		},
	}
	loopback4, loopback6 := netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(fixed.Build(scaling.Scale(128<<20, 512))),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: perAddress}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: perAddress}, {PrefixLength: 48, ConnCount: 2 * perAddress}}),
		rcmgr.WithNetworkPrefixLimit(
			[]rcmgr.NetworkPrefixLimit{{Network: loopback4, ConnCount: math.MaxInt}},
			[]rcmgr.NetworkPrefixLimit{{Network: loopback6, ConnCount: math.MaxInt}}),
		rcmgr.WithConnRateLimiters(&rate.Limiter{
			NetworkPrefixLimits: []rate.PrefixLimit{{Prefix: loopback4}, {Prefix: loopback6}},
			GlobalLimit:         rate.Limit{RPS: 50, Burst: 200},
			SubnetRateLimiter: rate.SubnetLimiter{
				IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: rate.Limit{RPS: 2, Burst: perAddress}}},
				IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 56, Limit: rate.Limit{RPS: 2, Burst: perAddress}}},
				GracePeriod:      time.Minute,
			},
		}),
		rcmgr.WithMetricsDisabled(),
	)
}

// reason makes one line of what libp2p says about a dial that failed.
func reason(ctx context.Context, err error) error {
	var other sec.ErrPeerIDMismatch
	var line error = errors.New(strings.Join(strings.Fields(err.Error()), " "))
	switch {
	case errors.As(err, &other):
		return fmt.Errorf("%w: node %s", ErrSomeoneElse, other.Actual)
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", context.Cause(ctx), line)
	}
	return line
}

func ipOf(m ma.Multiaddr) netip.Addr {
	ip, err := manet.ToIP(m)
	if err != nil {
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

func relayed(c network.Conn) bool {
	_, err := c.RemoteMultiaddr().ValueForProtocol(ma.P_CIRCUIT)
	return err == nil
}
