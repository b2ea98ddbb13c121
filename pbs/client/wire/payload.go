package wire

import (
	"io"
	"sync"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// A Payload is the body of a request. HTTP/2 may read it until it has closed
// it, which can be after the request has failed; only then may the memory be
// used for something else.
type Payload struct {
	size int

	mu   sync.Mutex
	data []byte         // what is left
	lent *chunks.Buffer // whose memory data is; may be nil
}

// NewPayload makes a body of data, which nobody may change any more.
func NewPayload(data []byte) *Payload { return &Payload{size: len(data), data: data} }

// LentPayload makes a body of what a buffer holds. The buffer is freed when it
// was sent, and is the payload's until then.
func LentPayload(buf *chunks.Buffer) *Payload {
	return &Payload{size: len(buf.Bytes), data: buf.Bytes, lent: buf}
}

// Len returns how many bytes the body has, whether they were read or not.
func (p *Payload) Len() int { return p.size }

// Read reads what is left.
func (p *Payload) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.data) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.data)
	p.data = p.data[n:]
	return n, nil
}

// Close gives the memory back. A body that was closed has nothing left.
func (p *Payload) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.data = nil
	if p.lent != nil {
		p.lent.Free()
		p.lent = nil
	}
	return nil
}
