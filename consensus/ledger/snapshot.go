package ledger

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/go-memdb"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
	"github.com/holdfast-mesh/holdfast/consensus/feature"
)

// A snapshot is the whole state. Equal states are equal bytes:
//
//	"HFS1" | records | SHA-256 of all before
//
// A record is table u8, length u32 and key, length u32 and value, numbers big
// endian; records are in the order of table and key. Table 0 has the state's
// own values: "meta", and the links of the authority chain under "chain" and
// their number as u64. All other tables have rows in canonical form.
const (
	snapshotMagic = "HFS1"
	metaKey       = "meta"
	chainKey      = "chain"
)

// ErrSnapshot is what every snapshot is that is not restored.
var ErrSnapshot = errors.New("not a good snapshot")

// Snapshot returns the state of now; it is written while more is applied.
func (l *Ledger) Snapshot() io.WriterTo { return l.View() }

// WriteTo writes the state as a snapshot.
func (v View) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(v.encode())
	return int64(n), err
}

// Hash is the sum that a snapshot of the state ends with.
func (v View) Hash() [32]byte {
	b := v.encode()
	return [32]byte(b[len(b)-32:])
}

func (v View) encode() []byte {
	b := []byte(snapshotMagic)
	m := v.meta()
	for i, link := range m.chain.Links(0) {
		b = appendRecord(b, 0, chainKey+string(be64(uint64(i))), link)
	}
	b = appendRecord(b, 0, metaKey, canon.Encode(m))
	for r := range v.rows("") {
		b = appendRecord(b, r.table, r.key, canon.Encode(r.row))
	}
	sum := canon.Sum(b)
	return append(b, sum[:]...)
}

func appendRecord(b []byte, table uint8, key string, value []byte) []byte {
	b = append(b, table)
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(key))), key...)
	return append(binary.BigEndian.AppendUint32(b, uint32(len(value))), value...)
}

// Verify says whether Restore would take a snapshot: it has the form that this
// program writes, its authority chain is good and goes on from the one in the
// state, and its members are what that says.
//
// It is a [Departure] if commands that were applied here are other ones there.
func (l *Ledger) Verify(b []byte) error {
	ours := l.View()
	db, err := decode(b, ours.Chain())
	if err != nil {
		return err
	}
	return departs(ours, View{db.Txn(false)})
}

// Restore replaces the state by a snapshot.
func (l *Ledger) Restore(b []byte) error {
	db, err := decode(b, l.View().Chain())
	if err == nil {
		l.replace(db)
	}
	return err
}

func decode(b []byte, chain *authority.Chain) (*memdb.MemDB, error) {
	db, err := read(b, chain)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return db, nil
}

func read(b []byte, chain *authority.Chain) (*memdb.MemDB, error) {
	if len(b) < len(snapshotMagic)+32 || string(b[:len(snapshotMagic)]) != snapshotMagic {
		return nil, errors.New("it does not begin as one")
	}
	body, sum := b[:len(b)-32], b[len(b)-32:]
	if want := canon.Sum(body); !bytes.Equal(want[:], sum) {
		return nil, errors.New("its sum does not match")
	}
	db := newDB()
	s := &loader{t: &tx{Txn: db.Txn(true)}}
	if err := s.load(body[len(snapshotMagic):]); err != nil {
		return nil, err
	}
	if !s.t.meta.chain.Extends(chain) {
		return nil, errors.New("its authority chain is not a longer version of ours")
	}
	must(s.t.Insert(metaTable, &s.t.meta))
	s.t.Commit()
	v := View{db.Txn(false)}
	return db, cmp.Or(checkProposed(v), checkState(v))
}

// A loader builds the state of a snapshot.
type loader struct {
	t     *tx
	links [][]byte
	meta  bool
	table uint8
	key   string
}

