//go:build linux

package inode

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A Handle is a descriptor of a directory, shared by all who still have work
// in it. The last one to drop it closes it.
type Handle struct {
	FD   int
	refs atomic.Int32
}

// NewHandle takes over fd. There is one holder, the caller.
func NewHandle(fd int) *Handle {
	h := &Handle{FD: fd}
	h.refs.Store(1)
	return h
}

// Hold adds a holder, who has to call Drop, and returns h.
func (h *Handle) Hold() *Handle {
	h.refs.Add(1)
	return h
}

// Drop takes a holder away.
func (h *Handle) Drop() {
	if h.refs.Add(-1) == 0 {
		unix.Close(h.FD)
	}
}
