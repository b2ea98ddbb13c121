package gossip

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/holdfast-mesh/holdfast/mesh/network"
)

// A liar is a member whose gossip says what we tell it to.
type liar struct {
	*node
	c    *crowd
	conn network.PacketConn
}

// newLiar takes the place of a node of the crowd.
func newLiar(c *crowd, x *node) *liar {
	c.t.Helper()
	c.halt(x)
	conn, err := c.net.Node(x.name).ListenPacket(network.ServiceGossip)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { conn.Close() })
	return &liar{x, c, conn}
}

func (l *liar) packet(to *node, b []byte) {
	l.c.t.Helper()
	if err := l.conn.WriteTo(b, to.name); err != nil {
		l.c.t.Fatal(err)
	}
}

// push sends states by a stream, and waits for the answer.
func (l *liar) push(to *node, states ...told) {
	l.c.t.Helper()
	conn, err := l.c.net.Node(l.name).Dial(l.c.t.Context(), to.name, network.ServiceGossip)
	if err != nil {
		l.c.t.Fatal(err)
	}
	defer conn.Close()
	b := message(msgPushPull, map[string]any{"Nodes": len(states), "UserStateLen": 0, "Join": false})
	for _, s := range states {
		b = append(b, message(0, s)[1:]...)
	}
	conn.Write(b)
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	io.Copy(io.Discard, conn)
}

// told is the state of a node as a push carries it.
type told struct {
	Name        string
	Addr        []byte
	Port        uint16
	Meta        []byte
	Incarnation uint32
	State       int
	Vsn         []uint8
}

func checked(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{msgChecked}, crc32.ChecksumIEEE(b)), b...)
}

// metaAt is what the node has signed, as another has it.
func metaAt(x, of *node) []byte {
	x.mu.Lock()
	defer x.mu.Unlock()
	return bytes.Clone(x.peers[of.name].signed)
}

// versionAt is the version of a node, as another has it.
func versionAt(x, of *node) string {
	for _, p := range x.Peers() {
		if p.Node == of.name {
			return p.Meta.Version
		}
	}
	return ""
}

// A member that says that another is dead, has left, or lives with the highest number that
// there is, whichever way, is not believed for long, and the other is heard as before. (A
// tester's one packet with that number made all others show a node that worked as down for
// ever: memberlist's answer to it began again at nought.)
func TestLiesDoNotLast(t *testing.T) {
	const high = math.MaxUint32
	lies := map[string]func(l *liar, at, victim *node, meta []byte){
		"dead": func(l *liar, at, victim *node, _ []byte) {
			l.packet(at, message(msgDead, dead{high, victim.name, l.name}))
		},
		"dead, and one less": func(l *liar, at, victim *node, _ []byte) {
			l.packet(at, join([][]byte{message(msgDead, dead{high, victim.name, l.name}), message(msgDead, dead{high - 1, victim.name, l.name})}))
		},
		"left": func(l *liar, at, victim *node, _ []byte) {
			l.packet(at, checked(message(msgDead, dead{high, victim.name, victim.name})))
		},
		"suspect": func(l *liar, at, victim *node, _ []byte) {
			for _, from := range l.c.nodes {
				l.packet(at, message(msgSuspect, dead{high, victim.name, from.name}))
			}
		},
		"alive": func(l *liar, at, victim *node, meta []byte) {
			l.packet(at, message(msgAlive, alive{high, victim.name, address(victim.name), network.ServiceGossip, meta, vsn}))
		},
		"alive, as high as may be": func(l *liar, at, victim *node, meta []byte) {
			for i := range uint32(3) {
				l.packet(at, message(msgAlive, alive{1<<24 - i, victim.name, address(victim.name), network.ServiceGossip, meta, vsn}))
			}
		},
		"dead and left, at a number that it has": func(l *liar, at, victim *node, _ []byte) {
			for range 5 {
				n := at.incarnationNow(victim, false)
				l.packet(at, message(msgDead, dead{n, victim.name, victim.name}))
				l.packet(at, message(msgDead, dead{n, victim.name, l.name}))
			}
		},
		"a push of a number that it has": func(l *liar, at, victim *node, meta []byte) {
			for _, state := range []int{pushedLeft, pushedDead, pushedSuspect, pushedAlive} {
				l.push(at, told{victim.name, address(victim.name), network.ServiceGossip, meta, at.incarnationNow(victim, false), state, vsn})
			}
		},
		"a push of it": func(l *liar, at, victim *node, meta []byte) {
			for state := range 4 {
				l.push(at, told{victim.name, address(victim.name), network.ServiceGossip, meta, high, state, vsn})
			}
		},
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCrowd(t, 5)
				c.within(30*time.Second, "converge", func() bool { return together(c.nodes) })
				c.nodes[1].Publish(Meta{Version: "before"})
				time.Sleep(30 * time.Second)
				victim, rest := c.nodes[1], c.nodes[1:]
				meta := metaAt(c.nodes[2], victim)
				bad := newLiar(c, c.nodes[0])
				c.within(30*time.Second, "it left", func() bool { return together(rest) })
				for range 3 {
					for _, at := range rest {
						lie(bad, at, victim, meta)
					}
					time.Sleep(3 * time.Second)
				}
				c.within(15*time.Second, "the lie ends", func() bool { return together(rest) })
				victim.Publish(Meta{Version: "after"})
				c.within(30*time.Second, "what the victim says is heard", func() bool {
					return versionAt(rest[1], victim) == "after" && versionAt(rest[2], victim) == "after" && versionAt(rest[3], victim) == "after"
				})
				time.Sleep(3 * time.Minute)
				if !together(rest) {
					t.Error("the lie comes back")
				}
				for _, x := range rest[1:] {
					if n := x.heardOf(Failed, victim) + x.heardOf(Left, victim); n != 0 {
						t.Errorf("%s took it for dead %d times", x.name, n)
					}
				}
			})
		})
	}
}

