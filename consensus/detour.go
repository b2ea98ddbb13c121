package consensus

import (
	"context"
	"errors"
	"slices"
	"time"
)

const (
	detourAfter = 3 * time.Second // without an answer of who leads: a few round trips and losses
	detourNext  = time.Second     // until another node is asked, too
	detours     = 8               // nodes that are asked at once: several may be lost, too
)

type answer struct {
	Result
	err error
}

// request has a request answered by who leads, which is done by here if that is this node.
// If it takes long, other nodes are asked to pass the request on: the way to the leader may
// be broken for this node only, as between two nodes behind NATs whose relay went away, or
// this node does not know who leads. That a command may reach the leader twice is harmless.
func (g *Group) request(ctx context.Context, req request, here func(*life) (Result, error)) (Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	straight, passed := make(chan answer, 1), make(chan answer)
	go func() {
		var a answer
		a.err = g.atLeader(ctx, func(l *life, leader string) (err error) {
			if leader == g.cfg.Self {
				a.Result, err = here(l)
				return err
			}
			r, err := g.ask(ctx, leader, req)
			a.Result = Result{r.Index, r.Value}
			return err
		})
		straight <- a
	}()

	var own, best *answer
	var doubt error
	next, asked, waiting := time.After(detourAfter), 0, 0
	for own == nil || waiting > 0 {
		select {
		case a := <-straight:
			own = &a
			cancel()
		case a := <-passed:
			waiting--
			switch {
			case a.err == nil, errors.Is(a.err, ErrRefused):
				best = &a
				cancel()
			case errors.Is(a.err, ErrUnknown):
				doubt = a.err
			}
		case <-next:
			next = time.After(detourNext)
			if nodes := g.detours(); waiting < detours && len(nodes) > 0 {
				node := nodes[asked%len(nodes)]
				asked, waiting = asked+1, waiting+1
				go func() { passed <- g.detour(ctx, node, req) }()
			}
		}
	}
	switch {
	case own.err != nil && best != nil:
		return best.Result, best.err
	case errors.Is(own.err, ErrNoLeader) && doubt != nil:
		return Result{}, doubt
	}
	return own.Result, own.err
}

// detours are the nodes that may know a way to who leads, those of the group first. They
// are such as may lead themselves, since what they say is believed.
func (g *Group) detours() (nodes []string) {
	s := g.Status()
	for _, id := range slices.Concat(s.Voters, s.Standbys, g.cfg.Nodes()) {
		if id != g.cfg.Self && id != s.Leader && !slices.Contains(nodes, id) && g.cfg.Roster.Voter(id) == nil {
			nodes = append(nodes, id)
		}
	}
	return nodes
}

// detour asks a node to pass a request on. Only the leader's answer is one.
func (g *Group) detour(ctx context.Context, node string, req request) answer {
	switch req.Op {
	case opSubmit:
		req.Op = opPassSubmit
	case opIndex:
		req.Op = opPassIndex
	}
	r, err := g.ask(ctx, node, req)
	if r.Code != codeDone && !r.Passed {
		err = errNotLeader // and nothing was done, by one of an older version, say
	}
	return answer{Result{r.Index, r.Value}, err}
}

// pass asks who leads for another node, once.
func (g *Group) pass(ctx context.Context, l *life, req request) response {
	switch req.Op {
	case opPassSubmit:
		req.Op = opSubmit
	case opPassIndex:
		req.Op = opIndex
	}
	ctx, cancel := context.WithTimeout(ctx, g.cfg.Profile.Apply)
	defer cancel()
	var r response
	switch leader := l.leader(); leader {
	case "":
		return response{Code: codeNotLeader, Text: "this node does not know who leads"}
	case g.cfg.Self:
		r = g.do(ctx, l, g.cfg.Self, req)
	default:
		var err error
		if r, err = g.ask(ctx, leader, req); err != nil && r.Code == codeDone {
			r = respond(Result{}, err)
		}
	}
	r.Passed = true
	return r
}
