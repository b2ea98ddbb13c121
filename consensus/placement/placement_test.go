package placement

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// parse reads a state: "ID@SITE/FLAGS …" with the flags V voter, L leader, b
// behind, - not in the group yet, x not a member, n without vote, and behind
// ":" how long it has been healthy, or behind "!" how long unheard of.
func parse(text string) State {
	s := State{Now: now}
	for _, field := range strings.Fields(text) {
		id, rest, _ := strings.Cut(field, "@")
		site, flags, _ := strings.Cut(rest, "/")
		server := Server{ID: id, Seen: now, Healthy: now.Add(-48 * time.Hour)}
		if f, dead, is := strings.Cut(flags, "!"); is {
			d, _ := time.ParseDuration(dead)
			flags, server.Seen, server.Healthy = f, now.Add(-d), time.Time{}
		} else if f, healthy, is := strings.Cut(flags, ":"); is {
			d, _ := time.ParseDuration(healthy)
			flags, server.Healthy = f, now.Add(-d)
		}
		server.Voter, server.Leader = strings.ContainsAny(flags, "VL"), strings.Contains(flags, "L")
		if strings.Contains(flags, "b") {
			server.Behind = 500
		}
		if !strings.Contains(flags, "-") {
			s.Servers = append(s.Servers, server)
		}
		if !strings.Contains(flags, "x") {
			s.Members = append(s.Members, Member{ID: id, Site: site, Votes: !strings.Contains(flags, "n")})
		}
	}
	return s
}

func TestNext(t *testing.T) {
	tests := []struct{ name, state, want string }{
		{"alone", "a@1/L", ""},
		{"a new member follows", "a@1/L b@2/-", "add b"},
		{"who may vote follows first", "a@1/L b@2/n- c@3/-", "add c"},
		{"two sites keep one voter", "a@1/L b@2/", ""},
		{"two nodes at one site too", "a@1/L b@1/ c@1/", ""},
		{"three sites: the first of two", "a@1/L b@2/:40s c@3/:60s", "promote c"},
		{"three sites: the second", "a@1/L b@2/:40s c@3/V", "promote b"},
		{"not before it is steady", "a@1/L b@2/:20s c@3/:20s", ""},
		{"nor if only one is", "a@1/L b@2/:20s c@3/:60s", ""},
		{"nor if it is behind", "a@1/L b@2/b c@3/", ""},
		{"nor if it may not vote", "a@1/L b@2/n c@3/", ""},
		{"never two at a site", "a@1/L b@1/ c@3/", ""},
		{"three are enough for a day", "a@1/L b@2/V c@3/V d@4/:2h e@5/:2h", ""},
		{"then five", "a@1/L b@2/V c@3/V d@4/:25h e@5/:25h", "promote d"},
		{"not four", "a@1/L b@2/V c@3/V d@4/:25h", ""},
		{"never seven", "a@1/L b@2/V c@3/V d@4/V e@5/V f@6/ g@7/", ""},
		{"a voter away for a while stays", "a@1/L b@2/V!29m c@3/V d@4/", ""},
		{"a dead one is replaced", "a@1/L b@2/V!31m c@3/V d@4/", "promote d"},
		{"from its own site if need be", "a@1/L b@2/V!31m c@3/V d@2/", "promote d"},
		{"and then demoted", "a@1/L b@2/V!31m c@3/V d@4/V", "demote b"},
		{"not if nobody can stand in", "a@1/L b@2/V!31m c@3/V d@1/", ""},
		{"not by who has just come", "a@1/L b@2/V!31m c@3/V d@4/:20s", ""},
		{"nothing without a quorum", "a@1/L b@2/V!31m c@3/V!31m d@4/ e@5/", ""},
		{"who is no member goes", "a@1/L b@2/x c@3/V", "remove b"},
		{"a voter too", "a@1/L b@2/Vx c@3/V d@4/V", "remove b"},
		{"not if the rest has no quorum", "a@1/L b@2/Vx c@3/V!1m", ""},
		{"the leader stays for now", "a@1/Lx b@2/V c@3/V", ""},
		{"who may not vote any more", "a@1/L b@2/Vn c@3/V", "demote b"},
		{"the only voter leaves", "a@1/Ln b@2/ c@3/n", "promote b"},
		{"nobody is steady yet", "a@1/Ln b@2/:10s", ""},
		{"it hands over", "a@1/Ln b@2/V", "transfer b"},
		{"not to one that is behind", "a@1/Ln b@2/Vb", ""},
		{"nor to one that leaves", "a@1/Ln b@2/Vn c@3/V", "transfer c"},
		{"nor to one that is away", "a@1/Ln b@2/V!1m c@3/V", "transfer c"},
		{"then it loses its vote", "a@1/Vn b@2/L", "demote a"},
		{"two voters of one site", "a@1/L b@2/V c@2/V", "demote c"},
		{"an even number without a third", "a@1/L b@2/V", "demote b"},
		{"waits for the third", "a@1/L b@2/V c@3/:10s", ""},
		{"nine follow at most", "a@1/L b@2/V c@3/V d@4/V e@5/V f@6/ g@7/ h@8/ i@9/ j@10/-", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if c, ok := Next(parse(tt.state)); ok {
				got = c.Kind + " " + c.ID
			}
			if got != tt.want {
				t.Errorf("Next(%s) = %q, want %q", tt.state, got, tt.want)
			}
		})
	}
	s := parse("a@1/L b@2/V c@3/V d@4/:25h e@5/:25h")
	s.Changed = now.Add(-29 * time.Minute)
	if c, ok := Next(s); ok {
		t.Errorf("a second change within half an hour: %s", c)
	}
}