func (x *node) logTo(w io.Writer) {
	x.refused.mu.Lock()
	defer x.refused.mu.Unlock()
	x.refused.log = slog.New(slog.NewTextHandler(w, nil))
}

// A member that lies all the time does not keep another down, and is named.
func TestLiesWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 5)
		c.within(30*time.Second, "converge", func() bool { return together(c.nodes) })
		c.nodes[1].Publish(Meta{Version: "before"})
		time.Sleep(30 * time.Second)
		victim, at := c.nodes[1], c.nodes[2]
		meta := metaAt(at, victim)
		bad := newLiar(c, c.nodes[0])
		rest := c.nodes[1:]
		c.within(30*time.Second, "it left", func() bool { return together(rest) })
		var log bytes.Buffer
		at.logTo(&log)
		var victims bytes.Buffer
		victim.logTo(&victims)
		down := 0
		for i := range uint32(3000) { // five minutes
			for _, x := range slices.Repeat(rest, 2) {
				n := x.incarnationNow(victim, false)
				bad.packet(x, message(msgDead, dead{n, victim.name, bad.name}))
				bad.packet(x, message(msgDead, dead{n, victim.name, victim.name}))
				bad.packet(x, message(msgSuspect, dead{math.MaxUint32, victim.name, bad.name}))
				bad.packet(x, message(msgAlive, alive{baseReach + 2*i, victim.name, address(victim.name), network.ServiceGossip, meta, vsn}))
			}
			time.Sleep(100 * time.Millisecond)
			if at.state(victim) != Alive {
				down++
			}
		}
		if down > 0 {
			t.Errorf("it was shown as down for %d of 3,000 looks", down)
		}
		for _, x := range []*node{at, victim} {
			x.logTo(io.Discard)
		}
		if n := strings.Count(log.String(), bad.name); n < 5 || n > 30 {
			t.Errorf("the liar is named %d times in five minutes:\n%s", n, log.String())
		}
		for _, x := range rest {
			if strings.Contains(log.String()+victims.String(), x.name) {
				t.Errorf("an honest one is named:\n%s%s", log.String(), victims.String())
			}
		}
		if n := strings.Count(victims.String(), bad.name); n < 5 {
			t.Errorf("at the victim the liar is named %d times:\n%s", n, victims.String())
		}
		if n := victim.incarnationNow(victim, false); n < baseReach+5*reachStep {
			t.Errorf("the victim was driven to %d only, so this shows little", n)
		}
		victim.Publish(Meta{Version: "after"})
		c.within(time.Minute, "what it says is heard", func() bool { return versionAt(at, victim) == "after" })
	})
}

// A node that was driven far by lies, and is started again, is believed as before: the
// others hold what it has signed in the life before. A member that is new believes it, too.
func TestDrivenFar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 4)
		c.within(30*time.Second, "converge", func() bool { return together(c.nodes) })
		c.nodes[1].Publish(Meta{Version: "before", Started: 1})
		time.Sleep(30 * time.Second)
		victim, others := c.nodes[1], c.nodes[2:]
		meta := metaAt(others[0], victim)
		bad := newLiar(c, c.nodes[0])
		for range 5 {
			for _, x := range others {
				bad.packet(x, message(msgAlive, alive{others[0].incarnationNow(victim, true), victim.name, address(victim.name), network.ServiceGossip, meta, vsn}))
			}
			time.Sleep(5 * time.Second)
		}
		if n := others[0].incarnationNow(victim, false); n < baseReach+2*reachStep {
			t.Fatalf("it was not driven far: %d", n)
		}
		for _, started := range []int64{2, 3} {
			c.die(victim)
			if started == 3 {
				time.Sleep(5 * time.Second) // not for long enough that it is noticed
			} else {
				c.within(30*time.Second, "its death is known", func() bool { return others[0].alive() == 1 && others[1].alive() == 1 })
			}
			c.net.Up(victim.name)
			c.start(victim)
			victim.Publish(Meta{Version: "again", Started: started})
			c.within(30*time.Second, "it is back", func() bool {
				return together(c.nodes[1:]) && lifeAt(others[0], victim) == started && lifeAt(others[1], victim) == started
			})
		}
		c.halt(others[1])
		time.Sleep(time.Minute)
		c.start(others[1])
		c.within(30*time.Second, "a new member believes it", func() bool { return together(c.nodes[1:]) && lifeAt(others[1], victim) == 3 })
	})
}

