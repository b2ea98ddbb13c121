package archive

import (
	"context"
	"io"
)

// pipeBlocks is how many blocks travel between the two ends of a pipe: one
// that is filled, one that is emptied, and two so that neither end waits for
// the other's hiccups.
const pipeBlocks = 4

// A pipe hands a stream from the goroutine that makes it to the one that cuts
// it, in blocks, so that both work at the same time. io.Pipe hands over every
// write by itself and makes both ends wait for it; most writes of an archive
// are a few dozen bytes long. Each end belongs to one goroutine.
type pipe struct {
	ctx  context.Context
	full chan []byte
	free chan []byte

	filling  []byte // the writer's block
	block    []byte // the reader's block
	unread   []byte // what is left of it
	writeErr error  // why the stream ends early; set before full is closed
}

// newPipe returns a pipe of 4 blocks of blockSize bytes. When ctx ends, so do
// waiting reads and writes.
func newPipe(ctx context.Context, blockSize int) *pipe {
	p := &pipe{ctx: ctx, full: make(chan []byte, pipeBlocks), free: make(chan []byte, pipeBlocks)}
	for range pipeBlocks {
		p.free <- make([]byte, 0, blockSize)
	}
	return p
}

// room makes sure that there is room in the block that is being filled.
func (p *pipe) room() error {
	if p.filling != nil && len(p.filling) < cap(p.filling) {
		return nil
	}
	if err := p.flush(); err != nil {
		return err
	}
	select {
	case p.filling = <-p.free:
		return nil
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
}

// flush hands the block over that is being filled. There is always room in the
// channel, for it takes all blocks.
func (p *pipe) flush() error {
	if len(p.filling) > 0 {
		p.full <- p.filling
		p.filling = nil
	}
	return context.Cause(p.ctx)
}

// Write takes b. It waits while all blocks are full.
func (p *pipe) Write(b []byte) (n int, err error) {
	for n < len(b) {
		if err := p.room(); err != nil {
			return n, err
		}
		have := len(p.filling)
		m := copy(p.filling[have:cap(p.filling)], b[n:])
		p.filling = p.filling[:have+m]
		n += m
	}
	return n, nil
}

// ReadFrom takes r to its end, which saves a copy of large files.
func (p *pipe) ReadFrom(r io.Reader) (n int64, err error) {
	for {
		if err := p.room(); err != nil {
			return n, err
		}
		have := len(p.filling)
		m, err := r.Read(p.filling[have:cap(p.filling)])
		p.filling = p.filling[:have+m]
		n += int64(m)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// close ends the stream: its reader sees err, or io.EOF if err is nil.
func (p *pipe) close(err error) error {
	p.writeErr = err
	flushed := p.flush()
	close(p.full)
	return flushed
}

// Read fills b with what is there, and waits if nothing is.
func (p *pipe) Read(b []byte) (int, error) {
	for len(p.unread) == 0 {
		if p.block != nil {
			p.free <- p.block[:0]
			p.block = nil
		}
		select {
		case block, ok := <-p.full:
			switch {
			case ok:
				p.block, p.unread = block, block
			case p.writeErr != nil:
				return 0, p.writeErr
			default:
				return 0, io.EOF
			}
		case <-p.ctx.Done():
			return 0, context.Cause(p.ctx)
		}
	}
	n := copy(b, p.unread)
	p.unread = p.unread[n:]
	return n, nil
}
