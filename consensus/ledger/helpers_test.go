package ledger

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

func private(n byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32)) }
func public(n byte) authority.Key       { return authority.PublicKey(private(n)) }

var cluster = [16]byte{7}

// A world is a ledger and everybody's keys: operator 1, members from 10 on.
type world struct {
	t     testing.TB
	l     *Ledger
	now   time.Time
	index uint64
	n     uint64   // commands made, which are their request IDs
	log   [][]byte // what was applied, if not nil

	operators []ed25519.PrivateKey // who sign, as many as must
}

var begun = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// newWorld returns a cluster with node 10, at home in the role full.
func newWorld(t testing.TB) *world {
	w := &world{t: t, l: New(nil), now: begun}
	w.found(1, 1)
	return w
}

// found makes the cluster, with operators of whom so many sign.
func (w *world) found(threshold int, operators ...byte) {
	w.t.Helper()
	g := authority.GenesisBody{Cluster: cluster, Threshold: threshold}
	w.operators = nil
	for _, n := range operators {
		g.Operators = append(g.Operators, public(n))
		w.operators = append(w.operators, private(n))
	}
	w.do(10, KindAuthority, Link{authority.Found(g, w.operators...)})
	w.operators = w.operators[:threshold]
	w.addNode(10, "home-1", "home", "full", true)
}

// pass lets days pass in which nobody asks anything.
func (w *world) pass(days int) {
	w.now = w.now.Add(time.Duration(days) * 24 * time.Hour)
	if w.log != nil {
		w.log = append(w.log, fmt.Append(nil, "+ ", days))
	}
}

func (w *world) draft(kind uint8, body any) []byte {
	c := w.l.View().Chain()
	return c.Sign(c.Draft(kind, body), w.operators...)
}

func (w *world) addNode(key byte, name, site, role string, votes bool) {
	w.t.Helper()
	w.do(10, KindAuthority, Link{w.draft(authority.AddNode, authority.Node{Key: public(key), Name: name, Site: site, Role: role, Votes: votes})})
}

// command makes one of a node, by op@pbs.
func (w *world) command(node byte, kind uint16, body any) Command {
	w.n++
	c := Command{Kind: kind, Actor: "op@pbs", Node: public(node), Cluster: cluster, Incarnation: max(1, w.l.Incarnation()), Body: canon.Encode(body)}
	copy(c.Request[:], fmt.Sprintf("request %08d", w.n))
	return c
}

func (w *world) apply(b []byte) Result {
	w.t.Helper()
	w.index++
	w.now = w.now.Add(time.Second)
	value, err := w.l.Apply(w.index, w.now, b)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.log != nil {
		w.log = append(w.log, b)
	}
	r, err := ReadResult(value)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// try applies a command of a node.
func (w *world) try(node byte, kind uint16, body any) Result {
	w.t.Helper()
	return w.apply(w.command(node, kind, body).Sign(private(node)))
}

// do is try of something that has to work.
func (w *world) do(node byte, kind uint16, body any) Result {
	w.t.Helper()
	r := w.try(node, kind, body)
	if r.Code != Done {
		w.t.Fatalf("%s: %s", r.Code, r.Text)
	}
	return r
}

func (w *world) want(r Result, code Code, text string) {
	w.t.Helper()
	if r.Code != code || !bytes.Contains([]byte(r.Text), []byte(text)) {
		w.t.Errorf("%s: %q, want %s: %q", r.Code, r.Text, code, text)
	}
}

// client gives commands without a group, each applied at once.
func (w *world) client(node byte) *Client {
	return &Client{Key: private(node), Ledger: w.l, Submit: func(_ context.Context, b []byte) ([]byte, error) {
		w.index++
		w.now = w.now.Add(time.Second)
		return w.l.Apply(w.index, w.now, b)
	}}
}

// A joiner is somebody with a token, and what they ask for.
type joiner struct {
	seed, node byte
	s          authority.Statement
	record     []byte
	recordKey  byte
}

func newJoiner(seed, node byte) joiner {
	record := fmt.Append(nil, "record of ", node)
	return joiner{seed, node, authority.Statement{
		Cluster: cluster, Token: [8]byte{seed}, Joiner: public(node), Member: public(10), Record: canon.Sum(record),
		Role: "replica", Site: "dc", Name: fmt.Sprint("node-", node),
	}, record, node}
}

func (j joiner) join() Join {
	b := []byte("holdfast/join/1\x00")
	for _, p := range [][]byte{j.s.Cluster[:], j.s.Token[:], j.s.Joiner[:], j.s.Member[:], j.s.Nonces[0][:], j.s.Nonces[1][:], j.s.Record[:]} {
		b = append(b, p...)
	}
	for _, v := range []string{j.s.Role, j.s.Site, j.s.Name} {
		b = append(append(b, byte(len(v))), v...)
	}
	return Join{
		Statement: b, Seed: [64]byte(ed25519.Sign(private(j.seed), b)), Node: [64]byte(ed25519.Sign(private(j.node), b)),
		Record: j.record, RecordSig: [64]byte(ed25519.Sign(private(j.recordKey), append([]byte(RecordDomain), j.record...))),
	}
}

// invited makes an invite for replicas, with the seed's number as its token.
func (w *world) invited(seed byte, uses int, approve bool) {
	w.t.Helper()
	w.do(10, KindInvite, NewInvite{Token: [8]byte{seed}, Invite: Invite{
		Key: public(seed), Role: "replica", Expires: w.now.Add(time.Hour).Unix(), Uses: uses, Approve: approve,
	}})
}

func (w *world) member(node byte) (Member, bool) {
	m, is := Members.Get(w.l.View(), public(node).NodeID())
	return m.Body, is
}
