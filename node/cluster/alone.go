package cluster

import (
	"context"
	"errors"
	"net"
	"sync"
)

// alone is the network of a node that has no other.
type alone struct{}

var errAlone = errors.New("this node is linked to no other")

func (alone) Dial(context.Context, string, uint16) (net.Conn, error) { return nil, errAlone }

func (alone) Listen(uint16) (net.Listener, error) { return &silent{done: make(chan struct{})}, nil }

// A silent listener is called by nobody.
type silent struct {
	once sync.Once
	done chan struct{}
}

func (l *silent) Accept() (net.Conn, error) {
	<-l.done
	return nil, net.ErrClosed
}

func (l *silent) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *silent) Addr() net.Addr { return &net.UnixAddr{Name: "nowhere"} }
