package tunnel

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/tunnel"
)

// role is the variable that makes the test program a node instead.
const role = "HOLDFAST_SIMULATION_NODE"

const (
	port    = 51820
	service = 8400
)

func TestMain(m *testing.M) {
	if text := os.Getenv(role); text != "" {
		if err := play([]byte(text)); err != nil {
			fmt.Fprintln(os.Stderr, "node:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// A part is what a node process is told to do.
type part struct {
	Name  string
	Peers map[string][]netip.AddrPort // endpoints by name
	Relay netip.AddrPort
	Talk  string // the peer to talk to, if any
}

// A line is what a node process says, ten times a second.
type line struct {
	UID      int
	Path     tunnel.Path // to the peer that it talks with
	Endpoint netip.AddrPort
	Echoes   int    // answers so far, all over one connection
	Longest  int64  // milliseconds between two answers, of late
	Failed   string // how the connection ended
}

func keyOf(name string) tunnel.PrivateKey {
	k := tunnel.PrivateKey(sha256.Sum256([]byte("key of " + name)))
	return k
}

func addressOf(name string) netip.Addr {
	sum := sha256.Sum256([]byte(name))
	b := [16]byte{0xfd, 's', 'i', 'm'}
	copy(b[8:], sum[:])
	return netip.AddrFrom16(b)
}

// play is a node process, until its input ends.
func play(text []byte) error {
	var p part
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	relay := &relayClient{self: p.Name, at: p.Relay}
	t, err := tunnel.New(tunnel.Config{
		Self: tunnel.NodeID(p.Name), PrivateKey: keyOf(p.Name), Address: addressOf(p.Name),
		Listen: netip.AddrPortFrom(netip.IPv6Unspecified(), port), Relay: relay,
	})
	if err != nil {
		return err
	}
	var table []tunnel.Peer
	for name, at := range p.Peers {
		table = append(table, tunnel.Peer{ID: tunnel.NodeID(name), Keys: []tunnel.PublicKey{keyOf(name).Public()},
			Address: addressOf(name), Endpoints: at})
	}
	if err := t.SetPeers(table); err != nil {
		return err
	}
	l, err := t.Listen(service)
	if err != nil {
		return err
	}
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			go io.Copy(c, c)
		}
	}()
	go relay.wait(ctx, t)
	if p.Talk != "" {
		go talk(ctx, t, tunnel.NodeID(p.Talk))
	}
	return t.Run(ctx)
}

// talk keeps one connection in use and says how it goes.
func talk(ctx context.Context, t *tunnel.Tunnel, peer tunnel.NodeID) {
	var mu sync.Mutex
	now := line{UID: os.Getuid()}
	go func() {
		if err := echo(ctx, t, peer, func(gap time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			now.Echoes++
			now.Longest = max(now.Longest, gap.Milliseconds())
		}); err != nil {
			mu.Lock()
			defer mu.Unlock()
			now.Failed = err.Error()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
		stats := t.Stats()
		i := slices.IndexFunc(stats, func(s tunnel.PeerStats) bool { return s.ID == peer })
		mu.Lock()
		now.Path, now.Endpoint = stats[i].Path, stats[i].Endpoint
		json.NewEncoder(os.Stdout).Encode(now)
		now.Longest = 0
		mu.Unlock()
	}
}

func echo(ctx context.Context, t *tunnel.Tunnel, peer tunnel.NodeID, answered func(time.Duration)) error {
	<-t.Running()
	c, err := t.Dial(ctx, peer, service)
	if err != nil {
		return err
	}
	defer c.Close()
	buf := make([]byte, 3000)
	for {
		begun := time.Now()
		if _, err := c.Write(buf); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			return err
		}
		answered(time.Since(begun))
		time.Sleep(20 * time.Millisecond)
	}
}

// A relayClient opens streams through the relay of the test, which joins two
// TCP connections: "WAIT self" waits to be called, "CALL self node" calls.
type relayClient struct {
	self string
	at   netip.AddrPort
}

func (r *relayClient) Open(ctx context.Context, node tunnel.NodeID) (io.ReadWriteCloser, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", r.at.String())
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(c, "CALL %s %s\n", r.self, node)
	return c, err
}

// wait serves streams that others open, four at a time.
func (r *relayClient) wait(ctx context.Context, t *tunnel.Tunnel) {
	for range 4 {
		go func() {
			for ctx.Err() == nil {
				if err := r.waitOnce(ctx, t); err != nil {
					time.Sleep(100 * time.Millisecond)
				}
			}
		}()
	}
}

func (r *relayClient) waitOnce(ctx context.Context, t *tunnel.Tunnel) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", r.at.String())
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Fprintf(c, "WAIT %s\n", r.self)
	in := bufio.NewReader(c)
	caller, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	return t.ServeStream(ctx, tunnel.NodeID(caller[:len(caller)-1]), buffered{in, c})
}

type buffered struct {
	*bufio.Reader
	net.Conn
}

func (b buffered) Read(p []byte) (int, error) { return b.Reader.Read(p) }

// serveRelay joins callers with those who wait, until l is closed.
func serveRelay(l net.Listener) {
	var mu sync.Mutex
	waiting := map[string][]net.Conn{}
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			in := bufio.NewReader(c)
			words, err := in.ReadString('\n')
			var verb, from, to string
			if fmt.Sscan(words, &verb, &from, &to); err != nil {
				c.Close()
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if verb == "WAIT" {
				waiting[from] = append(waiting[from], c)
				return
			}
			queue := waiting[to]
			if len(queue) == 0 {
				c.Close()
				return
			}
			other := queue[len(queue)-1]
			waiting[to] = queue[:len(queue)-1]
			fmt.Fprintf(other, "%s\n", from)
			go splice(other, in, c)
			go splice(c, other, other)
		}()
	}
}

func splice(to net.Conn, from io.Reader, source net.Conn) {
	io.Copy(to, from)
	to.Close()
	source.Close()
}