// Whatever the group looks like, a change never leaves it without a quorum,
// with two new voters at a site, or more than five; and if nothing else
// happens, the changes end.
func TestChangesAreSafeAndEnd(t *testing.T) {
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 0))
		s := State{Now: now}
		for i := range 1 + rng.IntN(9) {
			id := string(rune('a' + i))
			s.Members = append(s.Members, Member{id, fmt.Sprint(rng.IntN(5)), rng.IntN(5) > 0})
			if rng.IntN(4) == 0 && i > 0 {
				continue
			}
			server := Server{ID: id, Voter: i == 0 || rng.IntN(2) == 0, Leader: i == 0, Seen: now, Healthy: now.Add(-25 * time.Hour)}
			if i > 0 && rng.IntN(4) == 0 {
				server.Seen, server.Healthy = now.Add(-time.Duration(rng.IntN(60))*time.Minute), time.Time{}
			}
			s.Servers = append(s.Servers, server)
		}
		if alive, n := quorum(s); alive <= n/2 {
			continue // it would have no leader
		}
		steps := 0
		for c, ok := Next(s); ok; c, ok = Next(s) {
			if steps++; steps > 40 {
				t.Fatalf("seed %d: it does not end: %s", seed, c)
			}
			before := len(s.Servers)
			carryOut(&s, c)
			if alive, n := quorum(s); alive <= n/2 && c.Kind != Add {
				t.Fatalf("seed %d: %s leaves %d of %d voters alive", seed, c, alive, n)
			}
			if c.Kind == Add && len(s.Servers) != before+1 {
				t.Fatalf("seed %d: %s of who is there", seed, c)
			}
		}
	}
}

func quorum(s State) (alive, voters int) {
	for _, v := range s.Servers {
		if v.Voter {
			voters++
			if v.Leader || s.Now.Sub(v.Seen) < Alive {
				alive++
			}
		}
	}
	return alive, voters
}

func carryOut(s *State, c Change) {
	for i := range s.Servers {
		if s.Servers[i].ID == c.ID {
			switch c.Kind {
			case Promote:
				s.Servers[i].Voter = true
			case Demote:
				s.Servers[i].Voter = false
			case Transfer:
				for j := range s.Servers {
					s.Servers[j].Leader = j == i
				}
			case Remove:
				s.Servers = append(s.Servers[:i], s.Servers[i+1:]...)
			}
			return
		}
	}
	if c.Kind == Add {
		s.Servers = append(s.Servers, Server{ID: c.ID, Seen: s.Now, Healthy: s.Now.Add(-25 * time.Hour)})
	}
}

// Every look costs a connection to each node, so who has all it wants looks less
// often.
func TestLook(t *testing.T) {
	now := time.Unix(1e9, 0)
	state := func(n int) State {
		s := State{Now: now}
		for i := range n {
			id := fmt.Sprint("n", i)
			s.Members = append(s.Members, Member{ID: id, Site: id, Votes: true})
			s.Servers = append(s.Servers, Server{ID: id, Voter: true, Leader: i == 0, Seen: now, Healthy: now})
		}
		return s
	}
	tests := []struct {
		name  string
		state State
		spoil func(*State)
		want  time.Duration
	}{
		{"all is well", state(3), func(*State) {}, LookLater},
		{"the cluster is young", state(2), func(*State) {}, LookSoon},
		{"one is silent", state(3), func(s *State) { s.Servers[2].Seen = now.Add(-LookLater) }, LookSoon},
		{"one does not keep up", state(3), func(s *State) { s.Servers[2].Healthy = time.Time{} }, LookSoon},
		{"one is no server yet", state(4), func(s *State) { s.Servers = s.Servers[:3] }, LookSoon},
	}
	for _, tt := range tests {
		tt.spoil(&tt.state)
		if got := tt.state.Look(); got != tt.want {
			t.Errorf("%s: again in %v, want %v", tt.name, got, tt.want)
		}
	}
}