// incarnationNow is how far the number of another has come, or may.
func (x *node) incarnationNow(of *node, reach bool) uint32 {
	x.mu.Lock()
	defer x.mu.Unlock()
	i := x.incarnationOf(of.name)
	if reach {
		return i.reach()
	}
	return i.known
}

func lifeAt(x, of *node) int64 {
	for _, p := range x.Peers() {
		if p.Node == of.name {
			return p.Meta.Started
		}
	}
	return 0
}

// A record that is poisoned in spite of all ends by itself, without a restart of anybody.
func TestPoisonedRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 4)
		c.within(30*time.Second, "converge", func() bool { return together(c.nodes) })
		victim := c.nodes[1]
		for _, x := range c.nodes {
			x.mu.Lock()
			in := x.transport.in
			x.mu.Unlock()
			for _, n := range []uint32{math.MaxUint32, math.MaxUint32 - 1} { // past the screen
				in <- &memberlist.Packet{Buf: message(msgDead, dead{n, victim.name, victim.name}), From: addr(joinAddress(c.nodes[0].name)), Timestamp: time.Now()}
			}
		}
		c.within(10*time.Second, "it is down", func() bool { return c.nodes[0].alive() == 2 })
		t.Logf("ended after %v", c.within(2*time.Minute, "it ends", func() bool { return together(c.nodes) }))
		time.Sleep(5 * time.Minute)
		victim.Publish(Meta{Version: "after"})
		c.within(time.Minute, "it is heard", func() bool {
			return versionAt(c.nodes[0], victim) == "after" && versionAt(c.nodes[3], victim) == "after"
		})
		if !together(c.nodes) {
			t.Error("it comes back")
		}
	})
}

// A farewell is known by who hears of it from others only, also in a crowd in which the
// node speaks with few; one of a life before says nothing of the life of now.
func TestFarewellByWayOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 25)
		c.within(30*time.Second, "converge", func() bool { return together(c.nodes) })
		last := c.nodes[24]
		last.Publish(Meta{Started: 7})
		time.Sleep(30 * time.Second)
		old := append([]byte{msgUser}, sign(newsDomain, last.name, last.key, encode(News{Kind: newsFarewell, Node: last.name, Seq: time.Now().UnixMilli(), Data: encode(lastWord{7, 5})}))...)
		c.halt(last)
		c.within(90*time.Second, "a farewell is known", func() bool { return together(c.nodes[:24]) })
		gone := 0
		for _, x := range c.nodes[:24] {
			if x.state(last) == Gone {
				gone++
			}
		}
		if gone < 22 { // one in a thousand is not reached by gossip, and finds out that it is down
			t.Errorf("%d of 24 know that it has left", gone)
		}
		c.start(last)
		last.Publish(Meta{Started: 8})
		c.within(3*time.Minute, "it is back", func() bool {
			return together(c.nodes) && !slices.ContainsFunc(c.nodes[:24], func(x *node) bool { return lifeAt(x, last) != 8 })
		})
		bad := newLiar(c, c.nodes[3])
		c.nodes = slices.Delete(c.nodes, 3, 4)
		c.within(30*time.Second, "another left", func() bool { return together(c.nodes) })
		for _, x := range c.nodes[:8] {
			bad.packet(x, join([][]byte{message(msgDead, dead{3, last.name, last.name}), old}))
		}
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			for _, x := range c.nodes[:8] {
				if x.state(last) != Alive {
					t.Fatalf("%s believes an old farewell: %v", x.name, x.state(last))
				}
			}
		}
	})
}

// Who accuses others all the time is heard sixteen times, and then four times a second.
func TestFloodOfAccusations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := one(t)
		heard := func() (n int) {
			for range 1000 {
				if g.screen("friend", message(msgDead, dead{0, "other", "friend"})) != nil {
					n++
				}
			}
			return n
		}
		if n := heard(); n != rumourBurst {
			t.Errorf("heard %d times at once", n)
		}
		time.Sleep(2 * time.Second)
		if n := heard(); n != 2*rumourRate {
			t.Errorf("heard %d times after two seconds", n)
		}
		if g.screen("other", message(msgDead, dead{0, "friend", "other"})) == nil {
			t.Error("others are not heard")
		}
	})
}
