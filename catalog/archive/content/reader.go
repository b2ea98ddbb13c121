package content

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
)

// What a Reader keeps in memory unless told otherwise, in bytes.
const (
	defaultCache = 64 << 20 // the tables of a large tree, and a window of its data
	defaultAhead = 16 << 20 // four average chunks: hides the way to a server
)

// expectBytes is how much of what comes next a source is told of, in decoded
// bytes: with a round trip of 150 ms it lets 600 MB/s arrive.
const expectBytes = 96 << 20

// An Expecter is a source to which the way is long. It is told which chunks
// will probably be asked for next, each once and in order, and may fetch them.
type Expecter interface{ Expect(want []chunks.Digest) }

// MaxWorkers is how many chunks are worked on at the same time unless told
// otherwise. Each may need 32 MiB, and 4 decode more than disks and networks
// bring.
const MaxWorkers = 4

// ReaderOptions say how a [Reader] works. The zero value of a field means its
// default.
type ReaderOptions struct {
	Archive   string             // what messages call the content
	CryptMode manifest.CryptMode // chunks encoded otherwise are refused; default: none are
	Cache     int64              // decoded bytes that are kept; default 64 MiB
	Ahead     int64              // decoded bytes ahead of sequential access, at most half of Cache; default 16 MiB, none if negative
	Workers   int                // chunks read ahead at the same time; default: processors, at most 4
}

func (o ReaderOptions) withDefaults() ReaderOptions {
	o.Cache = cmp.Or(max(o.Cache, 0), defaultCache)
	o.Ahead = min(cmp.Or(o.Ahead, defaultAhead), o.Cache/2)
	o.Workers = cmp.Or(o.Workers, min(runtime.GOMAXPROCS(0), MaxWorkers))
	return o
}

// Share returns what each of n readers gets that share what o allows.
func (o ReaderOptions) Share(n int) ReaderOptions {
	o = o.withDefaults()
	o.Cache /= int64(n)
	o.Ahead /= int64(n)
	return o
}

// A Reader is random access to the content that an index names. Bytes are
// handed out only after the whole chunk was decoded and proved to be the one
// that the index names. It keeps what was used last, fetches a chunk once
// however many ask for it, and reads ahead of whoever reads in order. It is
// safe for concurrent use.
type Reader struct {
	dec    Decoder
	src    chunks.Source
	far    Expecter // src, if it is one
	opt    ReaderOptions
	ctx    context.Context // of the reader's life: io.ReaderAt has none
	cancel context.CancelFunc
	ahead  sync.WaitGroup

	mu      sync.Mutex // guards what follows
	pages   pages
	streams streams
	running int // goroutines that read ahead
	closed  bool
}

// NewReader returns a reader of the content that idx names, whose chunks are in
// src. It ends with ctx, or with Close, which must be called. The key may be
// nil if the content is not encrypted. It fails with chunks.ErrBadIndex if the
// index has chunks of more than 16 MiB.
func NewReader(ctx context.Context, src chunks.Source, idx chunks.Index, key *chunks.Key, opt ReaderOptions) (*Reader, error) {
	dec := Decoder{Archive: cmp.Or(opt.Archive, "archive"), Index: idx, Key: key, Mode: opt.CryptMode}
	if err := dec.Check(); err != nil {
		return nil, err
	}
	return New(ctx, src, dec, opt), nil
}

// New returns a reader by a decoder whose Check has passed. Of opt only the
// sizes count.
func New(ctx context.Context, src chunks.Source, dec Decoder, opt ReaderOptions) *Reader {
	r := &Reader{dec: dec, src: src, opt: opt.withDefaults()}
	r.far, _ = src.(Expecter)
	r.pages.init(r.opt.Cache)
	r.ctx, r.cancel = context.WithCancel(ctx)
	return r
}

// Size returns the length of the content in bytes.
func (r *Reader) Size() int64 { return r.dec.Index.Size() }

// Close stops reading ahead and frees what is kept. Reads fail from then on.
func (r *Reader) Close() error {
	r.cancel()
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.ahead.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pages.clear()
	return nil
}

// ReadAt fills p with the content from off. A chunk that cannot be had fails
// with a [ChunkError] after the bytes in front of it were read.
func (r *Reader) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("read %s at offset %d: the offset is negative", r.dec.Archive, off)
	}
	for n < len(p) {
		i, ok := r.dec.Index.Find(off + int64(n))
		if !ok {
			return n, io.EOF
		}
		m, err := r.copy(p[n:], i, off+int64(n))
		if n += m; err != nil {
			return n, err
		}
	}
	return n, nil
}

// copy copies from off as much of chunk i as p takes.
func (r *Reader) copy(p []byte, i int, off int64) (int, error) {
	page, err := r.take(i)
	if err != nil {
		return 0, err
	}
	defer r.release(page)
	start, end := r.dec.Index.Range(i)
	if int64(len(page.data)) != end-start { // the index gives one digest two sizes
		return 0, r.dec.Failed(i, fmt.Errorf("%w: it holds %d bytes, the index says %d", chunks.ErrCorrupt, len(page.data), end-start))
	}
	return copy(p, page.data[off-start:]), nil
}

// take returns the page of chunk i, which must be released.
func (r *Reader) take(i int) (*page, error) {
	r.mu.Lock()
	if err := r.alive(); err != nil {
		r.mu.Unlock()
		return nil, r.dec.Failed(i, err)
	}
	r.follow(i)
	p, found := r.pages.take(r.dec.Index.Digest(i))
	r.mu.Unlock()
	if !found {
		r.load(p, i)
	}
	select {
	case <-p.done:
	case <-r.ctx.Done():
		r.release(p)
		return nil, r.dec.Failed(i, r.ctx.Err())
	}
	if p.err != nil {
		r.release(p)
		return nil, r.dec.Failed(i, p.err)
	}
	return p, nil
}

func (r *Reader) alive() error {
	if r.closed {
		return os.ErrClosed
	}
	return r.ctx.Err()
}

func (r *Reader) release(p *page) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pages.release(p)
}

// load fills p with chunk i, for all who wait for it.
func (r *Reader) load(p *page, i int) {
	buf, err := r.dec.Fetch(r.ctx, r.src, i)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.pages.fail(p, err)
		return
	}
	r.pages.fill(p, buf)
}

// follow notes that chunk i is being read, and has what will probably be read
// next fetched.
func (r *Reader) follow(i int) {
	if r.opt.Ahead <= 0 {
		return
	}
	r.streams.use(i)
	if r.far != nil {
		if want := r.streams.expect(r.dec.Index, expectBytes); len(want) > 0 {
			r.far.Expect(want)
		}
	}
	for r.running < r.opt.Workers {
		p, i, ok := r.wanted()
		if !ok {
			return
		}
		r.running++
		r.ahead.Go(func() { r.readAhead(p, i) })
	}
}

// readAhead loads pages until nothing is wanted. It begins with p.
func (r *Reader) readAhead(p *page, i int) {
	for ok := true; ok; {
		r.load(p, i)
		r.mu.Lock()
		r.pages.release(p)
		if p, i, ok = r.wanted(); !ok {
			r.running--
		}
		r.mu.Unlock()
	}
}

// wanted returns the next page to read ahead, taken.
func (r *Reader) wanted() (p *page, i int, ok bool) {
	for r.alive() == nil {
		i, ok := r.streams.next(r.dec.Index, r.opt.Ahead)
		if !ok {
			break
		}
		if d := r.dec.Index.Digest(i); !r.pages.has(d) {
			p, _ := r.pages.take(d)
			return p, i, true
		}
	}
	return nil, 0, false
}
