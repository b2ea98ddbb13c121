package wan_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/simulations/wan"
)

const ms = time.Millisecond

func TestDelayIsExact(t *testing.T) {
	inWorld(t, 1, wan.Link{Delay: 20 * ms}, func(t *testing.T, w *world) {
		w.home.Up.Set(wan.Link{Delay: 7 * ms})
		w.home.Down.Set(wan.Link{Delay: 100 * ms})
		start := time.Now()
		w.homeDev.send <- packet("home", "dc", 100, 1)
		w.dcDev.send <- packet("dc", "home", 100, 2)
		time.Sleep(time.Second)
		there, back := w.dcDev.take(), w.homeDev.take()
		if len(there) != 1 || there[0].at.Sub(start) != 27*ms {
			t.Errorf("packet to dc arrived as %v, want after 27ms: up 7, path 20", there)
		}
		if len(back) != 1 || back[0].at.Sub(start) != 120*ms {
			t.Errorf("packet to home arrived as %v, want after 120ms: path 20, down 100", back)
		}
	})
}

// A packet that finds nobody, or would come back to its sender, goes nowhere.
func TestStrayPackets(t *testing.T) {
	inWorld(t, 1, wan.Link{}, func(t *testing.T, w *world) {
		w.homeDev.send <- packet("home", "home", 100, 1)
		w.homeDev.send <- []byte{0x45, 0}
		w.homeDev.send <- []byte{}
		stray := packet("home", "dc", 100, 2)
		copy(stray[16:], []byte{9, 9, 9, 9})
		w.homeDev.send <- stray
		time.Sleep(time.Second)
		if got := slices.Concat(w.homeDev.take(), w.dcDev.take(), w.cloudDev.take()); got != nil {
			t.Errorf("%d stray packets arrived", len(got))
		}
	})
}

func TestRoute(t *testing.T) {
	inWorld(t, 1, wan.Link{}, func(t *testing.T, w *world) {
		w.dc.Route(netip.MustParsePrefix("11.0.9.0/24"))
		w.cloud.Route(netip.MustParsePrefix("11.0.3.0/24"), netip.MustParsePrefix("11.0.2.0/24"))
		w.homeDev.send <- packet("home", "dc", 100, 1)
		time.Sleep(time.Second)
		if len(w.dcDev.take()) != 0 || len(w.cloudDev.take()) != 1 {
			t.Error("the address of dc moved to cloud; the packet did not")
		}
	})
}

// The rate holds over time and a packet's size counts: 1,250 bytes are 10 ms
// at 1 Mbit/s.
func TestRate(t *testing.T) {
	inWorld(t, 1, wan.Link{Delay: 5 * ms, Rate: 1e6, Queue: 1 << 20}, func(t *testing.T, w *world) {
		start := time.Now()
		for i := range 100 {
			w.homeDev.send <- packet("home", "dc", 1250, i)
		}
		time.Sleep(2 * time.Second)
		got := w.dcDev.take()
		if len(got) != 100 {
			t.Fatalf("%d of 100 packets arrived", len(got))
		}
		for i, a := range got {
			if want := time.Duration(i+1)*10*ms + 5*ms; a.at.Sub(start) != want {
				t.Fatalf("packet %d arrived after %v, want %v", i, a.at.Sub(start), want)
			}
		}
	})
}

func TestQueue(t *testing.T) {
	tests := []struct {
		name string
		link wan.Link
		pass int
	}{
		{"ten packets of a thousand bytes", wan.Link{Rate: 1e6, Queue: 10_000}, 10},
		{"one packet passes however small the queue", wan.Link{Rate: 1e6, Queue: 1}, 1},
		{"by default at least ten full packets", wan.Link{Rate: 1e6}, 15},
		{"by default 50 ms of the rate", wan.Link{Rate: 8e6}, 50},
		{"no rate, no queue", wan.Link{Queue: 1}, 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, 1, tt.link, func(t *testing.T, w *world) {
				for round := 1; round <= 2; round++ { // a queue that was full has room again
					for i := range 200 {
						w.homeDev.send <- packet("home", "dc", 1000, i)
					}
					time.Sleep(10 * time.Second)
					c := w.Path(w.home, w.dc).Counters()
					if got := len(w.dcDev.take()); got != tt.pass || int(c.Packets) != round*got || int(c.Overflowed) != round*(200-got) {
						t.Errorf("round %d: %d of 200 packets arrived, want %d; counters: %s", round, got, tt.pass, c)
					}
				}
			})
		})
	}
}

