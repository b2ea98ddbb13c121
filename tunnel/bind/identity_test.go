package bind

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
)

// second adds an identity to that of one, as when our key changes, and lets
// the peer's address in.
func second(t *testing.T, b *Bind, s *fakeSocket) (young, old *Identity, p *Peer) {
	t.Helper()
	old = (*b.identities.Load())[0]
	key, _ := ecdh.X25519().GenerateKey(rand.Reader)
	if err := b.SetKeys([]*ecdh.PrivateKey{key, old.key}); err != nil {
		t.Fatal(err)
	}
	young = b.NewIdentity(key)
	if _, _, err := young.Open(0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { young.Close() })
	p = b.peers.Load().byID["peer"]
	b.admitFrom(p, s.from, true)
	return young, old, p
}

func initiationTo(id *Identity, number byte) []byte {
	m := make([]byte, device.MessageInitiationSize)
	m[0], m[4] = initiation, number
	var g device.CookieGenerator
	g.Init(device.NoisePublicKey(id.key.PublicKey().Bytes()))
	g.AddMacs(m)
	return m
}

// While there are two keys each message goes to the one that it is for: an
// initiation by its sum, all else by its session, and the rest to the oldest.
func TestMessagesFindTheirIdentity(t *testing.T) {
	b, s, r, _ := one(t)
	young, old, p := second(t, b, s)
	ep, err := young.ParseEndpoint(EndpointOf("peer", p.theirs()[0]))
	if err != nil {
		t.Fatal(err)
	}
	ours := initiationTo(young, 77) // its number is what counts
	if err := young.Send([][]byte{ours}, ep); err != nil {
		t.Fatal(err)
	}
	numbered := func(kind byte, at int, number uint32) []byte {
		m := make([]byte, 92)
		m[0] = kind
		binary.LittleEndian.PutUint32(m[at:], number)
		return m
	}
	for _, tt := range []struct {
		name string
		m    []byte
		want *Identity
	}{
		{"an initiation to the new key", initiationTo(young, 1), young},
		{"an initiation to the old key", initiationTo(old, 2), old},
		{"an initiation to neither", numbered(initiation, 4, 9), old},
		{"a response to the new key", numbered(response, 8, 77), young},
		{"a response to nobody", numbered(response, 8, 78), old},
		{"a cookie", numbered(cookie, 4, 77), young},
		{"data of a session of the new key", numbered(transport, 4, 77), young},
		{"data of another session", numbered(transport, 4, 78), old},
	} {
		if got := r.received(p, tt.m, 0, true); got != tt.want {
			t.Errorf("%s goes to the identity %p, want %p (new %p, old %p)", tt.name, got, tt.want, young, old)
		}
	}
	if n := p.handshakes.Load(); n != 1 {
		t.Errorf("%d sessions were used, want 1", n)
	}
}

// What a sender makes up who took the address of a peer costs no allocation,
// even while there are two keys; only the sum of an initiation is looked at.
func TestMadeUpSessionsCostNothing(t *testing.T) {
	b, s, r, _ := one(t)
	_, _, p := second(t, b, s)
	m := data(100)
	number := uint32(0)
	if n := testing.AllocsPerRun(1000, func() {
		number++
		binary.LittleEndian.PutUint32(m[4:], number)
		r.received(p, m, 0, true)
	}); n > 0 {
		t.Errorf("made-up data costs %v allocations", n)
	}
}

// The newest identity reads the socket and hands on what is for the old one,
// and when either leaves the other goes on.
func TestIdentitiesShareTheSocket(t *testing.T) {
	b, s, _, _ := one(t)
	old := (*b.identities.Load())[0]
	type got struct {
		id *Identity
		n  int
	}
	came := make(chan got, 10)
	ended := make(chan error, 2)
	run := func(id *Identity) {
		go func() {
			bufs, sizes, eps := room()
			for {
				n, err := id.receive(bufs, sizes, eps)
				if err != nil {
					ended <- err
					return
				}
				came <- got{id, n}
			}
		}()
	}
	b.admitFrom(b.peers.Load().byID["peer"], s.from, true)
	expect := func(m []byte, id *Identity) {
		t.Helper()
		s.in <- m
		if g := <-came; g.id != id || g.n != 1 {
			t.Errorf("%d messages came to %p, want one to %p", g.n, g.id, id)
		}
	}
	run(old)
	expect(data(50), old)
	young, _, _ := second(t, b, s)
	run(young)
	expect(initiationTo(young, 1), young)
	expect(initiationTo(old, 2), old)
	expect(data(50), old)
	young.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("the new one ended with %v", err)
	}
	expect(initiationTo(young, 3), old) // to be dropped there
	old.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("the old one ended with %v", err)
	}
	if b.LocalAddr() != (netip.AddrPort{}) {
		t.Error("the mesh port is open")
	}
}

func BenchmarkFindIdentity(b *testing.B) {
	for _, keys := range []string{"one key", "two keys", "two keys, made-up sessions", "two keys, made-up initiations"} {
		b.Run(keys, func(b *testing.B) {
			x, s, r, _ := one(b)
			p := x.peers.Load().byID["peer"]
			x.admitFrom(p, s.from, true)
			if keys != "one key" {
				old := (*x.identities.Load())[0]
				key, _ := ecdh.X25519().GenerateKey(rand.Reader)
				x.SetKeys([]*ecdh.PrivateKey{key, old.key})
				young := x.NewIdentity(key)
				young.Open(0)
				defer young.Close()
			}
			m := data(1312)
			if keys == "two keys, made-up initiations" {
				m = make([]byte, device.MessageInitiationSize)
				m[0] = initiation
			}
			var number uint32
			for b.Loop() {
				if keys == "two keys, made-up sessions" {
					number++
					binary.LittleEndian.PutUint32(m[4:], number)
				}
				r.received(p, m, 0, true)
			}
		})
	}
}

var _ conn.Bind = (*Identity)(nil)
