package exchange

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/feed"
	"github.com/holdfast-mesh/holdfast/mesh/network"
)

const (
	maxSessions = 8
	// patience is how long one answer may take, and how long a session lies
	// idle before it ends.
	patience = 30 * time.Second
)

// serve answers members until ctx ends.
func (e *Exchange) serve(ctx context.Context, l net.Listener) error {
	var sessions sync.WaitGroup
	defer sessions.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("give feeds: %w", err)
		}
		if !e.admit(network.RemoteNode(c)) {
			c.Close()
			continue
		}
		sessions.Go(func() {
			defer e.leave()
			defer c.Close()
			stop := context.AfterFunc(ctx, func() { c.Close() })
			defer stop()
			if err := e.answerAll(c); err != nil && !errors.Is(err, io.EOF) {
				e.cfg.Log.Debug("a peer was not served to the end", "node", network.RemoteNode(c), "error", err)
			}
		})
	}
}

func (e *Exchange) admit(node string) bool {
	ok := e.cfg.Member(node)
	e.mu.Lock()
	defer e.mu.Unlock()
	if !ok {
		e.counts.Strangers++
	}
	if !ok || e.served >= maxSessions {
		return false
	}
	e.served++
	return true
}

func (e *Exchange) leave() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.served--
}

func (e *Exchange) answerAll(c net.Conn) error {
	for {
		c.SetDeadline(time.Now().Add(patience))
		b, err := readFrame(c, requestSize)
		if err != nil {
			return err
		}
		r, err := parseRequest(b)
		if err != nil {
			e.count(func(n *Counts) { n.Refused++ })
			return err
		}
		if !e.cfg.Member(network.RemoteNode(c)) { // not any more
			return nil
		}
		answer, err := e.answer(r)
		if err != nil {
			return err
		}
		c.SetDeadline(time.Now().Add(patience))
		if err := writeFrame(c, answer); err != nil {
			return err
		}
	}
}

func (e *Exchange) answer(r request) ([]byte, error) {
	switch r.kind {
	case askHeads:
		return encodeHeads(e.show()), nil
	case askProof:
		e.mu.Lock()
		defer e.mu.Unlock()
		if f := e.forked[r.origin]; f != nil {
			return f.Bytes(), nil
		}
		return nil, nil
	}
	records, err := e.cfg.Store.After(r.origin, r.epoch, r.seq, batchCount, batchSize)
	if err != nil {
		return nil, err
	}
	e.count(func(n *Counts) { n.Given += uint64(len(records)) })
	return encodeRecords(records), nil
}

// show returns the heads that are here, and whose feed is forked.
func (e *Exchange) show() []theirHead {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]theirHead, 0, len(e.heads))
	for o, h := range e.heads {
		all = append(all, theirHead{placed{o, h}, e.forked[o] != nil})
	}
	for o := range e.forked {
		if _, ok := e.heads[o]; !ok {
			all = append(all, theirHead{placed{o, feed.Head{}}, true})
		}
	}
	slices.SortFunc(all, func(a, b theirHead) int { return bytes.Compare(a.origin[:], b.origin[:]) })
	return all
}
