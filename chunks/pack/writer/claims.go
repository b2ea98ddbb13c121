package writer

import (
	"context"
	"sync"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// Claims lets one caller at a time store a chunk of a given name.
type Claims struct {
	mu sync.Mutex

	taken map[chunks.Digest]chan struct{}
}

// NewClaims returns claims on nothing.
func NewClaims() *Claims { return &Claims{taken: map[chunks.Digest]chan struct{}{}} }

// Take claims d, or waits until whoever holds it lets go and returns false.
func (c *Claims) Take(ctx context.Context, d chunks.Digest) (bool, error) {
	c.mu.Lock()
	wait, held := c.taken[d]
	if !held {
		c.taken[d] = nil
		c.mu.Unlock()
		return true, nil
	}
	if wait == nil {
		wait = make(chan struct{})
		c.taken[d] = wait
	}
	c.mu.Unlock()
	select {
	case <-wait:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// Release lets go of d.
func (c *Claims) Release(d chunks.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if wait := c.taken[d]; wait != nil {
		close(wait)
	}
	delete(c.taken, d)
}
