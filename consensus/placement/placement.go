// Package placement decides who votes. It is a pure function from what is
// known of the members to a plan of one change, with the reason.
//
// The rules: at most [MaxVoters] voters and at most one at a site. An odd
// number of them: a second voter at a second site would make the loss of
// either site stop changes, so two sites have one voter and a standby. Until
// there are three voters at three sites a standby is promoted when it has been
// steady for [YoungSteady]; after that only after [Steady], and one change in
// [Pace]. A voter that is dead is replaced, never only removed. No change is
// made after which fewer than a quorum of the new voters would be alive. Only
// an operator removes a member.
package placement

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// The numbers of the rules, for nodes at the ends of home uplinks.
const (
	MaxVoters   = 5
	MaxStandbys = 4                // who follows beside the voters
	Alive       = 15 * time.Second // since a node was last heard of
	MaxBehind   = 1000             // entries that a node that keeps up may be behind
	CaughtUp    = 16               // the same for one that is to vote
	YoungSteady = 30 * time.Second
	Steady      = 24 * time.Hour
	Replacement = time.Minute      // steady enough to stand in for a dead voter
	Dead        = 30 * time.Minute // unheard of, to be replaced
	Pace        = 30 * time.Minute

	LookSoon  = 5 * time.Second
	LookLater = 12 * time.Second // less than Alive
)

// A Member is what the ledger says of a node.
type Member struct {
	ID    string
	Site  string
	Votes bool // whether its role lets it vote, and it is not leaving
}

// A Server is a member of the Raft group, as its leader sees it.
type Server struct {
	ID      string
	Voter   bool
	Leader  bool
	Seen    time.Time // last heard of
	Healthy time.Time // since when it has been heard of and kept up; zero: it does not
	Behind  uint64    // entries
}

// The kinds of change.
const (
	Add      = "add"     // as a standby
	Promote  = "promote" // to a voter
	Demote   = "demote"  // to a standby
	Remove   = "remove"
	Transfer = "transfer" // leadership to a voter
)

// A Change is one step, and why.
type Change struct{ Kind, ID, Why string }

func (c Change) String() string { return fmt.Sprintf("%s %s: %s", c.Kind, c.ID, c.Why) }

// A State is everything that a decision is made of.
type State struct {
	Now     time.Time
	Changed time.Time // when a voter was last changed; zero: not that this leader knows
	Members []Member
	Servers []Server
}

// Next returns the next change; false if all is as it should be.
func Next(s State) (Change, bool) {
	p := newPlan(s)
	for _, rule := range []func() (Change, bool){p.leaving, p.adding, p.handing, p.unfit, p.replacing, p.surplus, p.promoting} {
		if c, ok := rule(); ok {
			return c, true
		}
	}
	return Change{}, false
}

type plan struct {
	State
	member map[string]Member
	voters []Server
	sites  map[string]int // voters at each
}

func newPlan(s State) *plan {
	p := &plan{State: s, member: map[string]Member{}, sites: map[string]int{}}
	for _, m := range s.Members {
		p.member[m.ID] = m
	}
	p.Servers = slices.SortedFunc(slices.Values(s.Servers), func(a, b Server) int { return cmp.Compare(a.ID, b.ID) })
	for _, v := range p.Servers {
		if v.Voter {
			p.voters = append(p.voters, v)
			p.sites[p.member[v.ID].Site]++
		}
	}
	return p
}

// Look returns when to look at the servers again, if no change is due: soon
// while some are missing or silent or the cluster is young.
func (s State) Look() time.Duration {
	voters := 0
	for _, v := range s.Servers {
		if !v.Leader && (v.Healthy.IsZero() || s.Now.Sub(v.Seen) >= LookSoon) {
			return LookSoon
		}
		if v.Voter {
			voters++
		}
	}
	if voters < 3 || len(s.Servers) < len(s.Members) {
		return LookSoon
	}
	return LookLater
}

func (p *plan) alive(s Server) bool { return s.Leader || p.Now.Sub(s.Seen) < Alive }

// safe tells whether a quorum of the voters would be alive if those without
// one of them, or with another, were all.
func (p *plan) safe(without, with string) bool {
	n, alive := 0, 0
	for _, s := range p.Servers {
		if s.Voter && s.ID != without || s.ID == with {
			n++
			if p.alive(s) {
				alive++
			}
		}
	}
	return n > 0 && alive > n/2
}

// leaving removes who is no member any more.
func (p *plan) leaving() (Change, bool) {
	for _, s := range p.Servers {
		if _, is := p.member[s.ID]; !is && !s.Leader && (!s.Voter || p.safe(s.ID, "")) {
			return Change{Remove, s.ID, "it is no member of the cluster any more"}, true
		}
	}
	return Change{}, false
}

// adding adds members as standbys while there is room: first those who may
// vote.
func (p *plan) adding() (Change, bool) {
	if len(p.Servers) >= MaxVoters+MaxStandbys {
		return Change{}, false
	}
	missing := slices.DeleteFunc(slices.Clone(p.Members), func(m Member) bool {
		return slices.ContainsFunc(p.Servers, func(s Server) bool { return s.ID == m.ID })
	})
	slices.SortFunc(missing, func(a, b Member) int {
		return cmp.Or(-compareBool(a.Votes, b.Votes), cmp.Compare(a.ID, b.ID))
	})
	if len(missing) == 0 {
		return Change{}, false
	}
	return Change{Add, missing[0].ID, "it is a member and does not follow yet"}, true
}

