package facts

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/feed"
)

// A Model is what the feeds of all nodes say together. It is in memory only,
// made from the feeds at start ([Model.Load]) and kept up by [Model.Follow].
// Its methods may be called concurrently.
type Model struct {
	mu    sync.RWMutex
	nodes map[feed.Origin]*state
	told  []*func(News) // who wants to know
}

// A state is what one node says.
type state struct {
	at      feed.Head        // the record that was read last, without its hash
	newest  time.Time        // when that was written
	records int              // since the last base
	copies  map[place][]Copy // by time of the backup
	count   int
	runs    map[string]Run // the last of each job, by kind and job
	running map[string]Run // by UPID
	stores  map[string]StoreView
	gone    map[Snapshot]Removal
	alarms  map[string]Alarm // by key
	skipped int              // records that were not understood

	next    *state // under a base that is not complete
	missing uint32 // records of it
}

// A place is a group in a datastore.
type place struct {
	store string
	group Group
}

// A Run is one run of a job, or of a task without a job.
type Run struct {
	Origin  feed.Origin
	ID      string // UPID
	Job     string
	Of      string
	Started time.Time // zero: not known
	Ended   time.Time // zero: it runs
	OK      bool
	Text    string
	Bytes   uint64
}

// NewModel returns a model that has read nothing.
func NewModel() *Model { return &Model{nodes: map[feed.Origin]*state{}} }

func newState() *state {
	return &state{copies: map[place][]Copy{}, runs: map[string]Run{}, running: map[string]Run{}, stores: map[string]StoreView{}, gone: map[Snapshot]Removal{}, alarms: map[string]Alarm{}}
}

// Load reads all feeds of a store.
func (m *Model) Load(s *feed.Store) error {
	origins, err := s.Origins()
	if err != nil {
		return err
	}
	for _, o := range origins {
		if err := m.Follow(s, o); err != nil {
			return err
		}
	}
	return nil
}

// Follow reads what is new in one feed, and tells who has subscribed.
func (m *Model) Follow(s *feed.Store, o feed.Origin) error {
	fresh := map[string]bool{}
	defer func() { m.tell(o, fresh) }()
	for {
		m.mu.RLock()
		var at feed.Head
		if st := m.nodes[o]; st != nil {
			at = st.at
		}
		m.mu.RUnlock()
		batch, err := s.After(o, at.Epoch, at.Seq, 4096, 4<<20)
		if err != nil || len(batch) == 0 {
			return err
		}
		records := make([]feed.Record, len(batch))
		facts := make([]Fact, len(batch))
		for i, b := range batch {
			if records[i], err = feed.Read(b); err != nil {
				return fmt.Errorf("feed of %x: %w", o[:6], err)
			}
			facts[i], _ = Parse(records[i].Kind, records[i].Data) // nil: counted as skipped
		}
		m.mu.Lock()
		st := m.nodes[o]
		if st == nil {
			st = newState()
			m.nodes[o] = st
		}
		for i, r := range records {
			if at := (feed.Head{Epoch: r.Epoch, Seq: r.Seq}); st.at.Before(at) { // somebody else follows, too
				st.take(o, r, facts[i])
				if store, is := news(facts[i]); is {
					fresh[store] = true
				}
			}
		}
		m.mu.Unlock()
	}
}

// Forget removes a node that is no member any more.
func (m *Model) Forget(o feed.Origin) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.nodes, o)
}

// Suppose adds facts that a node will say, but has not said yet. [Model.Reread]
// forgets them again.
func (m *Model) Suppose(o feed.Origin, at time.Time, all []Fact) {
	fresh := map[string]bool{}
	m.mu.Lock()
	if m.nodes[o] == nil {
		m.nodes[o] = newState()
	}
	for _, f := range all {
		m.nodes[o].apply(o, feed.Record{At: at}, f)
		m.nodes[o].newest = at
		if store, is := news(f); is {
			fresh[store] = true
		}
	}
	m.mu.Unlock()
	m.tell(o, fresh)
}

// Reread reads a feed from its beginning, and nothing else of its node.
func (m *Model) Reread(s *feed.Store, o feed.Origin) error {
	one := NewModel()
	if err := one.Follow(s, o); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.nodes, o)
	if one.nodes[o] != nil {
		m.nodes[o] = one.nodes[o]
	}
	return nil
}

// take brings the state one record further.
func (s *state) take(o feed.Origin, r feed.Record, f Fact) {
	if r.Epoch != s.at.Epoch {
		s.next = nil // a base goes not on in another epoch
	}
	s.at, s.newest = feed.Head{Epoch: r.Epoch, Seq: r.Seq}, r.At
	if n, ok := feed.BaseLength(r); ok {
		s.next, s.missing = newState(), n
	} else if s.next != nil {
		s.next.apply(o, r, f)
		s.missing--
	} else {
		s.apply(o, r, f)
	}
	if s.next != nil && s.missing == 0 {
		s.copies, s.count, s.runs, s.running, s.stores = s.next.copies, s.next.count, s.next.runs, s.next.running, s.next.stores
		s.gone, s.alarms, s.records, s.next = s.next.gone, s.next.alarms, s.next.records, nil
	}
}

