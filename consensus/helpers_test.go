package consensus_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
	"github.com/holdfast-mesh/holdfast/consensus/consensustest"
	"github.com/holdfast-mesh/holdfast/consensus/placement"
	"github.com/holdfast-mesh/holdfast/mesh/meshtest"
)

// A list is a machine whose state is the commands it was given, each once.
type list struct {
	mu    sync.Mutex
	state listState
	limit error // of Verify

	emptied func() // is told when Reset is called
}

type listState struct {
	Index       uint64   `cbor:"1,keyasint"`
	At          int64    `cbor:"2,keyasint"`
	Incarnation uint64   `cbor:"3,keyasint"`
	Items       []string `cbor:"4,keyasint"`
}

func newList() *list { return &list{state: listState{Incarnation: 1}} }

func (m *list) Check(command []byte) error {
	if string(command) == "refused" {
		return errors.New("no such kind")
	}
	return nil
}

func (m *list) Apply(index uint64, at time.Time, b []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	command := string(b)
	if index <= m.state.Index {
		return nil, fmt.Errorf("entry %d behind %d", index, m.state.Index)
	}
	if strings.HasPrefix(command, "unknown") {
		return nil, errors.New("a command of the kind " + command)
	}
	m.state.Index = index
	m.state.At = max(m.state.At+1, at.UnixMilli())
	if n, is := strings.CutPrefix(command, "incarnation "); is {
		fmt.Sscan(n, &m.state.Incarnation)
	} else if i := slices.Index(m.state.Items, command); i >= 0 {
		return fmt.Append(nil, i), nil
	} else {
		m.state.Items = append(slices.Clip(m.state.Items), command)
	}
	return fmt.Append(nil, len(m.state.Items)-1), nil
}

type written []byte

func (b written) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(b)
	return int64(n), err
}

func (m *list) Snapshot() io.WriterTo {
	m.mu.Lock()
	defer m.mu.Unlock()
	return written(canon.Encode(m.state))
}

func (m *list) Verify(b []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.limit != nil {
		return m.limit
	}
	var s listState
	return canon.Decode(b, &s)
}

func (m *list) Restore(b []byte) error {
	if err := m.Verify(b); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = listState{}
	return canon.Decode(b, &m.state)
}

func (m *list) Reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = listState{Incarnation: 1}
	if m.emptied != nil {
		m.emptied()
	}
}

func (m *list) Applied() uint64     { m.mu.Lock(); defer m.mu.Unlock(); return m.state.Index }
func (m *list) Incarnation() uint64 { m.mu.Lock(); defer m.mu.Unlock(); return m.state.Incarnation }
func (m *list) items() []string     { m.mu.Lock(); defer m.mu.Unlock(); return m.state.Items }

// A roster is an authority chain whose links are "+NODE", "-NODE" (no vote)
// and "incarnation N".
type roster struct {
	mu     sync.Mutex
	links  [][]byte
	member map[string]bool // and whether it votes
	inc    uint64
	base   string
}

func (r *roster) Base() string { r.mu.Lock(); defer r.mu.Unlock(); return r.base }

func newRoster(links ...string) *roster {
	r := &roster{member: map[string]bool{}, inc: 1}
	r.add(links...)
	return r
}

func (r *roster) add(links ...string) {
	var all [][]byte
	for _, l := range links {
		all = append(all, []byte(l))
	}
	if err := r.Extend(all); err != nil {
		panic(err)
	}
}

func (r *roster) Extend(links [][]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range links {
		s := string(l)
		switch {
		case strings.HasPrefix(s, "incarnation "):
			fmt.Sscan(s[len("incarnation "):], &r.inc, &r.base)
		case s[0] == '+', s[0] == '-':
			r.member[s[1:]] = s[0] == '+'
		default:
			return errors.New("a forged link")
		}
		r.links = append(r.links, l)
	}
	return nil
}

func (r *roster) Incarnation() uint64 { r.mu.Lock(); defer r.mu.Unlock(); return r.inc }

func (r *roster) Head() (uint64, [32]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var h [32]byte
	for _, l := range r.links {
		h = sha256.Sum256(append(h[:], l...))
	}
	return uint64(len(r.links)), h
}

func (r *roster) Links(from uint64) [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.links[min(from, uint64(len(r.links))):])
}

func (r *roster) Parts(length uint64, head [32]byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	var h [32]byte
	for _, l := range r.links[:min(length, uint64(len(r.links)))] {
		h = sha256.Sum256(append(h[:], l...))
	}
	return length <= uint64(len(r.links)) && h != head
}