// A bulk transfer to one site delays what is sent to another, since both share
// the uplink; another site's traffic is not delayed.
func TestUplinkIsShared(t *testing.T) {
	inWorld(t, 1, wan.Link{}, func(t *testing.T, w *world) {
		w.home.Up.Set(wan.Link{Rate: 1e6, Queue: 1 << 20})
		start := time.Now()
		for i := range 100 {
			w.homeDev.send <- packet("home", "dc", 1250, i)
		}
		w.homeDev.send <- packet("home", "cloud", 125, 1)
		w.dcDev.send <- packet("dc", "cloud", 125, 2)
		time.Sleep(10 * time.Second)
		got := w.cloudDev.take()
		if len(got) != 2 || number(got[0].data) != 2 || got[0].at != start || got[1].at.Sub(start) != 1001*ms {
			t.Errorf("cloud got %v, want packet 2 at once, and packet 1 after 1.001s", got)
		}
	})
}

// The same seed loses the same packets, whatever other lines carry; others
// lose others, and the share is what was asked for.
func TestLossFollowsSeed(t *testing.T) {
	const n = 2000
	survivors := func(seed uint64, share float64, noise bool) (got []int) {
		inWorld(t, seed, wan.Link{Loss: share}, func(t *testing.T, w *world) {
			for i := range n {
				w.homeDev.send <- packet("home", "dc", 100, i)
				if noise {
					w.dcDev.send <- packet("dc", "home", 100, i)
				}
			}
			time.Sleep(time.Second)
			got = numbers(w.dcDev.take())
			if c := w.Path(w.home, w.dc).Counters(); int(c.Lost) != n-len(got) {
				t.Errorf("%d packets are missing; counters: %s", n-len(got), c)
			}
		})
		return got
	}
	for _, share := range []float64{0, 0.001, 0.01, 0.3, 1} {
		for seed := range uint64(5) {
			lost, sigma := float64(n-len(survivors(seed, share, false))), math.Sqrt(n*share*(1-share))
			if math.Abs(lost-n*share) > 5*sigma {
				t.Errorf("seed %d: lost %v of %d packets, want %v ± %.0f", seed, lost, n, n*share, 5*sigma)
			}
		}
	}
	first := survivors(1, 0.1, false)
	if !slices.Equal(first, survivors(1, 0.1, true)) {
		t.Error("the same seed lost other packets")
	}
	if slices.Equal(first, survivors(2, 0.1, false)) {
		t.Error("another seed lost the same packets")
	}
}

func TestLinesLoseDifferently(t *testing.T) {
	inWorld(t, 1, wan.Link{Loss: 0.5}, func(t *testing.T, w *world) {
		for i := range 100 {
			w.homeDev.send <- packet("home", "dc", 100, i)
			w.dcDev.send <- packet("dc", "home", 100, i)
		}
		time.Sleep(time.Second)
		if slices.Equal(numbers(w.dcDev.take()), numbers(w.homeDev.take())) {
			t.Error("both directions lost the same packets")
		}
	})
}

func TestJitterKeepsOrder(t *testing.T) {
	inWorld(t, 1, wan.Link{Delay: 20 * ms, Jitter: 10 * ms}, func(t *testing.T, w *world) {
		start := time.Now()
		for i := range 200 {
			w.homeDev.send <- packet("home", "dc", 100, i)
			time.Sleep(ms)
		}
		time.Sleep(time.Second)
		got := w.dcDev.take()
		if len(got) != 200 || !slices.IsSorted(numbers(got)) {
			t.Fatalf("packets arrived in the order %v", numbers(got))
		}
		different := map[time.Duration]bool{}
		for i, a := range got {
			d := a.at.Sub(start) - time.Duration(i)*ms
			if d < 20*ms || d > 30*ms {
				t.Errorf("packet %d took %v, want 20 to 30 ms", i, d)
			}
			different[d] = true
		}
		if len(different) < 50 {
			t.Errorf("only %d different delays in 200 packets", len(different))
		}
	})
}

