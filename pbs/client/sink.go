package client

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/client/wire"
)

var (
	_ archive.Sink  = (*sink)(nil)
	_ chunks.Knower = (*sink)(nil)
	_ chunks.Taker  = (*sink)(nil)
)

const (
	// maxAppend is how many chunks are appended with one request, as QEMU's
	// library does: some 11 KiB, of which PBS takes 64.
	maxAppend = 128

	// maxQueue is how many chunks may wait to be appended. It bounds memory,
	// and is enough for one request to gather while another is on its way.
	maxQueue = 8 * maxAppend
)

// A sink takes the chunks of one archive.
type sink struct {
	b       *Backup
	archive string
	kind    string // "fixed" or "dynamic"
	wid     int    // what the server calls it
	queue   chan place
	ended   chan struct{} // closed when all that was queued is appended
	count   int           // chunks that were appended
	closed  bool
}

// A place is where a chunk belongs.
type place struct {
	offset int64
	digest chunks.Digest
	parcel *parcel // to be waited for; may be nil
}

// Open begins an archive. A disk image must have a size; PBS keeps no empty
// ones.
func (b *Backup) Open(ctx context.Context, name string, size int64) (archive.Sink, error) {
	doing := "begin " + name
	s := &sink{b: b, archive: name, queue: make(chan place, maxQueue), ended: make(chan struct{})}
	q := url.Values{"archive-name": {name}}
	switch {
	case strings.HasSuffix(name, ".didx"):
		s.kind = "dynamic"
	case !strings.HasSuffix(name, ".fidx"):
		return nil, fmt.Errorf("%s: a PBS server keeps archives as .fidx and .didx", doing)
	case size < 1:
		return nil, fmt.Errorf("%s: a PBS server keeps no image of %d bytes", doing, size)
	default:
		s.kind = "fixed"
		q.Set("size", strconv.FormatInt(size, 10))
	}
	if err := b.session.Alive(ctx); err != nil {
		return nil, during(doing, err)
	}
	if err := b.know(name); err != nil {
		return nil, during(doing, err)
	}
	wid, err := wire.Do[int](ctx, b.session, wire.Exchange{Doing: doing, Method: "POST", Path: "/" + s.kind + "_index", Query: q})
	if err != nil {
		return nil, err
	}
	s.wid = wid
	if err := b.begin(s.appendAll); err != nil {
		return nil, during(doing, err)
	}
	b.mu.Lock()
	b.open++
	b.mu.Unlock()
	return s, nil
}

// Known reports whether the chunk is there already, or on its way.
func (s *sink) Known(d chunks.Digest) bool { return s.b.knows(d) }

// Put takes a chunk, to be sent when it is appended.
func (s *sink) Put(ctx context.Context, d chunks.Digest, blob chunks.Blob) (known bool, err error) {
	if s.Known(d) {
		return true, s.b.session.Alive(ctx)
	}
	buf := chunks.GetBuffer(len(blob))
	buf.Bytes = append(buf.Bytes, blob...)
	return s.Take(ctx, d, buf)
}

// Take is Put of what is in a buffer, which it frees.
func (s *sink) Take(ctx context.Context, d chunks.Digest, buf *chunks.Buffer) (known bool, err error) {
	err = s.b.session.Alive(ctx)
	if n := len(buf.Bytes); err == nil && n > chunks.MaxBlob {
		err = fmt.Errorf("chunk %s has %d bytes encoded, a PBS server takes %d", d.Short(), n, chunks.MaxBlob)
	}
	if err != nil {
		buf.Free()
		return false, err
	}
	return s.b.pack(d, buf), nil
}

// Append says where a chunk belongs, and has it sent.
func (s *sink) Append(ctx context.Context, c chunks.Stored) error {
	if err := s.b.session.Alive(ctx); err != nil {
		return err
	}
	p, err := s.b.dispatch(ctx, s, c)
	if err != nil {
		return err
	}
	select {
	case s.queue <- place{c.Offset, c.Digest, p}:
		s.count++
		return nil
	case <-s.b.session.Context().Done():
		return context.Cause(s.b.session.Context())
	case <-ctx.Done():
		return ctx.Err()
	}
}

