package gc

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// kind is something that may happen in the model.
type kind uint8

const (
	start   kind = iota // backup a begins
	add                 // backup a sends chunk b
	commit              // backup a makes what it sent durable
	check               // backup a finishes: everything is secured
	publish             // backup a finishes: the snapshot appears
	abort               // backup a ends without a snapshot
	forget              // snapshot a is removed
	trash               // snapshot a moves to the trash
	undo                // snapshot a comes back from the trash
	read                // a restore of snapshot a begins
	unread              // the restore ends
	gc                  // the collection makes its next step
	cancel              // the collection is cancelled
	noSync              // it sweeps, and the list of condemned chunks cannot be written
	noMove              // it reclaims a pack, and fails: before the switch (a=0), after it (a=1)
	crash               // the machine stops; entries not committed survive (a&1), condemned ones (a&2)
	resume              // backup a takes its lease up again
	lapse               // backup a, or the restore, does nothing for longer than the lease lasts
	fail                // a write fails, and what is not durable is gone
	damage              // chunk a turns out to be unreadable
	kinds
)

// op is one thing that happens.
type op struct {
	kind kind
	a, b uint8
}

// enabled lists what may happen now, in an order that never changes.
func (w *world) enabled() (ops []op) {
	can := func(k kind, a, b int) {
		if w.spent[k] < w.may[k] {
			ops = append(ops, op{k, uint8(a), uint8(b)})
		}
	}
	for i, c := range w.clients {
		w.enabledBackup(can, i, c)
	}
	w.enabledSnapshots(can)
	if w.reader.phase == open {
		can(unread, 0, 0)
		can(lapse, len(w.clients), 0)
	}
	w.enabledCollection(can)
	entries, dead := w.store.volatile()
	for a := range 4 {
		if (a&1 == 0 || entries) && (a&2 == 0 || dead) { // else it makes no difference
			can(crash, a, 0)
		}
	}
	can(fail, 0, 0)
	for i := range w.chunks {
		can(damage, i, 0)
	}
	return ops
}

func (w *world) enabledBackup(can func(k kind, a, b int), i int, c *client) {
	switch c.phase {
	case away:
		if i == 0 || w.clients[i-1].phase != away { // they are all alike
			can(start, i, 0)
		}
	case open:
		for d := range w.chunks {
			if c.has&(1<<d) == 0 {
				can(add, i, d)
			}
		}
		if c.has != 0 {
			can(commit, i, 0)
			if len(w.roots.all) < w.maxSnapshot {
				can(check, i, 0)
			}
		}
		can(abort, i, 0)
		can(lapse, i, 0)
	case checked:
		can(publish, i, 0)
		can(lapse, i, 0)
	case crashed:
		can(resume, i, 0)
		can(lapse, i, 0)
	}
}

func (w *world) enabledSnapshots(can func(k kind, a, b int)) {
	locked := w.bug == trustsBase && slices.ContainsFunc(w.clients, func(c *client) bool { return c.phase != away })
	for i, r := range w.roots.all {
		if locked {
			break // PBS keeps the base of a running backup from being forgotten
		}
		can(forget, i, 0)
		if r.trashed {
			can(undo, i, 0)
		} else {
			can(trash, i, 0)
		}
		if w.reader.phase == away && !r.trashed {
			can(read, i, 0)
		}
	}
}

func (w *world) enabledCollection(can func(k kind, a, b int)) {
	if w.stage == idle {
		can(gc, 0, 0)
		return
	}
	w.spent[gc]-- // what has begun may go on
	can(gc, 0, 0)
	w.spent[gc]++
	can(cancel, 0, 0)
	if w.stage == planned {
		can(noSync, 0, 0)
	}
	if w.stage == reclaiming && len(w.work) > 0 && w.work[0].Method == pack.Copy {
		can(noMove, 0, 0)
		can(noMove, 1, 0)
	}
}

// do lets o happen.
func (w *world) do(o op) {
	w.spent[o.kind]++
	w.said = ""
	switch o.kind {
	case start, add, commit, check, publish, abort, resume:
		w.doBackup(o, w.clients[o.a])
	case forget, trash, undo, read, unread:
		w.doSnapshot(o)
	case gc, cancel, noSync, noMove:
		w.doCollection(o)
	default:
		w.doAccident(o)
	}
}

