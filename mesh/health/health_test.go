package health

import (
	"fmt"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const ms = time.Millisecond

func alive(path string, rtt time.Duration) Seen {
	return Seen{Gossip: "alive", Path: path, Heard: start, RTT: rtt}
}

// What is seen, second by second, and the state that follows.
func TestStates(t *testing.T) {
	type step struct {
		at   int // seconds
		seen Seen
		want State
	}
	none := Seen{Path: "none"}
	failed := Seen{Gossip: "failed", Path: "none", Heard: start}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"never heard of", []step{{0, none, Unknown}, {3600, none, Unknown}}},
		{"it comes, dies, and comes back", []step{{0, none, Unknown}, {5, alive("direct", 0), Up}, {60, failed, Down}, {90, alive("relay", 0), Up}}},
		{"it dies, and a stream does not know it yet", []step{{0, alive("direct", 0), Up}, {15, Seen{Gossip: "failed", Path: "direct", Heard: start}, Down}}},
		{"it says farewell", []step{{0, alive("direct", 0), Up}, {9, Seen{Gossip: "left", Path: "none"}, Left}}},
		{"no gossip with it, but a path", []step{{0, Seen{Path: "direct", Heard: start}, Up}, {9, Seen{Path: "none", Heard: start}, Down}}},
		{"a path changes", []step{{0, alive("direct", 0), Up}, {5, alive("none", 0), Up}, {15, alive("relay", 0), Up}, {20, alive("none", 0), Up}, {39, alive("none", 0), Up}}},
		{"only others reach it", []step{{0, alive("direct", 0), Up}, {5, alive("none", 0), Up}, {25, alive("none", 0), Apart}, {30, alive("direct", 0), Up}}},
		{"only others ever reached it", []step{{0, alive("none", 0), Apart}}},
	} {
		tr := New(nil)
		for _, s := range tt.steps {
			tr.Look(start.Add(time.Duration(s.at)*time.Second), map[string]Seen{"a": s.seen})
			if p, _ := tr.Peer("a"); p.State != s.want {
				t.Errorf("%s: after %d s it is %s, want %s", tt.name, s.at, p.State, s.want)
			} else if (p.Text() == "") != (s.want == Up) {
				t.Errorf("%s: after %d s it is %s, and the text is %q", tt.name, s.at, s.want, p.Text())
			}
		}
	}
}

// A full line makes a node slow, not down, and one late answer does not.
func TestFullLine(t *testing.T) {
	tr, at := New(nil), start
	see := func(n int, rtt time.Duration) State {
		for range n {
			at = at.Add(5 * time.Second)
			tr.Look(at, map[string]Seen{"a": alive("direct", rtt)})
		}
		p, _ := tr.Peer("a")
		return p.State
	}
	for _, s := range []struct {
		n    int
		rtt  time.Duration
		want State
	}{{20, 40 * ms, Up}, {1, 1200 * ms, Up}, {20, 40 * ms, Up}, {20, 1200 * ms, Slow}, {2, 40 * ms, Slow}, {11, 40 * ms, Slow}, {40, 40 * ms, Up}, {40, 120 * ms, Up}} {
		if got := see(s.n, s.rtt); got != s.want {
			p, _ := tr.Peer("a")
			t.Errorf("%d times %v: %s, want %s; %+v", s.n, s.rtt, got, s.want, p)
		}
	}
	see(900, 400*ms) // another route, for more than an hour: that is how it is now
	if got := see(200, 400*ms); got != Up {
		t.Errorf("a longer way for good is %s", got)
	}
}

// Changes are told once, in order, and who is no member any more is forgotten.
func TestTold(t *testing.T) {
	var told []string
	tr := New(func(p Peer, was State) { told = append(told, fmt.Sprint(p.Node, " ", was, " ", p.State)) })
	both := map[string]Seen{"a": alive("direct", 0), "b": alive("relay", ms)}
	tr.Look(start, both)
	tr.Look(start.Add(time.Second), both)
	tr.Look(start.Add(2*time.Second), map[string]Seen{"b": {Gossip: "failed", Path: "none"}})
	if got, want := fmt.Sprint(told), "[a unknown up b unknown up b up down]"; got != want {
		t.Errorf("told %s, want %s", got, want)
	}
	if _, is := tr.Peer("a"); is || len(tr.Peers()) != 1 {
		t.Errorf("%+v", tr.Peers())
	}
	if p := tr.Peers()[0]; p.Changes != 2 || !p.Since.Equal(start.Add(2*time.Second)) || p.RTT != ms {
		t.Errorf("%+v", p)
	}
}