func (r *roster) Member(node string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, is := r.member[node]; !is {
		return fmt.Errorf("%s is no member", node)
	}
	return nil
}

func (r *roster) Voter(node string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.member[node] {
		return fmt.Errorf("%s may not vote", node)
	}
	return nil
}

// A node is one node of a test; its disk outlives it.
type node struct {
	name    string
	site    string
	c       *cluster
	disk    *consensustest.Disk
	machine *list
	roster  *roster
	group   *consensus.Group
	stop    context.CancelFunc
	done    chan error
	now     func() time.Time
	change  func(*consensus.Config)
}

type cluster struct {
	t     *testing.T
	net   *meshtest.Network
	nodes []*node
}

var clusterID = [16]byte{1}

// newCluster returns nodes a, b, c… at sites of their own, none of which runs.
func newCluster(t *testing.T, seed uint64, n int) *cluster {
	c := &cluster{t: t, net: meshtest.New(seed)}
	var links []string
	for i := range n {
		links = append(links, "+"+string(rune('a'+i)))
	}
	for i := range n {
		name := string(rune('a' + i))
		c.nodes = append(c.nodes, &node{name: name, site: "site " + name, c: c, disk: consensustest.NewDisk(), roster: newRoster(links...)})
	}
	return c
}

func (c *cluster) members() (all []placement.Member) {
	for _, n := range c.nodes {
		all = append(all, placement.Member{ID: n.name, Site: n.site, Votes: n.roster.Voter(n.name) == nil})
	}
	return all
}

func (n *node) start() {
	n.c.t.Helper()
	n.machine = newList()
	cfg := consensus.Config{
		Self: n.name, Cluster: clusterID, Stores: n.disk.Stores(), Network: n.c.net.Node(n.name), Machine: n.machine,
		Roster: n.roster, Members: n.c.members, Found: n.name == "a", Now: n.now,
	}
	if n.change != nil {
		n.change(&cfg)
	}
	g, err := consensus.New(cfg)
	if err != nil {
		n.c.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	n.group, n.stop, n.done = g, stop, make(chan error, 1)
	done := n.done
	go func() { done <- g.Run(ctx) }()
}

// end stops a node in good order.
func (n *node) end() {
	n.c.t.Helper()
	if n.stop == nil {
		return
	}
	n.stop()
	if err := <-n.done; err != nil {
		n.c.t.Errorf("%s: %v", n.name, err)
	}
	n.stop = nil
}

// crash stops a node without a word: nothing leaves it and nothing is written.
func (n *node) crash() {
	if n.stop == nil {
		return
	}
	n.disk.Fail(errors.New("no power"))
	n.c.net.Drop(n.name)
	n.stop()
	<-n.done
	n.stop = nil
	n.disk.Fail(nil)
}

func (c *cluster) start() {
	for _, n := range c.nodes {
		n.start()
	}
}

func (c *cluster) end() {
	for _, n := range c.nodes {
		n.end()
	}
}

// leader waits for a leader among the nodes that run.
func (c *cluster) leader() *node {
	c.t.Helper()
	for range 600 {
		for _, n := range c.nodes {
			if n.stop != nil && n.group.Status().Role == "leader" {
				return n
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.t.Fatal("no leader after a minute")
	return nil
}

// form waits until so many nodes vote.
func (c *cluster) form(voters int) *node {
	c.t.Helper()
	for range 600 {
		if l := c.leader(); len(l.group.Status().Voters) == voters && len(l.group.Status().Voters)+len(l.group.Status().Standbys) == len(c.nodes) {
			return l
		}
		time.Sleep(time.Second)
	}
	c.t.Fatalf("not %d voters after ten minutes: %+v", voters, c.leader().group.Status())
	return nil
}

func (n *node) submit(command string) error {
	_, err := n.group.Submit(context.Background(), []byte(command))
	return err
}

// agree waits until all nodes that run show the same.
func (c *cluster) agree() {
	c.t.Helper()
	var states []string
	for range 600 {
		states = states[:0]
		for _, n := range c.nodes {
			if n.stop != nil {
				states = append(states, fmt.Sprint(n.machine.items()))
			}
		}
		slices.Sort(states)
		if states = slices.Compact(states); len(states) == 1 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.t.Errorf("after a minute there are different states: %v", states)
}