// appendAll tells the server where chunks belong, in the order in which they
// came, each after it has arrived. While one request is on its way the next
// gathers, so that a long way makes requests larger and not the work slower.
func (s *sink) appendAll() {
	defer close(s.ended)
	next, ok := s.take()
	for ok && next.parcel.arrived(s.b.session.Context()) {
		batch := []place{next}
		next, ok = s.gather(&batch)
		if err := s.send(batch); err != nil {
			s.b.session.Fail(err)
			return
		}
		if !ok {
			next, ok = s.take()
		}
	}
}

// take waits for the next place. There is none after the last, or when the
// backup ends.
func (s *sink) take() (place, bool) {
	select {
	case p, ok := <-s.queue:
		return p, ok
	case <-s.b.session.Context().Done():
		return place{}, false
	}
}

// gather adds to batch what can go with it now. It may return one place that
// cannot, and is the next.
func (s *sink) gather(batch *[]place) (next place, ok bool) {
	for len(*batch) < maxAppend {
		select {
		case p, ok := <-s.queue:
			if !ok {
				return place{}, false
			}
			if !p.parcel.here() {
				return p, true
			}
			*batch = append(*batch, p)
		default:
			return place{}, false
		}
	}
	return place{}, false
}

// send appends chunks that the server has.
func (s *sink) send(batch []place) error {
	body := struct {
		WID     int             `json:"wid"`
		Digests []chunks.Digest `json:"digest-list"`
		Offsets []int64         `json:"offset-list"`
	}{WID: s.wid}
	for _, p := range batch {
		body.Digests = append(body.Digests, p.digest)
		body.Offsets = append(body.Offsets, p.offset)
	}
	_, err := wire.Do[any](s.b.session.Context(), s.b.session, wire.Exchange{
		Doing: "append to " + s.archive, Method: "PUT", Path: "/" + s.kind + "_index",
		Body: encode(body), Kind: wire.JSON,
	})
	return err
}

// Close ends the archive: the server compares what it has with idx.
func (s *sink) Close(ctx context.Context, idx chunks.Index) error {
	doing := "close " + s.archive
	switch {
	case s.closed:
		return errors.New(doing + ": it is closed")
	case idx.Len() != s.count:
		return fmt.Errorf("%s: %d chunks were appended, the index has %d", doing, s.count, idx.Len())
	}
	s.closed = true
	close(s.queue)
	select {
	case <-s.ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := s.b.session.Alive(ctx); err != nil {
		return during(doing, err)
	}
	_, err := wire.Do[any](ctx, s.b.session, wire.Exchange{
		Doing: doing, Method: "POST", Path: "/" + s.kind + "_close",
		Query: url.Values{
			"wid": {strconv.Itoa(s.wid)}, "chunk-count": {strconv.Itoa(s.count)},
			"size": {strconv.FormatInt(idx.Size(), 10)}, "csum": {idx.Csum().String()},
		},
	})
	if err != nil {
		return err
	}
	s.b.mu.Lock()
	s.b.open--
	s.b.mu.Unlock()
	return nil
}

// Commit does nothing: what was sent is durable when the backup is finished.
func (s *sink) Commit(context.Context) error { return nil }

// Missing returns which chunks must be put.
func (s *sink) Missing(_ context.Context, want []chunks.Digest) (missing []chunks.Digest, err error) {
	for _, d := range want {
		if !s.b.knows(d) {
			missing = append(missing, d)
		}
	}
	return missing, nil
}

// Get fails: a server gives nothing back on the connection of a backup.
func (s *sink) Get(_ context.Context, d chunks.Digest, _ []byte) (chunks.Blob, error) {
	return nil, &chunks.Error{Op: "read", Digest: d, Place: s.String(), Err: errors.ErrUnsupported}
}

// String names the archive for messages.
func (s *sink) String() string { return s.archive + " of " + s.b.String() }
