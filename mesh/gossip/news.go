package gossip

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// The kinds of [News]. A number is never used again for another one.
const (
	NewsSnapshot  = 1 // a snapshot has come: who pulls on change may begin
	NewsHead      = 2 // the feed of the node has grown
	NewsEvidence  = 3 // somebody holds the proof that a node shows two histories
	NewsAuthority = 4 // the authority chain has grown
	newsFarewell  = 5 // the node ends; its data is when this life of it began
)

// News is something short that a node tells all others at once: within some
// seconds, and to those who are there. It is a hint, and whoever must not miss
// something has another way to find out.
type News struct {
	Kind uint8  `cbor:"1,keyasint"`
	Node string `cbor:"2,keyasint"`           // who says it
	Key  string `cbor:"3,keyasint,omitempty"` // newer news of the same kind and key replaces older
	Data []byte `cbor:"4,keyasint,omitempty"`
	Seq  int64  `cbor:"5,keyasint"` // grows with the clock of the node, in ms
}

const (
	maxNews = 400 // bytes of key and data together
	// newsWindow and newsKept bound how old news may be against the newest of
	// its node, and how many are remembered to know them again.
	newsWindow = 10 * time.Minute
	newsKept   = 1024
)

var errNews = errors.New("it is no news")

// news keeps what is passed on, and what has been.
type news struct {
	queue memberlist.TransmitLimitedQueue

	mu   sync.Mutex
	last int64 // the newest Seq of ours
	seen map[string]*history
}

// A history is which news of one node has been heard.
type history struct {
	newest int64
	heard  map[int64]struct{}
}

func newNews(others func() int) *news {
	return &news{queue: memberlist.TransmitLimitedQueue{NumNodes: others, RetransmitMult: 3}, seen: map[string]*history{}}
}

// Announce tells all others. Newer news with the same kind and key replaces
// older that is still under way; an empty key replaces nothing.
func (g *Gossip) Announce(kind uint8, key string, data []byte) error {
	if kind == 0 || len(key)+len(data) > maxNews {
		return fmt.Errorf("news of kind %d with %d bytes, want at most %d", kind, len(key)+len(data), maxNews)
	}
	n := News{Kind: kind, Node: g.cfg.Self, Key: key, Data: data}
	g.news.mu.Lock()
	n.Seq = max(time.Now().UnixMilli(), g.news.last+1)
	g.news.last = n.Seq
	g.news.mu.Unlock()
	g.news.remember(n)
	g.news.send(n, sign(newsDomain, n.Node, g.cfg.Key, encode(n)))
	return nil
}

// send passes news on.
func (s *news) send(n News, signed []byte) {
	s.queue.QueueBroadcast(broadcast{fmt.Sprintf("%d/%s/%s", n.Kind, n.Node, n.Key), n.Key != "", signed})
}

// take reads news and passes it on; what has been heard before is the zero
// News.
func (s *news) take(key func(string) ed25519.PublicKey, b []byte) (n News, err error) {
	if len(b) < ed25519.SignatureSize || len(b) > maxNews+256 {
		return News{}, errNews
	}
	b = append([]byte{}, b...) // memberlist goes on using it
	if err := decoding.Unmarshal(b[ed25519.SignatureSize:], &n); err != nil || n.Kind == 0 {
		return News{}, errNews
	}
	k := key(n.Node)
	if k == nil {
		return n, errStranger
	}
	if s.old(n) {
		return News{}, nil
	}
	if _, err := open(newsDomain, n.Node, k, b); err != nil {
		return n, err
	}
	if !s.remember(n) {
		return News{}, nil
	}
	s.send(n, b)
	return n, nil
}

// openNews reads news of one kind.
func openNews(key func(string) ed25519.PublicKey, kind uint8, b []byte) (n News, ok bool) {
	if len(b) < ed25519.SignatureSize || decoding.Unmarshal(b[ed25519.SignatureSize:], &n) != nil || n.Kind != kind {
		return News{}, false
	}
	_, err := open(newsDomain, n.Node, key(n.Node), b)
	return n, err == nil
}

// old tells cheaply whether n need not be looked at.
func (s *news) old(n News) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.seen[n.Node]
	if h == nil {
		return false
	}
	_, heard := h.heard[n.Seq]
	return heard || n.Seq < h.newest-newsWindow.Milliseconds()
}

// remember tells whether n is new, and may be listened to.
func (s *news) remember(n News) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.seen[n.Node]
	if h == nil {
		h = &history{heard: map[int64]struct{}{}}
		s.seen[n.Node] = h
	}
	if _, heard := h.heard[n.Seq]; heard {
		return false
	}
	h.newest = max(h.newest, n.Seq)
	if len(h.heard) >= newsKept {
		for seq := range h.heard {
			if seq < h.newest-newsWindow.Milliseconds() {
				delete(h.heard, seq)
			}
		}
	}
	if len(h.heard) >= newsKept { // more than anybody has to say
		return false
	}
	h.heard[n.Seq] = struct{}{}
	return true
}

// forget begins anew with a node, whose clock may have been set back.
func (s *news) forget(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.seen, node)
}

// A broadcast is news on its way.
type broadcast struct {
	name     string
	replaces bool
	b        []byte
}

func (b broadcast) Invalidates(o memberlist.Broadcast) bool {
	other, ok := o.(broadcast)
	return ok && b.replaces && other.name == b.name
}
func (b broadcast) Message() []byte { return b.b }
func (b broadcast) Finished()       {}
