package gc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// A scenario bounds a model: how many of everything there is, and which
// things may happen how often.
type scenario struct {
	name        string
	chunks      int        // A, B, C
	snapshots   [][]int    // there from the beginning, by their chunks
	maxSnapshot int        // at any moment
	backups     int        // clients that may run at the same time
	may         [kinds]int // how often each kind of op may happen in one history; 0: never
	packEntries int
	can         pack.Abilities
	bug         bug
}

// A bug is a mistake planted into the code under test, from outside.
type bug int

const (
	noBug           bug = iota
	trustsBase          // "already here" pins nothing, the base snapshot's index is to protect it; what vanished is not looked for
	sweepsStalePins     // the sweep goes by the pins of the plan
	noValidation        // Finish looks at nothing
	noLatePins          // released pins do not outlive the collection
	unsyncedCondemn     // reclaim does not wait until the condemnation is durable
	listsOnce           // what vanished is not looked for
	leavesPins          // chunks move, and pins do not move with them
)

const ttl = time.Hour

// world is a store, its collector and everybody who uses it, at one moment of
// one history.
type world struct {
	scenario
	store   *twin
	files   *files
	roots   *memRoots
	c       *Collector
	clients []*client
	reader  client
	cycle   *cycle
	stage   stage
	work    []PackPlan
	stale   *pack.Set // pins at the time of the plan, for sweepsStalePins
	names   int
	spent   [kinds]int
	broken  digests // quarantined and not stored again durably
	closed  bool
	wrong   error // an invariant that does not hold
	said    string
	verbose bool
}

type stage uint8

const (
	idle stage = iota
	begun
	listed
	planned
	swept
	reclaiming
)

// digests is a set of the model's chunks.
type digests uint8

func (s digests) String() string {
	var names []string
	for i := range 8 {
		if s&(1<<i) != 0 {
			names = append(names, string(rune('A'+i)))
		}
	}
	return strings.Join(names, ", ")
}

func (s digests) list() (all []chunks.Digest) {
	for i := range 8 {
		if s&(1<<i) != 0 {
			all = append(all, modelChunks[i].digest)
		}
	}
	return all
}

type modelChunk struct {
	digest chunks.Digest
	blob   chunks.Blob
}

var modelChunks = func() (all [8]modelChunk) {
	for i := range all {
		all[i].blob = chunks.Blob(fmt.Sprintf("content of chunk %c", 'A'+i))
		all[i].digest = chunks.Sum(all[i].blob)
	}
	return all
}()

func modelName(d chunks.Digest) string {
	i := slices.IndexFunc(modelChunks[:], func(c modelChunk) bool { return c.digest == d })
	return string(rune('A' + i))
}

// client is a backup, or the reader.
type client struct {
	phase    clientPhase
	s        *Session
	has      digests // what its index names
	promised digests // of has, what it must be able to rely on
	saved    digests // has, at the last Commit
	sure     digests // promised, at the last Commit
	own      pack.Set
	checked  chan struct{}
	publish  chan bool
	done     chan error
}

type clientPhase uint8

const (
	away clientPhase = iota
	open
	checked // Finish is about to publish
	crashed // its lease can be resumed
)

func newWorld(sc scenario) *world {
	w := &world{scenario: sc, files: newFiles(), roots: &memRoots{once: sc.bug == listsOnce || sc.bug == trustsBase}, store: newTwin(sc.packEntries, sc.can)}
	w.store.faults.syncLies = sc.bug == unsyncedCondemn
	w.store.faults.aloneMoves = sc.bug == leavesPins
	w.boot()
	for range sc.backups {
		w.clients = append(w.clients, &client{})
	}
	for _, snapshot := range sc.snapshots {
		var ds digests
		for _, i := range snapshot {
			ds |= 1 << i
		}
		s, err := w.c.Open("backup", "before")
		w.must(err)
		for i := range sc.chunks {
			if ds&(1<<i) != 0 {
				_, err := s.Put(context.Background(), modelChunks[i].digest, modelChunks[i].blob)
				w.must(err)
			}
		}
		w.must(s.Finish(context.Background(), indexOf(ds), func() error { w.addSnapshot(ds); return nil }))
	}
	return w
}

func indexOf(ds digests) []Index { return []Index{Seq(slices.Values(ds.list()))} }

func (w *world) addSnapshot(ds digests) *memRoot {
	w.names++
	return w.roots.add(fmt.Sprintf("s%d", w.names), ds.list())
}

func (w *world) must(err error) {
	if err != nil && w.wrong == nil {
		w.wrong = err
	}
}

func (w *world) boot() {
	c, err := New(Config{Store: w.store, Roots: w.roots, FS: w.files, Dir: "gc", TTL: ttl})
	if err != nil {
		panic(err)
	}
	w.c = c
}

func (w *world) say(format string, args ...any) {
	if w.verbose {
		w.said = fmt.Sprintf(format, args...)
	}
}

// close lets go of everything that waits.
func (w *world) close() {
	for _, c := range w.clients {
		w.abandon(c)
	}
	w.closed = true
}

func (w *world) abandon(c *client) {
	if c.phase == checked {
		c.publish <- false
		<-c.done
		c.phase = open
	}
}

var errAbandoned = errors.New("abandoned")

