package roster

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/frame"
	"github.com/holdfast-mesh/holdfast/mesh/record"
)

// A comparison is four messages, or two if both have the same: offer, answer,
// gift, return. It is repeated on the same stream while something is missing.
type (
	offer struct {
		Version uint8    `cbor:"1,keyasint"`
		Count   uint64   `cbor:"2,keyasint"` // links of the chain
		Head    [32]byte `cbor:"3,keyasint"`
		Digest  [32]byte `cbor:"4,keyasint"`           // of which records there are
		Seen    string   `cbor:"5,keyasint,omitempty"` // where we see the other
	}
	answer struct {
		offer
		Links [][]byte      `cbor:"6,keyasint,omitempty"` // from the asker's count on
		Have  []record.Have `cbor:"7,keyasint,omitempty"` // if the digests differ
		All   bool          `cbor:"8,keyasint,omitempty"` // the links are all of ours: the chains part
	}
	gift struct {
		From    uint64          `cbor:"1,keyasint"`
		Links   [][]byte        `cbor:"2,keyasint,omitempty"`
		Records []record.Signed `cbor:"3,keyasint,omitempty"`
		Want    []record.Key    `cbor:"4,keyasint,omitempty"`
		All     bool            `cbor:"5,keyasint,omitempty"` // as in the answer
	}
	returned struct {
		Records []record.Signed `cbor:"1,keyasint,omitempty"`
	}
)

const (
	version   = 1
	maxRounds = 64 // comparisons on one stream
	maxSeen   = 128
)

// have says which records of members there are.
func (s *Syncer) have() (have []record.Have, digest [32]byte) {
	for _, h := range s.cfg.Records.Have() {
		if s.cfg.Member(h.Node.NodeID()) {
			have = append(have, h)
		}
	}
	return have, sha256.Sum256(frame.Encode(have))
}

func (s *Syncer) offer(seen string) (o offer, have []record.Have) {
	o = offer{Version: version, Seen: seen[:min(len(seen), maxSeen)]}
	o.Count, o.Head = s.cfg.Chain.Head()
	have, o.Digest = s.have()
	return o, have
}

// same tells whether there is nothing to tell each other.
func (o offer) same(p offer) bool {
	return o.Count == p.Count && o.Head == p.Head && o.Digest == p.Digest
}

// check says whether an offer can be worked with.
func (o offer) check() error {
	switch {
	case o.Version != version:
		return fmt.Errorf("%w: version %d, want %d", frame.ErrForm, o.Version, version)
	case len(o.Seen) > maxSeen:
		return fmt.Errorf("%w: an address of %d bytes", frame.ErrForm, len(o.Seen))
	}
	return nil
}

// ask is the side that opened the stream.
func (s *Syncer) ask(node, seen string, conn Stream) error {
	changed := false
	defer func() { s.tell(changed) }()
	var last [2]offer
	var b branches
	for range maxRounds {
		ours, have := s.offer(seen)
		if err := frame.Write(conn, ours); err != nil {
			return err
		}
		var a answer
		if err := frame.Read(conn, maxLarge, &a); err != nil {
			return err
		}
		if err := a.check(); err != nil {
			return err
		}
		s.saw(node, a.Seen)
		if a.same(ours) || last == [2]offer{ours, a.offer} && !a.All {
			return nil // or neither takes what the other has
		}
		last = [2]offer{ours, a.offer}
		more, err := s.extend(node, ours.Count, a.Links, a.All)
		changed = changed || more
		if err != nil {
			return err
		}
		g := gift{From: a.Count, Want: wanted(have, a.Have)}
		left := s.budget
		g.Links, g.All = s.links(&b, a.offer, a.All, &left)
		if a.Digest != ours.Digest {
			g.Records = s.records(newer(have, a.Have), &left)
		}
		if err := frame.Write(conn, g); err != nil {
			return err
		}
		var r returned
		if err := frame.Read(conn, maxLarge, &r); err != nil {
			return err
		}
		if more = s.take(node, r.Records); more {
			changed = true
		}
		if len(a.Links) == 0 && len(g.Links) == 0 && !more && len(g.Records) == 0 {
			return nil // what differs is not what either wants
		}
	}
	return nil
}

// Serve answers a member that opened a stream; seen is where we see it.
func (s *Syncer) Serve(ctx context.Context, node, seen string, conn Stream) error {
	if !s.admit(node) {
		return fmt.Errorf("node %s compares the roster more than %d times at once", node, maxServe)
	}
	defer s.leave(node)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	conn.SetDeadline(time.Now().Add(syncTime))
	err := s.answer(node, seen, conn)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("compare the roster with node %s: %w", node, err)
	}
	return nil
}

// admit counts the comparisons of each node: each may hold [maxLarge] bytes.
func (s *Syncer) admit(node string) bool {
	s.serving.Lock()
	defer s.serving.Unlock()
	if s.served[node] >= maxServe {
		return false
	}
	s.served[node]++
	return true
}

func (s *Syncer) leave(node string) {
	s.serving.Lock()
	defer s.serving.Unlock()
	if s.served[node]--; s.served[node] == 0 {
		delete(s.served, node)
	}
}

