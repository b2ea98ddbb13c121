package client

import (
	"context"
	"fmt"
	"net/url"
	"strconv"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/client/wire"
)

// A parcel is a chunk on its way to the server. It is packed when the chunk is
// put, and sent when it is appended: only then is it known how many bytes of
// content it has, which the server wants to be told, and which an encrypted
// blob does not show.
type parcel struct {
	digest chunks.Digest
	buf    *chunks.Buffer // what to send; nil once it is being sent
	sent   bool           // guarded by the backup's mutex
	done   chan struct{}  // closed when the server has it
}

// pack keeps a blob, unless the server has the chunk or will have it. A buffer
// that is mostly empty goes back at once: as many bytes are on their way as
// there may be, and their memory should not be much more.
func (b *Backup) pack(d chunks.Digest, buf *chunks.Buffer) (known bool) {
	if b.knows(d) {
		buf.Free()
		return true
	}
	if blob := buf.Bytes; len(blob) < cap(blob)/2 {
		small := chunks.GetBuffer(len(blob))
		small.Bytes = append(small.Bytes, blob...)
		buf.Free()
		buf = small
	}
	p := &parcel{digest: d, buf: buf, done: make(chan struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.held[d]; ok {
		buf.Free()
		return true
	}
	b.held[d] = p
	return false
}

// knows reports whether a chunk need not be put.
func (b *Backup) knows(d chunks.Digest) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.held[d]
	return ok
}

// dispatch sees to it that the chunk is sent. It waits while too much is on
// its way, and returns what to wait for, nil if the server has it.
func (b *Backup) dispatch(ctx context.Context, s *sink, c chunks.Stored) (*parcel, error) {
	b.mu.Lock()
	p, ok := b.held[c.Digest]
	first := p != nil && !p.sent
	if first {
		p.sent = true
	}
	b.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("append chunk %s to %s: it was not put", c.Digest.Short(), s.archive)
	}
	if !first {
		return p, nil
	}
	both, cancel := b.session.Both(ctx)
	defer cancel()
	// A small chunk counts as more than it is, which bounds the requests.
	cost := b.near.cost(max(int64(len(p.buf.Bytes)), b.c.cfg.InFlight/wire.Streams))
	if err := b.c.sending.Acquire(both, cost); err != nil {
		err = context.Cause(both)
		b.session.Fail(err) // others may wait for this parcel
		return nil, err
	}
	err := b.begin(func() {
		defer b.c.sending.Release(cost)
		b.upload(s, p, c.Size)
	})
	if err != nil {
		b.c.sending.Release(cost)
	}
	return p, err
}

// upload sends one chunk.
func (b *Backup) upload(s *sink, p *parcel, size int) {
	buf := p.buf
	p.buf = nil
	defer buf.Free()
	_, err := wire.Do[any](b.session.Context(), b.session, wire.Exchange{
		Doing: "upload chunk " + p.digest.Short() + " of " + s.archive, Method: "POST", Path: "/" + s.kind + "_chunk",
		Query: url.Values{
			"wid": {strconv.Itoa(s.wid)}, "digest": {p.digest.String()},
			"size": {strconv.Itoa(size)}, "encoded-size": {strconv.Itoa(len(buf.Bytes))},
		},
		Body: buf.Bytes, Kind: wire.Raw,
	})
	if err != nil {
		b.session.Fail(err)
		return
	}
	b.mu.Lock()
	b.held[p.digest] = nil
	b.mu.Unlock()
	close(p.done)
}

// here reports whether the server has the chunk.
func (p *parcel) here() bool {
	if p == nil {
		return true
	}
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// arrived waits until the server has the chunk, and reports whether it has.
func (p *parcel) arrived(ctx context.Context) bool {
	if p == nil {
		return true
	}
	select {
	case <-p.done:
		return true
	case <-ctx.Done():
		return false
	}
}
