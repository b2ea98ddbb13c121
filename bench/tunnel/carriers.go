package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/netstack"

	"github.com/holdfast-mesh/holdfast/tunnel"
)

// A carrier is one way to carry a stream between two processes.
type carrier struct {
	listen func(context.Context) (where string, accept func() (stream, error), err error)
	dial   func(ctx context.Context, where string) (stream, error)
}

type stream interface {
	io.ReadWriter
	CloseWrite() error
}

var carriers = map[string]carrier{
	"holdfast":  {holdfastListen, holdfastDial},
	"wireguard": {stockListen, stockDial},
	"quic":      {quicListen, quicDial},
	"tcp":       {tcpListen, tcpDial},
}

const service = 8401

// keyOf and addressOf give a name its key and its address in the tunnel.
func keyOf(name string) tunnel.PrivateKey { return sha256.Sum256([]byte("bench " + name)) }

func addressOf(name string) netip.Addr {
	sum := sha256.Sum256([]byte(name))
	b := [16]byte{0xfd, 'b', 'e', 'n', 'c', 'h'}
	copy(b[8:], sum[:])
	return netip.AddrFrom16(b)
}

// open runs a tunnel until ctx ends.
func open(ctx context.Context, name string, change func(*tunnel.Config)) (*tunnel.Tunnel, error) {
	cfg := tunnel.Config{
		Self:       tunnel.NodeID(name),
		PrivateKey: keyOf(name),
		Address:    addressOf(name),
		Listen:     netip.MustParseAddrPort("127.0.0.1:0"),
	}
	if change != nil {
		change(&cfg)
	}
	t, err := tunnel.New(cfg)
	if err != nil {
		return nil, err
	}
	failed := make(chan error, 1)
	go func() { failed <- t.Run(ctx) }()
	select {
	case <-t.Running():
		return t, nil
	case err := <-failed:
		return nil, err
	}
}

func peerOf(name string, endpoints ...netip.AddrPort) tunnel.Peer {
	return tunnel.Peer{ID: tunnel.NodeID(name), Keys: []tunnel.PublicKey{keyOf(name).Public()}, Address: addressOf(name), Endpoints: endpoints}
}

func holdfastListen(ctx context.Context) (string, func() (stream, error), error) {
	t, err := open(ctx, "receiver", nil)
	if err != nil {
		return "", nil, err
	}
	if err := t.SetPeers([]tunnel.Peer{peerOf("sender")}); err != nil {
		return "", nil, err
	}
	l, err := t.Listen(service)
	return t.LocalAddr().String(), func() (stream, error) { return accept(l) }, err
}

func accept(l net.Listener) (stream, error) {
	c, err := l.Accept()
	if err != nil {
		return nil, err
	}
	return c.(stream), nil
}

func holdfastDial(ctx context.Context, where string) (stream, error) {
	t, err := open(ctx, "sender", nil)
	if err != nil {
		return nil, err
	}
	at, err := netip.ParseAddrPort(where)
	if err != nil {
		return nil, err
	}
	if err := t.SetPeers([]tunnel.Peer{peerOf("receiver", at)}); err != nil {
		return nil, err
	}
	c, err := t.Dial(ctx, "receiver", service)
	if err != nil {
		return nil, err
	}
	return c.(stream), nil
}

// stock is wireguard-go as it comes.
func stock(name, other, endpoint string) (*netstack.Net, *device.Device, error) {
	dev, n, err := netstack.CreateNetTUN([]netip.Addr{addressOf(name)}, nil, 1420)
	if err != nil {
		return nil, nil, err
	}
	d := device.NewDevice(dev, conn.NewDefaultBind(), device.NewLogger(device.LogLevelSilent, ""))
	private, public := keyOf(name), keyOf(other).Public()
	text := fmt.Sprintf("private_key=%s\nlisten_port=0\npublic_key=%s\nallowed_ip=%v/128\n",
		hex.EncodeToString(private[:]), hex.EncodeToString(public[:]), addressOf(other))
	if endpoint != "" {
		text += "endpoint=" + endpoint + "\n"
	}
	if err := d.IpcSet(text); err != nil {
		return nil, nil, err
	}
	return n, d, d.Up()
}

func stockListen(context.Context) (string, func() (stream, error), error) {
	n, d, err := stock("receiver", "sender", "")
	if err != nil {
		return "", nil, err
	}
	text, err := d.IpcGet()
	if err != nil {
		return "", nil, err
	}
	_, port, _ := strings.Cut(text, "listen_port=")
	port, _, _ = strings.Cut(port, "\n")
	l, err := n.ListenTCPAddrPort(netip.AddrPortFrom(addressOf("receiver"), service))
	return "127.0.0.1:" + port, func() (stream, error) { return accept(l) }, err
}

func stockDial(ctx context.Context, where string) (stream, error) {
	n, _, err := stock("sender", "receiver", where)
	if err != nil {
		return nil, err
	}
	return n.DialContextTCPAddrPort(ctx, netip.AddrPortFrom(addressOf("receiver"), service))
}

const protocol = "/holdfast/bench/1"

func quicHost() (host.Host, error) {
	private, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, err
	}
	return libp2p.New(libp2p.Identity(private), libp2p.Transport(quic.NewTransport),
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/udp/0/quic-v1"), libp2p.DisableMetrics(), libp2p.DisableRelay())
}

func quicListen(context.Context) (string, func() (stream, error), error) {
	h, err := quicHost()
	if err != nil {
		return "", nil, err
	}
	accepted := make(chan stream)
	h.SetStreamHandler(protocol, func(s network.Stream) { accepted <- s })
	where := fmt.Sprintf("%s/p2p/%s", h.Addrs()[0], h.ID())
	return where, func() (stream, error) { return <-accepted, nil }, nil
}

func quicDial(ctx context.Context, where string) (stream, error) {
	h, err := quicHost()
	if err != nil {
		return nil, err
	}
	info, err := peer.AddrInfoFromString(where)
	if err != nil {
		return nil, err
	}
	if err := h.Connect(ctx, *info); err != nil {
		return nil, err
	}
	return h.NewStream(ctx, info.ID, protocol)
}

func tcpListen(context.Context) (string, func() (stream, error), error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	return l.Addr().String(), func() (stream, error) { return accept(l) }, nil
}

func tcpDial(ctx context.Context, where string) (stream, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", where)
	if err != nil {
		return nil, err
	}
	return c.(stream), nil
}
