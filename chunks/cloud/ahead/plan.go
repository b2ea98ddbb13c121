package ahead

import (
	"context"
	"slices"
	"sync"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// A Source is the store that a [Plan] reads.
type Source interface {
	// Get reads a chunk for a reader that goes on in order.
	Get(ctx context.Context, d chunks.Digest, buf []byte) (chunks.Blob, error)

	// Alone reads a chunk and nothing else, and keeps it where it is near.
	Alone(ctx context.Context, d chunks.Digest, buf []byte) (chunks.Blob, error)

	// Find tells where in the bucket a chunk lies, if it is nowhere nearer.
	Find(d chunks.Digest) (Want, bool)

	// Fetch is [Reader.Read]. With keep, what comes is kept where it is near.
	Fetch(ctx context.Context, wants []Want, keep bool, fn func(Want, chunks.Digest, chunks.Blob, error) error) error
}

const (
	// fullWindow is how much is read ahead of a reader that goes on in order,
	// and so the most that one request brings: a whole pack, also one that is
	// a little over its size.
	fullWindow = 72 << 20

	// growth is how much is read ahead at first, for each byte that was asked for
	// in order, up to firstWindow, until so much was asked for: who reads some
	// files of a mounted archive does not pay for packs.
	growth      = 6
	firstWindow = 16 << 20
	leastWindow = 2 << 20

	// spare is what may be read in vain beside as much as was asked for.
	spare = 16 << 20

	// planBytes bounds what a plan holds: what is being read, and windows that
	// arrive at the same time, since one transfer seldom fills a line. roomBytes
	// bounds all plans of a store; one plan leaves something to the others.
	windows   = 2
	planBytes = (1 + windows) * fullWindow
	roomBytes = 4 * fullWindow

	// nearby is how far from the expected chunk a request may be and still
	// count as reading in order: clients have some under way, which overtake
	// each other, and skip what they have.
	nearby = 64

	// Something is read ahead when proof chunks side by side are among the last
	// that were asked for: before that each is read by itself.
	proof  = 3
	recent = 8

	// busy is how many requests at the same time, in order, are those of a restore.
	busy = 5
	many = 9 // and the same before an order is proven

	maxStrays = 2 // requests far away in a row that are no new beginning

	// spread is how much of the index is searched for chunks of a pack, as a
	// multiple of the window: content shrinks when it is compressed.
	spread = 4

	requests = 8 // at the same time, of a plan
)

// Room is the memory that the plans of a store share. The zero value has all
// of it.
type Room struct {
	mu    sync.Mutex
	taken int64
}

// take reports whether there was room for n bytes, which are taken then.
func (r *Room) take(n int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken+n > roomBytes {
		return false
	}
	r.taken += n
	return true
}

func (r *Room) give(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken -= n
}

// A Plan reads the chunks of an index ahead of somebody who asks for them about
// in order. It knows the whole order, so it reads of each pack at once all that
// the next stretch of the index needs, wherever in the pack and in whatever
// order that lies. What is read is in memory, room for it is taken before the
// request, and without room each chunk is read by itself.
type Plan struct {
	src   Source
	x     chunks.Index
	room  *Room
	gap   int64
	ctx   context.Context
	stop  context.CancelFunc
	reads sync.WaitGroup
	slots chan struct{} // one for each request

	mu       sync.Mutex
	next     int          // the chunk that is expected
	last     []int        // the last ones that were asked for, while no order is proven
	strays   int          // requests in a row that were not in order
	under    int          // requests under way
	run      int64        // bytes that were asked for in order
	window   int64        // bytes to have ahead; 0: no order is proven
	frontier int          // chunks before this one were seen to
	begun    int          // where that began: nobody has seen to those before it
	early    map[int]bool // those from it on that were asked for
	pause    int          // no more is tried before this one is asked for: there was no room
	held     map[chunks.Digest]*piece
	bytes    int64 // of held
	ahead    int64 // of these, not asked for yet
	used     int64 // bytes that somebody asked for
	wasted   int64 // bytes that nobody asked for
}

// A piece is a chunk that is in memory, or about to be.
type piece struct {
	at    int
	n     int64
	taken bool          // somebody asked for it: it may go
	done  chan struct{} // closed when blob is set, or will never be
	blob  chunks.Blob
}

// NewPlan returns a plan for the chunks of x. gap is how many bytes are rather
// read in vain than with another request.
func NewPlan(src Source, x chunks.Index, room *Room, gap int64) *Plan {
	ctx, stop := context.WithCancel(context.Background())
	return &Plan{src: src, x: x, room: room, gap: gap, ctx: ctx, stop: stop, slots: make(chan struct{}, requests), early: map[int]bool{}, held: map[chunks.Digest]*piece{}}
}

// Close implements [chunks.Plan].
func (p *Plan) Close() {
	p.stop()
	p.reads.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(func(*piece) bool { return true })
}

// Get implements [chunks.Plan].
func (p *Plan) Get(ctx context.Context, i int, buf []byte) (chunks.Blob, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d := p.x.Digest(i)
	p.mu.Lock()
	p.under++
	defer p.leave()
	p.follow(i, d)
	got := p.held[d]
	if got == nil && p.strays == 0 && p.worth() {
		p.fetch(i, true)
		got = p.held[d]
	}
	p.note(i, got)
	p.more()
	read := p.src.Get
	if p.window == 0 || p.strays > 0 {
		read = p.src.Alone
	}
	p.mu.Unlock()
	if got != nil {
		select {
		case <-got.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if got.blob != nil {
			return append(buf[:0], got.blob...), nil
		}
	}
	return read(ctx, d, buf)
}

func (p *Plan) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.under--
}

// note counts what is asked for.
func (p *Plan) note(i int, got *piece) {
	n := p.size(i)
	switch {
	case got == nil:
	case got.taken:
		n = 0
	default:
		got.taken = true
		p.ahead -= got.n
		n = got.n
	}
	p.used += n
	if p.window > 0 && p.strays == 0 {
		p.run += n
		p.widen()
	}
}

// widen lets more be read ahead the more was asked for in order.
func (p *Plan) widen() {
	most := int64(fullWindow)
	if p.run < firstWindow {
		most = firstWindow
	}
	p.window = min(max(growth*p.run, leastWindow), most)
	if p.under >= busy {
		p.window = fullWindow
	}
}

// size is what reading a chunk brings.
func (p *Plan) size(i int) int64 {
	if w, ok := p.src.Find(p.x.Digest(i)); ok {
		return w.N
	}
	start, end := p.x.Range(i)
	return end - start
}

// follow notes a request. A chunk that the index has at several places is
// taken for the one that is expected, if that is one of them.
func (p *Plan) follow(at int, d chunks.Digest) {
	for i := p.next; i < min(p.next+nearby, p.x.Len()); i++ {
		if p.x.Digest(i) == d {
			at = i
			break
		}
	}
	far := at < p.next-nearby || at >= p.next+nearby
	if p.window > 0 && far {
		if p.strays < maxStrays { // one that came late is no new beginning
			p.strays++
			return
		}
		p.window, p.last, p.pause = 0, nil, 0
		for _, h := range p.held {
			p.unwanted(h)
		}
	}
	p.strays = 0
	if p.window == 0 {
		p.prove(at)
		return
	}
	p.next = max(p.next, at+1)
	if at >= p.frontier {
		p.early[at] = true
	}
}

// prove notes a request of a reader that may jump, and lets reading ahead begin
// if the last ones were in order.
func (p *Plan) prove(at int) {
	p.next = at + 1
	if slices.Contains(p.last, at) {
		return
	}
	if len(p.last) == recent {
		p.last = slices.Delete(p.last, 0, 1)
	}
	p.last = append(p.last, at)
	first, end := at, at+1
	for slices.Contains(p.last, first-1) {
		first--
	}
	for slices.Contains(p.last, end) {
		end++
	}
	if end-first < proof && p.together() {
		first = slices.Min(p.last)
		end = first + 1
	} else if end-first < proof {
		return
	}
	p.next, p.frontier, p.run = end, max(first-recent, 0), 0
	if !slices.ContainsFunc(p.last, func(i int) bool { return i >= p.frontier && i < first }) {
		p.frontier = first // nothing before the run is under way
	}
	p.begun = p.frontier
	clear(p.early)
	for _, i := range p.last {
		p.early[i] = i >= p.frontier
	}
	for i := first; i < end; i++ {
		p.run += p.size(i)
	}
	p.widen()
}

// together reports whether many requests near each other are under way at the same
// time: those of a reader that goes on in order, which overtake each other before
// three of them lie side by side.
func (p *Plan) together() bool {
	return p.under >= many && len(p.last) >= busy && slices.Max(p.last)-slices.Min(p.last) < nearby
}

// unwanted lets a piece go that nobody asked for.
func (p *Plan) unwanted(h *piece) {
	if !h.taken {
		h.taken = true
		p.ahead -= h.n
		p.wasted += h.n
	}
}

// worth reports whether to read more than is asked for: not at random, and not
// for a reader that passes over most of it.
func (p *Plan) worth() bool {
	return p.window > 0 && p.wasted <= p.used+spare && p.ctx.Err() == nil
}

// more reads ahead as far as the window goes.
func (p *Plan) more() {
	depth := p.window / 4
	if p.run >= firstWindow || p.under >= busy {
		depth = windows * p.window
	}
	for p.worth() && p.ahead < depth && p.frontier < p.x.Len() && p.next >= p.pause {
		if p.held[p.x.Digest(p.frontier)] == nil && !p.early[p.frontier] && !p.fetch(p.frontier, false) {
			return
		}
		delete(p.early, p.frontier)
		p.frontier++
	}
}

// fetch begins to read chunk at, and with it all that the window has of the
// same pack. It reports false if there is no room for all of it; what is asked
// for now is content with some. If the chunk is nearer than the bucket, there
// is nothing to do.
func (p *Plan) fetch(at int, now bool) bool {
	first, ok := p.src.Find(p.x.Digest(at))
	if !ok {
		return true
	}
	wants, places := p.gather(at, first)
	got := 0
	for got < len(wants) && p.take(wants[got].N) {
		got++
	}
	if got == 0 || got < len(wants) && !now {
		for _, w := range wants[:got] {
			p.give(w.N)
		}
		p.pause = p.next + len(wants)/4
		return false
	}
	wants, places = wants[:got], places[:got]
	keep := p.window < fullWindow
	for i, w := range wants {
		p.held[w.Digest] = &piece{at: places[i], n: w.N, done: make(chan struct{})}
		p.ahead += w.N
	}
	for _, stretch := range Stretches(wants, p.gap) {
		pieces := make([]*piece, len(stretch))
		for i, w := range stretch {
			pieces[i] = p.held[w.Digest]
		}
		p.reads.Go(func() { p.read(stretch, pieces, keep) })
	}
	return true
}

// gather chooses what to read of the pack of first, which is chunk at.
func (p *Plan) gather(at int, first Want) (wants []Want, places []int) {
	wants, places = []Want{first}, []int{at}
	chosen := map[chunks.Digest]bool{first.Digest: true}
	sum, passed := first.N, int64(0)
	from, begun := p.frontier, p.begun
	if at < begun { // it came late, and so may some around it
		from = at
		p.begun = from
	}
	for i := from; i < p.x.Len() && passed < spread*p.window; i++ {
		if from < begun && i == begun {
			if i = p.frontier; i >= p.x.Len() {
				break
			}
		}
		start, end := p.x.Range(i)
		passed += end - start
		d := p.x.Digest(i)
		if chosen[d] || p.held[d] != nil || p.early[i] {
			continue
		}
		w, there := p.src.Find(d)
		if !there || w.Pack.Number != first.Pack.Number {
			continue
		}
		if sum+w.N > p.window {
			break
		}
		wants, places, chosen[d] = append(wants, w), append(places, i), true
		sum += w.N
	}
	return wants, places
}

func (p *Plan) give(n int64) {
	p.bytes -= n
	p.room.give(n)
}

// take takes room for n bytes, of what nobody needs any more if need be.
func (p *Plan) take(n int64) bool {
	for dropped := false; ; dropped = true {
		if p.bytes+n <= planBytes && p.room.take(n) {
			p.bytes += n
			return true
		}
		if dropped {
			return false
		}
		p.drop(func(h *piece) bool {
			if h.at < p.next-nearby {
				p.unwanted(h)
			}
			return h.taken
		})
	}
}

// drop lets go of the pieces for which old is true, but those that are being
// read.
func (p *Plan) drop(old func(*piece) bool) {
	for d, h := range p.held {
		select {
		case <-h.done:
		default:
			continue
		}
		if !old(h) {
			continue
		}
		if !h.taken {
			p.ahead -= h.n
		}
		delete(p.held, d)
		p.give(h.n)
	}
}

// read reads a stretch. What cannot be read is let go of at once: the request
// for it reads it by itself, and fails with the reason.
func (p *Plan) read(wants []Want, pieces []*piece, keep bool) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-p.ctx.Done():
	}
	i := 0
	_ = p.src.Fetch(p.ctx, wants, keep, func(_ Want, _ chunks.Digest, b chunks.Blob, err error) error {
		if err == nil {
			pieces[i].blob = slices.Clone(b)
			close(pieces[i].done)
		}
		i++
		return nil
	})
	for j, h := range pieces {
		select {
		case <-h.done:
			continue
		default:
		}
		close(h.done)
		p.mu.Lock()
		p.drop(func(x *piece) bool { return x == pieces[j] })
		p.mu.Unlock()
	}
}