func TestReorder(t *testing.T) {
	for _, by := range []time.Duration{0, 50 * ms} {
		inWorld(t, 1, wan.Link{Delay: 20 * ms, Reorder: 0.1, ReorderBy: by}, func(t *testing.T, w *world) {
			start := time.Now()
			for i := range 500 {
				w.homeDev.send <- packet("home", "dc", 100, i)
				time.Sleep(ms)
			}
			time.Sleep(time.Second)
			late, held := 0, 25*ms
			if by > 0 {
				held = 20*ms + by
			}
			for _, a := range w.dcDev.take() {
				switch d := a.at.Sub(start) - time.Duration(number(a.data))*ms; d {
				case 20 * ms:
				case held:
					late++
				default:
					t.Errorf("packet %d took %v, want 20ms or %v", number(a.data), d, held)
				}
			}
			if late < 20 || late > 80 {
				t.Errorf("%d of 500 packets were held back, want about 50", late)
			}
		})
	}
}

// From the moment Cut returns nothing arrives, in that direction only; what is
// sent after Heal does.
func TestCut(t *testing.T) {
	inWorld(t, 1, wan.Link{Delay: 20 * ms, Rate: 1e6}, func(t *testing.T, w *world) {
		path := w.Path(w.home, w.dc)
		w.homeDev.send <- packet("home", "dc", 1250, 1)
		time.Sleep(15 * ms) // it is on the line
		path.Cut()
		w.homeDev.send <- packet("home", "dc", 1250, 2)
		w.dcDev.send <- packet("dc", "home", 1250, 3)
		path.Set(wan.Link{Delay: ms}) // mends nothing
		w.homeDev.send <- packet("home", "dc", 1250, 4)
		time.Sleep(time.Second)
		if got := w.dcDev.take(); got != nil {
			t.Errorf("packets %v arrived over a cut line", numbers(got))
		}
		if got := w.homeDev.take(); len(got) != 1 {
			t.Errorf("%d packets arrived in the direction that is not cut, want 1", len(got))
		}
		if c := path.Counters(); c.Cut != 3 || c.Packets != 0 || c.Dropped() != 3 {
			t.Errorf("counters: %s; want 3 cut off", c)
		}
		path.Set(wan.Link{Delay: 20 * ms})
		w.homeDev.send <- packet("home", "dc", 1250, 4)
		synctest.Wait()
		path.Heal() // before the packet would have arrived
		w.homeDev.send <- packet("home", "dc", 1250, 5)
		time.Sleep(time.Second)
		if got := numbers(w.dcDev.take()); !slices.Equal(got, []int{5}) {
			t.Errorf("after Heal packets %v arrived, want 5", got)
		}
	})
}

func TestAccessCutIsolates(t *testing.T) {
	inWorld(t, 1, wan.Link{}, func(t *testing.T, w *world) {
		w.home.Access().Cut()
		w.homeDev.send <- packet("home", "dc", 100, 1)
		w.cloudDev.send <- packet("cloud", "home", 100, 2)
		w.cloudDev.send <- packet("cloud", "dc", 100, 3)
		time.Sleep(time.Second)
		if a, b := w.homeDev.take(), numbers(w.dcDev.take()); a != nil || !slices.Equal(b, []int{3}) {
			t.Errorf("home got %v, dc got %v; want nothing, and packet 3", numbers(a), b)
		}
		if up, path := w.home.Up.Counters(), w.Path(w.home, w.dc).Counters(); up.Cut != 1 || path.Cut != 1 {
			t.Errorf("cut off were %d at the uplink and %d of the path, want 1 and 1", up.Cut, path.Cut)
		}
		w.home.Access().Heal()
		w.homeDev.send <- packet("home", "dc", 100, 4)
		time.Sleep(time.Second)
		if got := w.dcDev.take(); len(got) != 1 {
			t.Error("home is still alone after Heal")
		}
	})
}