func (s *Syncer) answer(node, seen string, conn Stream) error {
	changed := false
	defer func() { s.tell(changed) }()
	var b branches
	for range maxRounds {
		var theirs offer
		if err := frame.Read(conn, maxSmall, &theirs); err != nil {
			return err
		}
		ours, have := s.offer(seen)
		if err := theirs.check(); err != nil {
			return err
		}
		s.saw(node, theirs.Seen)
		a := answer{offer: ours}
		left := s.budget
		a.Links, a.All = s.links(&b, theirs, false, &left)
		if ours.Digest != theirs.Digest {
			a.Have = have
		}
		if err := frame.Write(conn, a); err != nil {
			return err
		}
		if ours.same(theirs) {
			continue
		}
		var g gift
		if err := frame.Read(conn, maxLarge, &g); err != nil {
			return err
		}
		b.part = b.part || g.All
		more, err := s.extend(node, g.From, g.Links, g.All)
		changed = changed || more
		if err != nil {
			return err
		}
		changed = s.take(node, g.Records) || changed
		left = s.budget
		if err := frame.Write(conn, returned{s.records(g.Want, &left)}); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: more than %d rounds", frame.ErrForm, maxRounds)
}

// saw passes on where a peer says that it sees us.
func (s *Syncer) saw(by, address string) {
	if address != "" {
		s.cfg.Seen(by, address)
	}
}

// tell says that something is new here, and passes it on.
func (s *Syncer) tell(changed bool) {
	if changed {
		s.cfg.Changed()
		s.Push()
	}
}

// branches are what is known of the chains of two that compare: whether they part, which
// only the one with more links sees by itself, and whether ours was shown.
type branches struct{ part, shown bool }

// links are those to give to another, as far as the budget goes: what it lacks, or once
// all of ours if its chain parts from it.
func (s *Syncer) links(b *branches, theirs offer, part bool, left *int) (links [][]byte, all bool) {
	if b.part = b.part || part || s.cfg.Chain.Parts(theirs.Count, theirs.Head); !b.part {
		return within(s.cfg.Chain.Links(theirs.Count), left), false
	}
	if all, b.shown = !b.shown, true; all {
		links = within(s.cfg.Chain.Links(0), left)
	}
	return links, all
}

// extend adds links, of which the first has a number, as far as they are new. All links
// of a chain that parts from ours are looked at, and no reason to end the comparison: it
// may be the other that has to give way.
func (s *Syncer) extend(node string, from uint64, links [][]byte, all bool) (changed bool, err error) {
	if len(links) == 0 {
		return false, nil
	}
	s.chain.Lock()
	defer s.chain.Unlock()
	n, head := s.cfg.Chain.Head()
	switch {
	case all:
		err := s.cfg.Chain.Extend(links)
		s.cfg.Log.Warn("two branches of the authority chain: the operators have signed twice behind the same link", "node", node, "err", err)
		_, now := s.cfg.Chain.Head()
		return now != head, nil
	case from > n:
		return false, fmt.Errorf("%w: links from number %d on, and there are %d here", frame.ErrForm, from, n)
	case uint64(len(links)) <= n-from:
		return false, nil
	}
	if err := s.cfg.Chain.Extend(links[n-from:]); err != nil {
		return false, fmt.Errorf("its links are not taken: %w", err)
	}
	now, _ := s.cfg.Chain.Head()
	return now > n, nil // some are taken from the ledger only
}

// take puts records in, as far as they are of members and new.
func (s *Syncer) take(from string, records []record.Signed) (changed bool) {
	for _, signed := range records {
		r, err := signed.Open()
		if err != nil {
			s.cfg.Log.Warn("a node record was refused", "from", from, "err", err)
			continue
		}
		if !s.cfg.Member(r.Node.NodeID()) {
			continue
		}
		put, err := s.cfg.Records.Put(signed)
		if err != nil && !errors.Is(err, record.ErrOld) {
			s.cfg.Log.Warn("a node record was refused", "from", from, "err", err)
			s.cfg.Refused(err)
		}
		changed = changed || put
	}
	return changed
}

// within returns the first links, as many as the budget allows and at least one.
func within(links [][]byte, left *int) [][]byte {
	for i, l := range links {
		if *left -= len(l) + 8; *left < 0 && i > 0 {
			return links[:i]
		}
	}
	return links
}

func (s *Syncer) records(of []record.Key, left *int) (all []record.Signed) {
	for _, k := range of[:min(len(of), record.MaxNodes)] {
		signed, known := s.cfg.Records.Signed(k)
		if !known || !s.cfg.Member(k.NodeID()) {
			continue
		}
		if *left -= len(signed.Body) + 80; *left < 0 {
			break
		}
		all = append(all, signed)
	}
	return all
}

// newer returns of which nodes we have a newer record than they.
func newer(ours, theirs []record.Have) (keys []record.Key) {
	seqs := map[record.Key]uint64{}
	for _, h := range theirs {
		seqs[h.Node] = h.Seq
	}
	for _, h := range ours {
		if h.Seq > seqs[h.Node] {
			keys = append(keys, h.Node)
		}
	}
	return keys
}

// wanted returns of which nodes they have a newer record than we.
func wanted(ours, theirs []record.Have) []record.Key { return newer(theirs, ours) }
