// Package follow is how a node that has no place in the Raft group has what the
// group agrees on: it keeps one stream open from a node that has one, and is
// given every committed command in its order, or a snapshot if it is too far
// behind. An idle stream costs some bytes every few seconds, where a member of
// the group costs its leader ten messages a second.
//
// Who follows trusts what it is given as much as a standby trusts its leader:
// the machine checks signatures of commands and of snapshots. A stream that is
// silent, skips something, or comes from somebody who hears of no leader is
// ended, and another node is asked.
package follow

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// The numbers of the protocol.
const (
	Idle       = 5 * time.Second  // between updates when there is no news
	Silence    = 15 * time.Second // ends a stream
	Leaderless = 30 * time.Second // that a source may hear of no leader
	far        = 512              // entries behind which a snapshot is shorter
	batch      = 256              // entries of an update
	size       = 512 << 10        // bytes of entries, or of a part of a snapshot
	maxUpdate  = 1 << 20
	// MaxSnapshot is what a snapshot has at most.
	MaxSnapshot = 64 << 20
)

// An Entry is one committed command.
type Entry struct {
	Index uint64 `cbor:"1,keyasint"`
	Term  uint64 `cbor:"2,keyasint"`
	Data  []byte `cbor:"3,keyasint"`
}

// News is what a source knows of the group.
type News struct {
	Leader      string `cbor:"1,keyasint,omitempty"` // "": it knows of none
	Age         int64  `cbor:"2,keyasint"`           // ms since it heard of a leader
	Config      []byte `cbor:"3,keyasint,omitempty"` // who is in the group, as raft writes it
	ConfigIndex uint64 `cbor:"4,keyasint,omitempty"`
}

// An update is one frame of a stream: news, and entries or a part of a snapshot.
type update struct {
	News    News    `cbor:"1,keyasint"`
	Behind  uint64  `cbor:"2,keyasint,omitempty"` // the command that the first entry follows
	Entries []Entry `cbor:"3,keyasint,omitempty"`
	Part    []byte  `cbor:"4,keyasint,omitempty"`
	State   *Entry  `cbor:"5,keyasint,omitempty"` // with the last part: where it stands, without data
}

// A Source is a node in the group.
type Source interface {
	// Progress returns the newest command that is applied, and a channel that
	// is closed when that changes. An error ends the stream.
	Progress() (applied uint64, more <-chan struct{}, err error)
	// After returns the next commands, up to applied; known is false if they
	// are not in the log any more.
	After(index, applied uint64, most, size int) (entries []Entry, known bool, err error)
	// Snapshot returns the state of now, and where it stands.
	Snapshot() (state []byte, at Entry, err error)
	News() News
}

// A Sink is a node that follows.
type Sink interface {
	Applied() uint64
	// Note is told of commands before they are applied, in their order.
	Note([]Entry) error
	Apply(Entry) error
	Restore(state []byte, at Entry) error
	// Heard is told after each update; an error ends the stream.
	Heard(News) error
}

// Serve gives a node behind index what it lacks, until ctx ends or the stream
// does.
func Serve(ctx context.Context, c net.Conn, index uint64, s Source) error {
	tick := time.NewTicker(Idle)
	defer tick.Stop()
	for {
		applied, more, err := s.Progress()
		if err != nil {
			return err
		}
		if index, err = give(c, index, applied, s); err != nil {
			return err
		}
		if index < applied {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-more:
		case <-tick.C:
		}
	}
}

// give sends one update, or a snapshot, and returns how far the other is then.
func give(c net.Conn, index, applied uint64, s Source) (uint64, error) {
	if index >= applied {
		return index, send(c, update{News: s.News()})
	}
	entries, known, err := s.After(index, applied, batch, size)
	if err != nil {
		return index, err
	}
	if known && applied-index <= far {
		if len(entries) > 0 {
			applied = entries[len(entries)-1].Index
		}
		return applied, send(c, update{News: s.News(), Behind: index, Entries: entries})
	}
	state, at, err := s.Snapshot()
	if err != nil {
		return index, err
	}
	for len(state) > size {
		if err := send(c, update{News: s.News(), Part: state[:size]}); err != nil {
			return index, err
		}
		state = state[size:]
	}
	return at.Index, send(c, update{News: s.News(), Part: state, State: &at})
}

func send(c net.Conn, u update) error {
	b := canon.Encode(u)
	if err := c.SetWriteDeadline(time.Now().Add(Silence)); err != nil {
		return err
	}
	_, err := c.Write(append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(b)), uint32(len(b))), b...))
	return err
}

var errStream = errors.New("not a stream of the ledger")

// Follow takes what a source gives until the stream ends, which is an error.
func Follow(c net.Conn, s Sink) error {
	var state bytes.Buffer
	for {
		if err := c.SetReadDeadline(time.Now().Add(Silence)); err != nil {
			return err
		}
		u, err := receive(c)
		if err != nil {
			return err
		}
		if state.Len()+len(u.Part) > MaxSnapshot {
			return fmt.Errorf("%w: a snapshot of more than %d bytes", errStream, MaxSnapshot)
		}
		state.Write(u.Part)
		if u.State != nil {
			if err := s.Restore(state.Bytes(), *u.State); err != nil {
				return err
			}
			state = bytes.Buffer{}
		}
		if err := take(u, s); err != nil {
			return err
		}
		if err := s.Heard(u.News); err != nil {
			return err
		}
	}
}

// take applies the entries of an update that are new here.
func take(u update, s Sink) error {
	at := u.Behind
	for _, e := range u.Entries {
		if e.Index <= at || u.Behind > s.Applied() {
			return fmt.Errorf("%w: entry %d behind %d, and %d is here", errStream, e.Index, at, s.Applied())
		}
		at = e.Index
	}
	if len(u.Entries) == 0 {
		return nil
	}
	if err := s.Note(u.Entries); err != nil {
		return err
	}
	for _, e := range u.Entries {
		if err := s.Apply(e); err != nil {
			return err
		}
	}
	return nil
}

func receive(r io.Reader) (u update, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return u, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxUpdate {
		return u, fmt.Errorf("%w: an update of %d bytes", errStream, n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return u, err
	}
	if err := canon.Decode(b, &u); err != nil {
		return u, fmt.Errorf("%w: %w", errStream, err)
	}
	return u, nil
}

// A State is all that a group has agreed on, as one of its members gives it.
type State struct {
	Entry      // the newest command in it, whose data is the state
	Group      raft.Configuration
	GroupIndex uint64 // of the entry that says who is in the group
}

// Fetch takes the whole state from a source that was asked for all behind entry 0, and
// nothing after it.
func Fetch(c net.Conn) (*State, error) {
	s := &fetched{}
	if err := Follow(c, s); !errors.Is(err, errFetched) {
		return nil, err
	}
	return &s.State, nil
}

var errFetched = errors.New("all is here")

// fetched is a [Sink] that wants one snapshot.
type fetched struct{ State }

func (f *fetched) Applied() uint64 { return f.Index }

func (f *fetched) Note(entries []Entry) error {
	return fmt.Errorf("%w: entry %d instead of a snapshot", errStream, entries[0].Index)
}

func (f *fetched) Apply(Entry) error { return nil }

func (f *fetched) Restore(state []byte, at Entry) error {
	f.Entry = Entry{at.Index, at.Term, bytes.Clone(state)}
	return nil
}

func (f *fetched) Heard(n News) (err error) {
	if f.Index == 0 {
		return nil
	}
	if f.Group, err = decode(n.Config); err != nil {
		return err
	}
	f.GroupIndex = n.ConfigIndex
	return errFetched
}