// A faster line empties the queue faster; a shorter one lets new packets
// overtake those that are on their way.
func TestChangeWhileRunning(t *testing.T) {
	inWorld(t, 1, wan.Link{Rate: 1e6, Queue: 1 << 20}, func(t *testing.T, w *world) {
		start := time.Now()
		for i := range 100 {
			w.homeDev.send <- packet("home", "dc", 1250, i)
		}
		time.Sleep(95 * ms) // nine are through, the tenth is half
		w.Path(w.home, w.dc).Change(func(l *wan.Link) { l.Rate = 10e6 })
		time.Sleep(time.Second)
		got := w.dcDev.take()
		// Ten took 10 ms each, the other 90 take 1 ms each.
		if last := got[len(got)-1].at.Sub(start); len(got) != 100 || last != 190*ms {
			t.Errorf("%d packets, the last after %v; want 100 and 190ms", len(got), last)
		}
		lines := w.Between(w.home, w.dc)
		lines.Set(wan.Link{Delay: time.Second})
		w.homeDev.send <- packet("home", "dc", 100, 1)
		synctest.Wait()
		lines.Change(func(l *wan.Link) { l.Delay = ms })
		w.homeDev.send <- packet("home", "dc", 100, 2)
		time.Sleep(2 * time.Second)
		if got := numbers(w.dcDev.take()); !slices.Equal(got, []int{2, 1}) {
			t.Errorf("packets arrived in the order %v, want 2 1", got)
		}
		if l := w.Path(w.home, w.dc).Link(); l.Delay != ms || l.Rate != 0 {
			t.Errorf("Link() is %+v, want what was set", l)
		}
	})
}

func TestPathsAreNamed(t *testing.T) {
	inWorld(t, 1, wan.Link{}, func(t *testing.T, w *world) {
		w.Path(w.home, w.dc)
		w.dcDev.send <- packet("dc", "cloud", 100, 1)
		time.Sleep(ms)
		var names []string
		for _, l := range w.Paths() {
			names = append(names, l.Name())
		}
		if got := strings.Join(names, ", "); got != "dc to cloud, home to dc" {
			t.Errorf("paths are %q", got)
		}
	})
}

func TestRunFailsWithItsDevices(t *testing.T) {
	tests := []struct {
		name string
		hurt func(home, dc *device)
		want string
	}{
		{"a device cannot be read", func(home, dc *device) { home.send <- nil }, "read packet from site home: cable burnt"},
		{"a device cannot be written", func(home, dc *device) {
			dc.broken = errors.New("cable cut")
			home.send <- packet("home", "dc", 100, 1)
		}, "write packet to site dc: cable cut"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{Network: wan.New(1, wan.Link{}), homeDev: newDevice(), dcDev: newDevice()}
				w.attach(t, "home", w.homeDev)
				w.attach(t, "dc", w.dcDev)
				done := make(chan error)
				go func() { done <- w.Run(t.Context()) }()
				tt.hurt(w.homeDev, w.dcDev)
				if err := <-done; fmt.Sprint(err) != tt.want {
					t.Errorf("Run: %v, want %s", err, tt.want)
				}
				if err := w.Run(t.Context()); err == nil {
					t.Error("a network ran twice")
				}
				if _, err := w.Attach("late", newDevice()); err == nil {
					t.Error("a site was attached to a network that has stopped")
				}
			})
		})
	}
}

func TestNamesOfSitesAreUnique(t *testing.T) {
	n := wan.New(1, wan.Link{})
	if _, err := n.Attach("home", newDevice()); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Attach("home", newDevice()); err == nil {
		t.Error("two sites have the same name")
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := n.Run(ctx); err != nil {
		t.Errorf("Run with a context that is done: %v", err)
	}
}

func TestImpossibleLinksPanic(t *testing.T) {
	for _, l := range []wan.Link{{Loss: 1.1}, {Loss: -0.1}, {Delay: -1}, {Rate: -1}, {Reorder: 2}, {MTU: -1}, {Queue: -1}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v was accepted", l)
				}
			}()
			wan.New(1, l)
		}()
	}
}
