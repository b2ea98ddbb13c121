package wan_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/simulations/wan"
)

// A device is a site's end of the network, in memory.
type device struct {
	send   chan []byte
	closed chan struct{}
	once   sync.Once
	broken error // what Write returns, if not nil

	mu  sync.Mutex
	got []arrival
}

type arrival struct {
	at   time.Time
	data []byte
}

func newDevice() *device {
	return &device{send: make(chan []byte), closed: make(chan struct{})}
}

func (d *device) Read(b []byte) (int, error) {
	select {
	case p := <-d.send:
		if p == nil {
			return 0, errors.New("cable burnt")
		}
		return copy(b, p), nil
	case <-d.closed:
		return 0, os.ErrClosed
	}
}

func (d *device) Write(b []byte) (int, error) {
	if d.broken != nil {
		return 0, d.broken
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.got = append(d.got, arrival{time.Now(), slices.Clone(b)})
	return len(b), nil
}

func (d *device) Close() error {
	d.once.Do(func() { close(d.closed) })
	return nil
}

// take returns what has arrived since it was last called.
func (d *device) take() []arrival {
	d.mu.Lock()
	defer d.mu.Unlock()
	got := d.got
	d.got = nil
	return got
}

// A world is a network of the sites home, dc and cloud, in virtual time.
type world struct {
	*wan.Network
	home, dc, cloud          *wan.Site
	homeDev, dcDev, cloudDev *device
}

var addresses = map[string]netip.Addr{
	"home": netip.MustParseAddr("11.0.1.1"), "dc": netip.MustParseAddr("11.0.2.1"), "cloud": netip.MustParseAddr("11.0.3.1"),
}

// inWorld runs f with a running network, and fails if a goroutine is left.
func inWorld(t *testing.T, seed uint64, path wan.Link, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{Network: wan.New(seed, path), homeDev: newDevice(), dcDev: newDevice(), cloudDev: newDevice()}
		w.home = w.attach(t, "home", w.homeDev)
		w.dc = w.attach(t, "dc", w.dcDev)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		synctest.Wait()
		w.cloud = w.attach(t, "cloud", w.cloudDev) // a site may come later
		f(t, w)
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func (w *world) attach(t *testing.T, name string, d *device) *wan.Site {
	t.Helper()
	s, err := w.Attach(name, d, netip.PrefixFrom(addresses[name], 24))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// packet returns an IPv4 packet of size bytes with number n in it.
func packet(from, to string, size, n int) []byte {
	b := make([]byte, size)
	b[0], b[6] = 0x45, 0x40 // don't fragment
	copy(b[12:], addresses[from].AsSlice())
	copy(b[16:], addresses[to].AsSlice())
	binary.BigEndian.PutUint32(b[20:], uint32(n))
	return b
}

func number(b []byte) int { return int(binary.BigEndian.Uint32(b[20:])) }

// numbers returns the numbers of packets, in the order of their arrival.
func numbers(got []arrival) []int {
	var all []int
	for _, a := range got {
		all = append(all, number(a.data))
	}
	return all
}