// goes returns the leader, if it may not vote any more: it is leaving.
func (p *plan) goes() (leader Server, is bool) {
	for _, v := range p.voters {
		if m, known := p.member[v.ID]; v.Leader && known && !m.Votes {
			return v, true
		}
	}
	return leader, false
}

// handing has a leader that is leaving hand over to a voter that stays; if there is none,
// as in a cluster of two sites, its standby gets a vote for that.
func (p *plan) handing() (Change, bool) {
	leader, is := p.goes()
	if !is {
		return Change{}, false
	}
	stays := false
	for _, v := range p.voters {
		if !p.member[v.ID].Votes {
			continue
		}
		if stays = true; p.alive(v) && v.Behind <= CaughtUp {
			return Change{Transfer, v.ID, leader.ID + " leads, and is leaving"}, true
		}
	}
	if list := p.candidates(YoungSteady); !stays && len(list) > 0 && p.safe("", list[0].ID) {
		return Change{Promote, list[0].ID, "in place of " + leader.ID + ", which votes alone and is leaving"}, true
	}
	return Change{}, false
}

// unfit takes the vote from who may not have it.
func (p *plan) unfit() (Change, bool) {
	for _, v := range p.voters {
		m, is := p.member[v.ID]
		if is && !m.Votes && p.safe(v.ID, "") && !v.Leader {
			return Change{Demote, v.ID, "its role does not let it vote, or it is leaving"}, true
		}
	}
	return Change{}, false
}

// replacing promotes somebody for a voter that is dead.
func (p *plan) replacing() (Change, bool) {
	for _, v := range p.voters {
		if p.alive(v) || p.Now.Sub(v.Seen) < Dead {
			continue
		}
		if len(p.voters)%2 == 0 && p.safe(v.ID, "") {
			return Change{Demote, v.ID, "it has not been heard of for " + p.Now.Sub(v.Seen).Round(time.Minute).String() + ", and another votes in its place"}, true
		}
		for _, s := range p.candidates(Replacement) {
			site := p.member[s.ID].Site
			if (p.sites[site] == 0 || site == p.member[v.ID].Site) && p.safe("", s.ID) {
				return Change{Promote, s.ID, "in place of " + v.ID + ", which has not been heard of since " + v.Seen.UTC().Format(time.DateTime)}, true
			}
		}
	}
	return Change{}, false
}

// surplus takes a vote back where there are two at a site, or an even number
// with nobody to make it odd.
func (p *plan) surplus() (Change, bool) {
	for _, v := range slices.Backward(p.voters) {
		if site := p.member[v.ID].Site; p.sites[site] > 1 && !v.Leader && p.safe(v.ID, "") {
			return Change{Demote, v.ID, "another node at site " + site + " votes"}, true
		}
	}
	if _, is := p.goes(); is || len(p.voters)%2 != 0 || len(p.candidates(0)) > 0 {
		return Change{}, false
	}
	for _, v := range slices.Backward(p.voters) {
		if !v.Leader && p.safe(v.ID, "") && p.Now.Sub(p.Changed) >= Pace {
			return Change{Demote, v.ID, fmt.Sprintf("%d votes survive no more losses than %d", len(p.voters), len(p.voters)-1)}, true
		}
	}
	return Change{}, false
}

// promoting gives a vote to a standby at a site that has none, if that makes
// the number of voters odd, or leads there.
func (p *plan) promoting() (Change, bool) {
	if len(p.voters) >= MaxVoters {
		return Change{}, false
	}
	steady, why := Steady, "it has been steady for a day"
	if len(p.voters) < 3 {
		steady, why = YoungSteady, "the cluster is young, and it has caught up"
	} else if len(p.voters)%2 != 0 && p.Now.Sub(p.Changed) < Pace {
		return Change{}, false
	}
	need := 1 + len(p.voters)%2 // an odd number stays odd only with two more
	sites := map[string]Server{}
	var order []string
	for _, s := range p.candidates(steady) {
		site := p.member[s.ID].Site
		if _, taken := sites[site]; !taken && p.sites[site] == 0 {
			sites[site] = s
			order = append(order, site)
		}
	}
	if len(order) < need || !p.safe("", sites[order[0]].ID) {
		return Change{}, false
	}
	return Change{Promote, sites[order[0]].ID, why}, true
}

// candidates are the standbys who could vote and have been healthy for so
// long, the steadiest first.
func (p *plan) candidates(steady time.Duration) (list []Server) {
	for _, s := range p.Servers {
		if m, is := p.member[s.ID]; is && m.Votes && !s.Voter && p.alive(s) && s.Behind <= CaughtUp &&
			!s.Healthy.IsZero() && p.Now.Sub(s.Healthy) >= steady {
			list = append(list, s)
		}
	}
	slices.SortStableFunc(list, func(a, b Server) int { return a.Healthy.Compare(b.Healthy) })
	return list
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}