func (s *state) apply(o feed.Origin, r feed.Record, f Fact) {
	s.records++
	switch v := f.(type) {
	case Added:
		s.put(v.Snapshot, Copy{
			Time: v.Snapshot.Time, Added: r.At.Unix(), Size: v.Size, Manifest: v.Manifest, Encrypted: v.Encrypted, From: v.From,
		})
	case Verified:
		s.change(v.Snapshot, func(c *Copy) { c.Verified, c.Damaged = r.At.Unix(), !v.OK })
	case Pruned:
		s.prune(v, r.At)
	case Quarantined:
		s.change(v.Snapshot, func(c *Copy) { c.Quarantined, c.Why = r.At.Unix(), v.Why })
	case Released:
		s.change(v.Snapshot, func(c *Copy) { c.Quarantined, c.Why = 0, "" })
	case RunStarted:
		if len(s.running) < maxRunning {
			s.running[v.Run] = Run{Origin: o, ID: v.Run, Job: v.Job, Of: v.Of, Started: r.At}
		}
	case RunEnded:
		run := Run{Origin: o, ID: v.Run, Job: v.Job, Of: v.Of, Ended: r.At, OK: v.OK, Text: v.Text, Bytes: v.Bytes}
		run.Started = s.running[v.Run].Started
		delete(s.running, v.Run)
		if key := v.Of + "\x00" + v.Job; len(s.runs) < maxRunning || s.runs[key].ID != "" {
			s.runs[key] = run
		}
	case Held:
		for _, c := range v.Copies {
			s.put(Snapshot{v.Store, v.Group, c.Time}, c)
		}
	case Gone:
		for _, g := range v.Snapshots {
			s.bury(Snapshot{v.Store, v.Group, g.Time}, g)
		}
	case Kept:
		s.keep(v, r.At)
	case Dropped:
		s.drop(v.Store)
	case Alarm:
		s.alarm(v)
	default:
		s.skipped++
	}
}

// maxRunning bounds how many runs of one node are remembered.
const maxRunning = 1024

func find(copies []Copy, at int64) (int, bool) {
	return slices.BinarySearchFunc(copies, at, func(c Copy, t int64) int { return cmp.Compare(c.Time, t) })
}

func (s *state) put(n Snapshot, c Copy) {
	p := place{n.Store, n.Group}
	delete(s.gone, n) // it is there again
	all := s.copies[p]
	if all == nil { // the texts of the first record are the ones that stay
		p = place{strings.Clone(n.Store), Group{strings.Clone(n.Group.Namespace), strings.Clone(n.Group.Type), strings.Clone(n.Group.ID)}}
	}
	i, found := find(all, n.Time)
	if found {
		all[i] = c
		return
	}
	s.copies[p] = slices.Insert(all, i, c)
	s.count++
}

func (s *state) change(n Snapshot, f func(*Copy)) {
	all := s.copies[place{n.Store, n.Group}]
	if i, found := find(all, n.Time); found {
		f(&all[i])
	}
}

func (s *state) remove(n Snapshot) {
	p := place{n.Store, n.Group}
	i, found := find(s.copies[p], n.Time)
	if !found {
		return
	}
	s.count--
	if s.copies[p] = slices.Delete(s.copies[p], i, i+1); len(s.copies[p]) == 0 {
		delete(s.copies, p)
	}
}

// Base returns what a node says, as short as it can be said: the records with
// which [feed.Store.Rebase] begins anew. The last runs go along.
func (m *Model) Base(o feed.Origin) (all []feed.Statement, err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	s := m.nodes[o]
	if s == nil {
		return nil, nil
	}
	if s.next != nil {
		return nil, errors.New("the feed ends in the middle of a base")
	}
	for _, p := range s.places() {
		for copies := range slices.Chunk(s.copies[p], maxCopies) {
			st, err := Encode(Held{p.store, p.group, copies})
			if err != nil {
				return nil, err
			}
			all = append(all, st)
		}
	}
	for _, g := range s.graves() {
		st, err := Encode(g)
		if err != nil {
			return nil, err
		}
		all = append(all, st)
	}
	for _, v := range s.stores {
		st, err := Encode(v.Kept)
		if err != nil {
			return nil, err
		}
		all = append(all, st)
	}
	for _, a := range s.alarmed() {
		st, err := Encode(a)
		if err != nil {
			return nil, err
		}
		all = append(all, st)
	}
	for _, r := range s.runs {
		st, err := Encode(RunEnded{r.ID, r.Job, r.Of, r.OK, r.Text, r.Bytes})
		if err != nil {
			return nil, err
		}
		all = append(all, st)
	}
	return all, nil
}

// WorthBase tells whether the feed of a node is so much longer than what it
// says that it should begin anew.
func (m *Model) WorthBase(o feed.Origin) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	s := m.nodes[o]
	return s != nil && s.next == nil && s.records > 10_000+8*(len(s.copies)+len(s.gone))
}

func (s *state) places() []place {
	all := make([]place, 0, len(s.copies))
	for p := range s.copies {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.store, b.store), a.group.compare(b.group))
	})
	return all
}

func (g Group) compare(h Group) int {
	return cmp.Or(cmp.Compare(g.Namespace, h.Namespace), cmp.Compare(g.Type, h.Type), cmp.Compare(g.ID, h.ID))
}

func (m *Model) origins() []feed.Origin {
	all := make([]feed.Origin, 0, len(m.nodes))
	for o := range m.nodes {
		all = append(all, o)
	}
	slices.SortFunc(all, func(a, b feed.Origin) int { return bytes.Compare(a[:], b[:]) })
	return all
}
