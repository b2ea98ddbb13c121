package gc

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// A finding is the shortest history after which something is wrong.
type finding struct {
	history []op
	err     error
}

// A search is what an exploration found.
type search struct {
	states  int
	runs    int  // histories carried out
	depth   int  // of the longest history
	all     bool // every history that the scenario allows was seen
	finding *finding
}

// explore carries out every history that sc allows, shortest first, and looks
// after each op whether all is well. Histories that lead to the same state are
// followed once. It stops at the first thing that is wrong, or at deadline.
//
// A state is reached by carrying its history out from the beginning, with the
// real collector and sessions: there is no model of them that could be wrong.
func explore(sc scenario, deadline time.Time) (found search) {
	type node struct {
		parent int32
		op     op
		depth  int16
	}
	nodes := []node{{parent: -1}}
	seen := map[uint64]bool{}
	history := func(i int32) (ops []op) {
		for ; nodes[i].parent >= 0; i = nodes[i].parent {
			ops = append(ops, nodes[i].op)
		}
		slices.Reverse(ops)
		return ops
	}
	found.all = true
	for i := int32(0); int(i) < len(nodes); i++ {
		found.depth = int(nodes[i].depth)
		if i%64 == 0 && time.Now().After(deadline) {
			found.all = false
			break
		}
		ops := history(i)
		w := replay(sc, ops)
		for k, o := range w.enabled() {
			if k > 0 {
				w = replay(sc, ops)
			}
			found.runs++
			w.do(o)
			err := w.inspect()
			if err == nil {
				if key := w.key(); !seen[key] {
					seen[key] = true
					nodes = append(nodes, node{i, o, nodes[i].depth + 1})
					if sc.bug == noBug {
						err = w.settle()
					}
				}
			}
			w.close()
			if err != nil {
				found.finding = &finding{append(ops, o), err}
				found.states = len(nodes)
				return found
			}
		}
	}
	found.states = len(nodes)
	return found
}

func replay(sc scenario, ops []op) *world {
	w := newWorld(sc)
	for _, o := range ops {
		w.do(o)
	}
	return w
}

// script tells a history so that a person can follow it.
func (f *finding) script(sc scenario) string {
	var b strings.Builder
	w := newWorld(sc)
	w.verbose = true
	for _, r := range w.roots.all {
		fmt.Fprintf(&b, "    there is snapshot %s (%s)\n", r.id, w.setOf(r))
	}
	for i, o := range f.history {
		w.do(o)
		fmt.Fprintf(&b, "%2d. %s\n", i+1, w.said)
	}
	w.close()
	fmt.Fprintf(&b, "    %v\n", f.err)
	return b.String()
}

func (w *world) setOf(r *memRoot) (ds digests) {
	for _, d := range r.digests {
		ds |= digestBit(d)
	}
	return ds
}

// key is a hash of everything that can make a difference from here on. Packs
// are numbered by their order, clients sorted, counters that only grow left
// out, so that histories which differ in nothing else meet.
func (w *world) key() uint64 {
	e := &encoder{w: w, order: map[uint32]byte{}}
	for i, n := range w.store.order {
		e.order[n] = byte(i)
	}
	e.encodeStore()
	e.encodeSnapshots()
	e.encodeClients()
	e.encodeCycle()
	for k := range kinds {
		if w.may[k] < unlimited {
			e.b = append(e.b, byte(w.spent[k]))
		}
	}
	e.b = append(e.b, byte(w.broken))
	return xxhash.Sum64(e.b)
}

// unlimited is for ops that may happen as often as they like.
const unlimited = 100

type encoder struct {
	w     *world
	order map[uint32]byte
	b     []byte
}

func (e *encoder) flags(all ...bool) {
	var x byte
	for i, f := range all {
		if f {
			x |= 1 << i
		}
	}
	e.b = append(e.b, x)
}

