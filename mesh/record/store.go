package record

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/frame"
)

// MaxNodes is how many records a [Store] keeps: more than a cluster has nodes,
// with room for the removed.
const MaxNodes = 256

// The ways in which a record is not taken. Match them with errors.Is.
var (
	ErrOld   = errors.New("a newer record of the node is known")
	ErrFork  = errors.New("the node has signed two records with one number")
	ErrOther = errors.New("the record is of another cluster")
	ErrFull  = errors.New("there are too many records")
)

// A TakenError says that a record names a key of the tunnel which another node had
// first. One of them lies, or has the files of the other.
type TakenError struct{ Node, By Key }

func (e *TakenError) Error() string {
	return fmt.Sprintf("record of node %s: its key of the tunnel is that of node %s", e.Node, e.By)
}

// A Store keeps the newest record of each node of one cluster, and no key of the
// tunnel for two of them: whoever had it first keeps it. It may be used by many
// goroutines.
type Store struct {
	cluster [16]byte
	file    string // "": memory only

	mu   sync.Mutex
	rows map[Key]row
}

type row struct {
	record Record
	signed Signed
}

// Open returns the store in a file, or an empty one if there is none. With the
// name "" it lives in memory. A damaged file is an error: whoever deletes it
// loses only what peers will send again.
func Open(file string, cluster [16]byte) (*Store, error) {
	s := &Store{cluster: cluster, file: file, rows: map[Key]row{}}
	if file == "" {
		return s, nil
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read node records: %w", err)
	}
	var all []Signed
	if err := frame.Decode(b, &all); err != nil {
		return nil, &damagedError{file, err}
	}
	for _, signed := range all {
		r, err := signed.Open()
		if err == nil && r.Cluster != cluster {
			err = ErrOther
		}
		switch _, taken := s.holder(r); {
		case err == nil && taken, errors.Is(err, ErrInvalid): // of a version that took everything
			continue
		case err != nil:
			return nil, &damagedError{file, err}
		}
		s.rows[r.Node] = row{r, signed}
	}
	return s, nil
}

type damagedError struct {
	file string
	err  error
}

func (e *damagedError) Error() string { return fmt.Sprintf("node records in %s: %v", e.file, e.err) }
func (e *damagedError) Unwrap() error { return e.err }
func (e *damagedError) Hint() string {
	return "move the file away and start again: peers send the records"
}

// Put takes a record over if it is newer than the one there is, and reports
// whether anything changed. The same record again is no error.
func (s *Store) Put(signed Signed) (changed bool, err error) {
	r, err := signed.Open()
	if err != nil {
		return false, err
	}
	if r.Cluster != s.cluster {
		return false, fmt.Errorf("record of node %s: %w", r.Node, ErrOther)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if by, taken := s.holder(r); taken {
		return false, &TakenError{r.Node, by}
	}
	return s.put(r, signed)
}

// holder returns another node that has a key of the tunnel which a record names.
func (s *Store) holder(r Record) (Key, bool) {
	for node, row := range s.rows {
		if node != r.Node && slices.ContainsFunc(row.record.WireGuard, func(k [32]byte) bool { return slices.Contains(r.WireGuard, k) }) {
			return node, true
		}
	}
	return Key{}, false
}

// Holder returns another node that has a key of the tunnel which a record names.
func (s *Store) Holder(r Record) (Key, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holder(r)
}

func (s *Store) put(r Record, signed Signed) (bool, error) {
	old, known := s.rows[r.Node]
	switch {
	case known && r.Seq < old.record.Seq:
		return false, fmt.Errorf("record %d of node %s, and there is %d: %w", r.Seq, r.Node, old.record.Seq, ErrOld)
	case known && r.Seq == old.record.Seq && !slices.Equal(signed.Body, old.signed.Body):
		return false, fmt.Errorf("record %d of node %s: %w", r.Seq, r.Node, ErrFork)
	case known && r.Seq == old.record.Seq:
		return false, nil
	case !known && len(s.rows) >= MaxNodes:
		return false, fmt.Errorf("record of node %s: %w: %d", r.Node, ErrFull, len(s.rows))
	}
	s.rows[r.Node] = row{r, signed}
	if err := s.save(); err != nil {
		if delete(s.rows, r.Node); known {
			s.rows[r.Node] = old
		}
		return false, err
	}
	return true, nil
}

// Renew signs a record of the node that has the key and puts it in. Its number
// is larger than that of the last one, and than any of before if the disk went
// back to an earlier state: it is at least the time. Who else says that the keys of
// the tunnel are his goes.
func (s *Store) Renew(r Record, key ed25519.PrivateKey, now time.Time) (Signed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Cluster, r.Node, r.At = s.cluster, KeyOf(key), now.Unix()
	r.Seq = max(s.rows[r.Node].record.Seq+1, uint64(max(now.Unix(), 1)))
	signed, err := r.Sign(key)
	if err != nil {
		return Signed{}, err
	}
	for by, taken := s.holder(r); taken; by, taken = s.holder(r) {
		delete(s.rows, by)
	}
	_, err = s.put(r, signed)
	return signed, err
}

// Get returns the record of a node.
func (s *Store) Get(node Key) (Record, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, known := s.rows[node]
	return r.record, known
}

// Signed returns the record of a node as it is sent.
func (s *Store) Signed(node Key) (Signed, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, known := s.rows[node]
	return r.signed, known
}

// All returns every record, in the order of the keys.
func (s *Store) All() []Signed {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all()
}

func (s *Store) all() []Signed {
	var all []Signed
	for _, k := range s.keys() {
		all = append(all, s.rows[k].signed)
	}
	return all
}

func (s *Store) keys() []Key {
	return slices.SortedFunc(maps.Keys(s.rows), func(a, b Key) int { return slices.Compare(a[:], b[:]) })
}

// A Have says which record of a node there is.
type Have struct {
	Node Key    `cbor:"1,keyasint"`
	Seq  uint64 `cbor:"2,keyasint"`
}

// Have returns what there is, in the order of the keys.
func (s *Store) Have() []Have {
	s.mu.Lock()
	defer s.mu.Unlock()
	var have []Have
	for _, k := range s.keys() {
		have = append(have, Have{k, s.rows[k].record.Seq})
	}
	return have
}

// Forget removes the record of a node that is no member any more.
func (s *Store) Forget(node Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.rows[node]; !known {
		return nil
	}
	delete(s.rows, node)
	return s.save()
}

// save writes all records to the file, which is either the old or the new one
// whatever happens.
func (s *Store) save() error {
	if s.file == "" {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(s.file), ".records-*")
	if err != nil {
		return fmt.Errorf("store node records: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(frame.Encode(s.all()))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), s.file)
	}
	if err != nil {
		return fmt.Errorf("store node records: %w", err)
	}
	return nil
}