// check runs Finish up to the moment where everything is secured and nothing
// published.
func (w *world) check(c *client) {
	c.checked, c.publish, c.done = make(chan struct{}), make(chan bool), make(chan error, 1)
	index := indexOf(c.has)
	if w.bug == noValidation {
		index = nil
	}
	go func() {
		c.done <- c.s.Finish(context.Background(), index, func() error {
			w.plantTrust(c)
			c.checked <- struct{}{}
			if !<-c.publish {
				return errAbandoned
			}
			w.addSnapshot(c.has)
			return nil
		})
	}()
	select {
	case <-c.checked:
		c.phase = checked
		c.promised = c.has
		w.broken &^= c.has
	case err := <-c.done:
		w.refused(c, err)
	}
}

// refused takes in that Finish failed: only what was not promised may be
// missing. The client may send it again.
func (w *world) refused(c *client, err error) {
	var missing *MissingError
	if !errors.As(err, &missing) {
		w.must(err)
		return
	}
	for _, d := range missing.Digests {
		bit := digestBit(d)
		if c.promised&bit != 0 && w.bug == noBug {
			w.must(fmt.Errorf("a backup was promised chunk %s, and refused for lack of it", modelName(d)))
		}
		c.has &^= bit
		c.promised &^= bit
	}
}

func digestBit(d chunks.Digest) digests {
	for i := range modelChunks {
		if modelChunks[i].digest == d {
			return 1 << i
		}
	}
	return 0
}

// plantTrust takes the pins of chunks that a snapshot had away again.
func (w *world) plantTrust(c *client) {
	if w.bug == trustsBase {
		c.s.mu.Lock()
		c.s.pins = *c.own.Clone()
		c.s.mu.Unlock()
	}
}

// released plants the bug that pins end with their session.
func (w *world) released() {
	if w.bug == noLatePins && w.c.late != nil {
		w.c.late = &pack.Set{}
	}
}

// crash ends the process and starts another.
func (w *world) crash(keepEntries, keepDead bool) {
	for _, c := range w.clients {
		w.abandon(c)
		switch {
		case c.phase == open && c.s.recorded:
			*c = client{phase: crashed, s: c.s, has: c.saved, promised: c.sure, saved: c.saved, sure: c.sure}
		case c.phase != crashed:
			*c = client{}
		}
	}
	w.reader = client{}
	w.cycle, w.stage, w.work, w.stale = nil, idle, nil, nil
	generation := w.store.generation
	w.store.crash(keepEntries, keepDead)
	w.files.crash()
	w.boot()
	for _, c := range w.clients {
		if c.phase == crashed && w.c.sessions[c.s.id] == nil {
			*c = client{}
		}
		if generation != w.store.generation {
			// Of two copies another may be the known one now, and the lease
			// pins the other: its client has to send the chunk again.
			c.promised, c.sure = 0, 0
		}
	}
}

// inspect checks what must hold at every moment.
func (w *world) inspect() error {
	if w.wrong != nil {
		return w.wrong
	}
	for _, r := range w.roots.all {
		for _, d := range r.digests {
			if err := w.readable(d); err != nil {
				return fmt.Errorf("snapshot %s lost chunk %s: %w", r.id, modelName(d), err)
			}
		}
	}
	if w.bug != noBug {
		return nil // history is to show the loss, not that it is about to come
	}
	for i, c := range append(w.clients, &w.reader) {
		if c.phase == away {
			continue
		}
		for _, d := range c.promised.list() {
			if err := w.readable(d); err != nil {
				return fmt.Errorf("client %d lost chunk %s, which it was promised: %w", i+1, modelName(d), err)
			}
		}
	}
	return nil
}

func (w *world) readable(d chunks.Digest) error {
	bit := digestBit(d)
	if w.broken&bit != 0 {
		return nil
	}
	if _, ok := w.store.Lookup(d); !ok {
		return errors.New("the store denies it")
	}
	b, err := w.store.Get(context.Background(), d, nil)
	if err != nil {
		return err
	}
	if chunks.Sum(b) != d {
		return errors.New("its bytes are gone")
	}
	return nil
}

// settle ends everything that is under way, collects once more, and checks
// that exactly what snapshots need is left. The world is used up.
func (w *world) settle() error {
	ctx := context.Background()
	w.close()
	for _, c := range append(w.clients, &w.reader) {
		if c.phase == open {
			c.s.Abort()
		}
		*c = client{}
	}
	w.c.end()
	for _, s := range w.c.sessions { // left by a crash
		s.used = s.used.Add(-2 * ttl)
	}
	w.store.faults = twinFaults{}
	w.must(w.store.Commit(ctx))
	report, err := w.c.Run(ctx, Options{Urgent: true})
	w.must(err)
	if err := w.inspect(); err != nil {
		return err
	}
	want := digests(0)
	for _, r := range w.roots.all {
		for _, d := range r.digests {
			want |= digestBit(d)
		}
	}
	if want&w.broken != 0 {
		return nil
	}
	wanted := want.list()
	slices.SortFunc(wanted, chunks.Digest.Compare)
	if got := w.store.liveDigests(); !slices.Equal(got, wanted) {
		return fmt.Errorf("after the last collection %d entries live, want those of %s", len(got), want)
	}
	if int(report.DiskChunks) != len(wanted) && w.store.Condemned().Len() == 0 {
		return fmt.Errorf("the report counts %d live chunks, want %d", report.DiskChunks, len(wanted))
	}
	return nil
}