func (w *world) doBackup(o op, c *client) {
	ctx := context.Background()
	var err error
	n := o.a + 1
	switch o.kind {
	case start:
		*c = client{phase: open}
		c.s, err = w.c.Open("backup", fmt.Sprint(n))
		w.say("backup %d starts", n)
	case add:
		w.add(c, o)
	case commit:
		if err = c.s.Commit(ctx); errors.Is(err, ErrLost) {
			err = nil
		}
		c.saved, c.sure = c.has, c.promised
		w.say("backup %d makes its chunks durable", n)
	case check:
		w.say("backup %d finishes: its chunks (%s) are all here", n, c.has)
		w.check(c)
	case publish:
		c.publish <- true
		err = <-c.done
		w.released()
		w.say("backup %d publishes snapshot s%d (%s)", n, w.names, c.has)
		*c = client{}
	case abort:
		c.s.Abort()
		w.released()
		*c = client{}
		w.say("backup %d is aborted", n)
	case resume:
		var s *Session
		if s, err = w.c.Resume(c.s.id); errors.Is(err, ErrNoLease) && c.promised == 0 {
			*c = client{} // lapsed
			err = nil
		} else {
			c.phase, c.s = open, s
		}
		w.say("backup %d takes its lease up again", n)
	}
	w.must(err)
}

func (w *world) add(c *client, o op) {
	chunk := modelChunks[o.b]
	known, err := c.s.Put(context.Background(), chunk.digest, chunk.blob)
	w.must(err)
	c.has |= 1 << o.b
	c.promised |= 1 << o.b
	outcome := "it is already here"
	if !known {
		outcome = "it is new"
	}
	inBase := slices.ContainsFunc(w.roots.all, func(r *memRoot) bool { return slices.Contains(r.digests, chunk.digest) })
	if ref, ok := w.store.Lookup(chunk.digest); ok && !inBase {
		c.own.Add(ref)
	}
	w.plantTrust(c)
	w.say("backup %d sends chunk %s: %s", o.a+1, modelName(chunk.digest), outcome)
}

func (w *world) doSnapshot(o op) {
	var r *memRoot
	if o.kind != unread {
		r = w.roots.all[o.a]
	}
	switch o.kind {
	case forget:
		w.roots.forget(r)
		w.say("snapshot %s is forgotten", r.id)
	case trash:
		w.roots.trash(r, true)
		w.say("snapshot %s moves to the trash", r.id)
	case undo:
		s, err := w.c.Open("undo", r.id)
		w.must(err)
		w.must(s.Finish(context.Background(), []Index{Seq(func(yield func(chunks.Digest) bool) {
			for _, d := range r.digests {
				if !yield(d) {
					return
				}
			}
		})}, func() error { w.roots.trash(r, false); return nil }))
		w.say("snapshot %s comes back from the trash", r.id)
	case read:
		w.reader = client{phase: open}
		s, err := w.c.Open("restore", r.id)
		w.must(err)
		missing, err := s.Missing(context.Background(), r.digests)
		w.must(err)
		for _, d := range r.digests {
			w.reader.promised |= digestBit(d)
		}
		for _, d := range missing {
			if w.broken&digestBit(d) == 0 {
				w.must(fmt.Errorf("a restore of %s lacks chunk %s", r.id, modelName(d)))
			}
			w.reader.promised &^= digestBit(d)
		}
		w.reader.s = s
		w.say("a restore of %s begins", r.id)
	case unread:
		w.reader.s.Abort()
		w.released()
		w.reader = client{}
		w.say("the restore ends")
	}
}

func (w *world) doAccident(o op) {
	switch o.kind {
	case crash:
		w.crash(o.a&1 != 0, o.a&2 != 0)
		kept := map[uint8]string{0: "nothing", 1: "new chunks", 2: "condemnations", 3: "everything"}
		w.say("the machine crashes and starts again; of what was not durable, %s survived", kept[o.a])
	case lapse:
		c := &w.reader
		if int(o.a) < len(w.clients) {
			c = w.clients[o.a]
		}
		w.idle(c)
		w.say("the lease of %s runs out", w.nameOf(o.a))
	case fail:
		w.store.fail()
		for _, c := range append(w.clients, &w.reader) {
			c.promised, c.sure = 0, 0
		}
		w.say("a write fails, and takes along what is not durable")
	case damage:
		w.store.quarantine(modelChunks[o.a].digest)
		w.broken |= 1 << o.a
		for _, c := range append(w.clients, &w.reader) {
			c.promised &^= 1 << o.a
			c.sure &^= 1 << o.a
		}
		w.say("chunk %s turns out to be damaged", modelName(modelChunks[o.a].digest))
	}
}

func (w *world) nameOf(a uint8) string {
	if int(a) < len(w.clients) {
		return fmt.Sprintf("backup %d", a+1)
	}
	return "the restore"
}

// idle lets the lease of c be unused for twice its time. What is in the
// middle of a call is not idle.
func (w *world) idle(c *client) {
	if s := w.c.sessions[c.s.id]; s != nil {
		s.used = s.used.Add(-2 * ttl)
	}
	if c.phase != checked {
		c.promised, c.sure = 0, 0
	}
}