func (e *encoder) set(s *pack.Set) {
	for r := range s.All() {
		if n, ok := e.order[r.Pack]; ok {
			e.b = append(e.b, n, byte(r.Entry))
		}
	}
	e.b = append(e.b, 0xff)
}

func (e *encoder) encodeStore() {
	for _, n := range e.w.store.order {
		p := e.w.store.packs[n]
		e.flags(true, p.sealed)
		for i := range p.entries {
			x := &p.entries[i]
			e.b = append(e.b, byte(digestBit(x.digest)))
			e.flags(x.durable, x.dead, x.deadFor, x.bad, x.hidden, x.blob == nil, len(x.blob) == 0)
		}
	}
	for i := range e.w.chunks {
		if r, ok := e.w.store.places[modelChunks[i].digest]; ok {
			e.b = append(e.b, e.order[r.Pack], byte(r.Entry))
		}
		e.b = append(e.b, 0xfe)
	}
}

func (e *encoder) encodeSnapshots() {
	for _, r := range e.w.roots.all {
		e.b = append(e.b, byte(e.w.setOf(r)))
		for _, trashed := range []bool{false, true} {
			id := sighting{r, trashed}.ID()
			marked, queued := false, false
			if y := e.w.cycle; y != nil {
				marked = y.marked[id]
				queued = slices.ContainsFunc(y.queue, func(q Root) bool { return q.ID() == id })
			}
			e.flags(r.trashed, marked, queued)
			e.encodeBitmap(id)
		}
	}
	e.b = append(e.b, 0xfd)
}

// encodeBitmap tells what the cached bitmap of a root says, if it counts.
func (e *encoder) encodeBitmap(id string) {
	f := e.w.files.all[path.Join("gc/marks", bitmapName(id))]
	if f == nil || le.Uint64(f.data[40:]) != e.w.store.generation {
		e.b = append(e.b, 0)
		return
	}
	e.b = append(e.b, 1)
	var refs pack.Set
	for r := range readRows(f.data[bitmapHeader : len(f.data)-bitmapSum]) {
		refs.OrRow(r.number, r.bitmap(nil))
	}
	e.set(&refs)
}

func (e *encoder) encodeClients() {
	start := len(e.b)
	var all []string
	for _, c := range e.w.clients {
		e.client(c)
		all = append(all, string(e.b[start:]))
		e.b = e.b[:start]
	}
	slices.Sort(all)
	e.b = append(e.b, strings.Join(all, "")...)
	e.client(&e.w.reader)
}

func (e *encoder) client(c *client) {
	e.b = append(e.b, byte(c.phase), byte(c.has), byte(c.promised), byte(c.saved), byte(c.sure))
	if c.phase == away {
		return
	}
	s := c.s
	if c.phase == crashed {
		s = e.w.c.sessions[c.s.id]
	}
	if s == nil {
		return
	}
	e.set(&s.pins)
	e.set(&s.fresh)
	e.set(&c.own)
	e.flags(s.recorded, s.lapsed, time.Since(s.used) > ttl, s.failures != e.w.store.failures)
}

func (e *encoder) encodeCycle() {
	y := e.w.cycle
	e.b = append(e.b, byte(e.w.stage))
	if y == nil {
		return
	}
	for _, p := range y.packs {
		if n, ok := e.order[p.Number]; ok {
			e.b = append(e.b, n, byte(p.Entries))
		}
	}
	e.set(&y.live)
	e.flags(y.vanished != "")
	// Roots that are gone matter while they are in the queue: listing again.
	for _, r := range y.queue {
		s := r.(sighting)
		e.flags(s.gone, s.trashed, s.memRoot.trashed)
	}
	if e.w.c.late != nil {
		e.set(e.w.c.late)
	}
	if e.w.stale != nil {
		e.set(e.w.stale)
	}
	for _, p := range e.w.work {
		if n, ok := e.order[p.Pack]; ok {
			e.b = append(e.b, n, byte(p.Method))
		}
	}
}