func (s *loader) load(b []byte) (err error) {
	for first := true; len(b) > 0; first = false {
		table := b[0]
		var key, value []byte
		if key, b, err = cut(b[1:]); err != nil {
			return err
		}
		if value, b, err = cut(b); err != nil {
			return err
		}
		if !first && cmp.Or(cmp.Compare(s.table, table), cmp.Compare(s.key, string(key))) >= 0 {
			return fmt.Errorf("record %q of table %d is out of order", key, table)
		}
		s.table, s.key = table, string(key)
		if table == 0 {
			err = s.own(value)
		} else {
			err = s.row(value)
		}
		if err != nil {
			return fmt.Errorf("record %q of table %d: %w", key, table, err)
		}
	}
	if !s.meta {
		return errors.New("it has no meta record")
	}
	return nil
}

// own loads a record of table 0. The links come before the rest.
func (s *loader) own(value []byte) error {
	if s.key != metaKey {
		if s.key != chainKey+string(be64(uint64(len(s.links)))) {
			return errors.New("it is not known here")
		}
		s.links = append(s.links, value)
		return nil
	}
	s.meta = true
	if err := cmp.Or(feature.Known(value), canon.Decode(value, &s.t.meta)); err != nil {
		return err
	}
	if len(s.links) == 0 {
		return nil
	}
	chain, err := authority.Read(s.links)
	s.t.meta.chain = chain
	return err
}

func (s *loader) row(value []byte) error {
	var r row
	if err := canon.Decode(value, &r); err != nil {
		return err
	}
	d, known := descriptions[s.table]
	if !known {
		return fmt.Errorf("%w: the table", ErrUnknown)
	}
	if err := d.read(r.Body); err != nil {
		return err
	}
	if r.Version > s.t.meta.Index || s.key == "" || len(s.key) > 2*maxKey {
		return fmt.Errorf("it was changed by command %d of %d", r.Version, s.t.meta.Index)
	}
	must(s.t.Insert(rowTable, &record{s.table, s.key, r}))
	s.t.note(s.table, 1, r.Version)
	if s.t.count(s.table) > d.most {
		return fmt.Errorf("the table has more than %d rows", d.most)
	}
	if s.table == Audits.number {
		var a Audit
		if err := Audits.read(r.Body, &a); err != nil {
			return err
		}
		must(s.t.Insert(requestTable, &requested{string(a.Request[:]), a.Index}))
	}
	return nil
}

func cut(b []byte) (v, rest []byte, err error) {
	if len(b) < 4 || uint64(binary.BigEndian.Uint32(b)) > uint64(len(b)-4) {
		return nil, nil, errors.New("it ends too early")
	}
	n := 4 + binary.BigEndian.Uint32(b)
	return b[4:n], b[n:], nil
}

// checkState says whether what can be proven in a state is proven: members by
// the authority chain and their own signatures, the audit chain by its sums.
func checkState(v View) error {
	said := map[authority.Key]authority.Node{}
	for _, n := range v.Chain().Nodes() {
		said[n.Key] = n
		if _, is := Members.Get(v, n.Key.NodeID()); !is {
			return fmt.Errorf("node %s of the authority chain is missing", n.Key.NodeID())
		}
	}
	for id, m := range Members.All(v) {
		key, err := authority.ParseNodeID(id)
		if err != nil {
			return err
		}
		if len(m.Body.Record) > 0 && !ed25519.Verify(key[:], append([]byte(RecordDomain), m.Body.Record...), m.Body.RecordSig[:]) {
			return fmt.Errorf("member %s: %w", id, errRecord)
		}
		votes, _ := authority.MayVote(m.Body.Role)
		switch n, is := said[key]; {
		case is && (m.Body.Name != n.Name || m.Body.Site != n.Site || m.Body.Role != n.Role || m.Body.Votes != n.Votes || m.Body.active() == n.Removed):
			return fmt.Errorf("member %s is not what the authority chain says", id)
		case !is && m.Body.active() && (m.Body.Votes || votes || m.Body.Role == "cloud"):
			return fmt.Errorf("member %s is in the role %q without an operator's word", id, m.Body.Role)
		}
	}
	var list []Audit
	for _, a := range Audits.All(v) {
		list = append(list, a.Body)
	}
	if err := CheckAudit(list); err != nil {
		return err
	}
	if n := len(list); n > 0 && list[n-1].Root != v.AuditRoot() {
		return errors.New("the audit chain does not end in its root")
	}
	return nil
}
