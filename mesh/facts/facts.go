// Package facts is what nodes say in their feeds (package mesh/feed): which
// snapshots they added, verified, pruned and put into quarantine, and what
// they ran. A [Model] is what all feeds together say: who holds which
// snapshot, and since when nobody has looked at it.
//
// Each node speaks of what it holds itself, and of nothing else; so feeds
// never contradict each other, and are read in any order.
package facts

import (
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"

	"github.com/holdfast-mesh/holdfast/mesh/feed"
)

// The kinds of facts. A number is never used again for another one.
const (
	KindAdded       = 1
	KindVerified    = 2
	KindPruned      = 3
	KindQuarantined = 4
	KindReleased    = 5
	KindRunStarted  = 6
	KindRunEnded    = 7
	KindHeld        = 8 // many of the above in one, in a base
	KindKept        = 9
	KindDropped     = 10
	KindGone        = 11 // of a base: what was removed on purpose
	KindAlarm       = 12
)

// A Group is what snapshots of one guest or host belong to.
type Group struct {
	Namespace string `cbor:"1,keyasint,omitempty"`
	Type      string `cbor:"2,keyasint"` // vm, ct or host
	ID        string `cbor:"3,keyasint"`
}

func (g Group) String() string {
	if g.Namespace == "" {
		return g.Type + "/" + g.ID
	}
	return g.Namespace + ":" + g.Type + "/" + g.ID
}

// A Snapshot is one copy of a snapshot: in a datastore of the node that speaks.
type Snapshot struct {
	Store string `cbor:"1,keyasint"`
	Group Group  `cbor:"2,keyasint"`
	Time  int64  `cbor:"3,keyasint"` // of the backup, Unix seconds
}

// The facts.
type (
	// Added says that a snapshot is complete and can be restored.
	Added struct {
		Snapshot  Snapshot `cbor:"1,keyasint"`
		Size      uint64   `cbor:"2,keyasint,omitempty"` // of its files, in bytes
		Manifest  [32]byte `cbor:"3,keyasint"`           // SHA-256: copies with the same are the same
		Encrypted bool     `cbor:"4,keyasint,omitempty"`
		From      string   `cbor:"5,keyasint,omitempty"` // node that it was pulled from; "": a client sent it
	}
	// Verified says that all of it was read, and whether it was right.
	Verified struct {
		Snapshot Snapshot `cbor:"1,keyasint"`
		OK       bool     `cbor:"2,keyasint,omitempty"`
	}
	// Pruned says that it can not be restored from here any more, and why it was
	// removed. Without a reason it is only not there: nobody has removed it.
	Pruned struct {
		Snapshot Snapshot `cbor:"1,keyasint"`
		Why      string   `cbor:"2,keyasint,omitempty"`
	}
	// Quarantined says that it is kept and not to be trusted.
	Quarantined struct {
		Snapshot Snapshot `cbor:"1,keyasint"`
		Why      string   `cbor:"2,keyasint,omitempty"`
	}
	// Released ends a quarantine.
	Released struct {
		Snapshot Snapshot `cbor:"1,keyasint"`
	}
	// RunStarted says that a job, or a task that somebody has started, runs.
	RunStarted struct {
		Run string `cbor:"1,keyasint"`           // UPID
		Job string `cbor:"2,keyasint,omitempty"` // "": none
		Of  string `cbor:"3,keyasint"`           // what kind of work, such as "verify"
	}
	// RunEnded says how it went.
	RunEnded struct {
		Run   string `cbor:"1,keyasint"`
		Job   string `cbor:"2,keyasint,omitempty"`
		Of    string `cbor:"3,keyasint"`
		OK    bool   `cbor:"4,keyasint,omitempty"`
		Text  string `cbor:"5,keyasint,omitempty"` // the error, or a word
		Bytes uint64 `cbor:"6,keyasint,omitempty"` // moved
	}
	// Held says, in a base, what is held of one group in one datastore.
	Held struct {
		Store  string `cbor:"1,keyasint"`
		Group  Group  `cbor:"2,keyasint"`
		Copies []Copy `cbor:"3,keyasint"`
	}
	// Kept says that the node has a datastore, and how it is.
	Kept struct {
		Store   string `cbor:"1,keyasint"`
		Size    uint64 `cbor:"2,keyasint,omitempty"` // of its disk, in bytes
		Free    uint64 `cbor:"3,keyasint,omitempty"`
		Damaged uint64 `cbor:"4,keyasint,omitempty"` // chunks in quarantine
		State   string `cbor:"5,keyasint,omitempty"` // why it is not in service; "": it is
	}
	// Dropped says that the node has a datastore no more, and nothing in it.
	Dropped struct {
		Store string `cbor:"1,keyasint"`
	}
)

// A Copy is what is known of one snapshot of a group in one datastore of one
// node. Times are Unix seconds, 0: never.
type Copy struct {
	Time        int64    `cbor:"1,keyasint"` // of the backup
	Added       int64    `cbor:"2,keyasint,omitempty"`
	Size        uint64   `cbor:"3,keyasint,omitempty"`
	Manifest    [32]byte `cbor:"4,keyasint"`
	Encrypted   bool     `cbor:"5,keyasint,omitempty"`
	From        string   `cbor:"6,keyasint,omitempty"`
	Verified    int64    `cbor:"7,keyasint,omitempty"`
	Damaged     bool     `cbor:"8,keyasint,omitempty"` // as the last verification found
	Quarantined int64    `cbor:"9,keyasint,omitempty"`
	Why         string   `cbor:"10,keyasint,omitempty"` // the quarantine
}

// A Fact is one of the types above, by value.
type Fact interface{ kind() uint16 }

func (Added) kind() uint16       { return KindAdded }
func (Verified) kind() uint16    { return KindVerified }
func (Pruned) kind() uint16      { return KindPruned }
func (Quarantined) kind() uint16 { return KindQuarantined }
func (Released) kind() uint16    { return KindReleased }
func (RunStarted) kind() uint16  { return KindRunStarted }
func (RunEnded) kind() uint16    { return KindRunEnded }
func (Held) kind() uint16        { return KindHeld }
func (Kept) kind() uint16        { return KindKept }
func (Dropped) kind() uint16     { return KindDropped }

const (
	maxText = 256 // bytes of any text
	// maxCopies is how many copies one [Held] has, so that it fits a record.
	maxCopies = 256
)

// The two ways in which a record is no fact that can be read.
var (
	ErrInvalid = errors.New("not a valid fact")
	ErrUnknown = errors.New("a kind of fact that this version does not know")
)

var (
	encoding = must(cbor.CoreDetEncOptions().EncMode())
	decoding = must(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		MaxNestedLevels: 8, MaxArrayElements: 4096, MaxMapPairs: 64, UTF8: cbor.UTF8RejectInvalid,
	}.DecMode())
)

func must[T any](mode T, err error) T {
	if err != nil {
		panic("facts: " + err.Error())
	}
	return mode
}

// Encode returns what a record of f holds. Texts that are too long are cut;
// a name that is no name is an error.
func Encode(f Fact) (feed.Statement, error) {
	switch v := f.(type) {
	case Pruned:
		v.Why = cut(v.Why)
		f = v
	case Quarantined:
		v.Why = cut(v.Why)
		f = v
	case RunEnded:
		v.Text = cut(v.Text)
		f = v
	case Kept:
		v.State = cut(v.State)
		f = v
	case Alarm:
		v.Text, v.Hint = cut(v.Text), cut(v.Hint)
		f = v
	}
	if err := check(f); err != nil {
		return feed.Statement{}, err
	}
	b, err := encoding.Marshal(f)
	return feed.Statement{Kind: f.kind(), Data: b}, err
}

// Parse reads what a record holds. What a newer version has added to a fact is
// skipped.
func Parse(kind uint16, data []byte) (Fact, error) {
	switch kind {
	case KindAdded:
		return parse[Added](data)
	case KindVerified:
		return parse[Verified](data)
	case KindPruned:
		return parse[Pruned](data)
	case KindQuarantined:
		return parse[Quarantined](data)
	case KindReleased:
		return parse[Released](data)
	case KindRunStarted:
		return parse[RunStarted](data)
	case KindRunEnded:
		return parse[RunEnded](data)
	case KindHeld:
		return parse[Held](data)
	case KindKept:
		return parse[Kept](data)
	case KindDropped:
		return parse[Dropped](data)
	case KindGone:
		return parse[Gone](data)
	case KindAlarm:
		return parse[Alarm](data)
	}
	return nil, fmt.Errorf("kind %d: %w", kind, ErrUnknown)
}

func parse[F Fact](data []byte) (Fact, error) {
	var f F
	if err := decoding.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := check(f); err != nil {
		return nil, err
	}
	return f, nil
}

// check refuses what nobody should have to print or to count with.
func check(f Fact) error {
	var texts []string
	snapshot := func(s Snapshot) { texts = append(texts, s.Store, s.Group.Namespace, s.Group.Type, s.Group.ID) }
	switch v := f.(type) {
	case Added:
		snapshot(v.Snapshot)
		texts = append(texts, v.From)
	case Verified:
		snapshot(v.Snapshot)
	case Pruned:
		snapshot(v.Snapshot)
		texts = append(texts, v.Why)
	case Quarantined:
		snapshot(v.Snapshot)
		texts = append(texts, v.Why)
	case Released:
		snapshot(v.Snapshot)
	case RunStarted:
		texts = append(texts, v.Run, v.Job, v.Of)
	case RunEnded:
		texts = append(texts, v.Run, v.Job, v.Of, v.Text)
	case Held:
		snapshot(Snapshot{Store: v.Store, Group: v.Group})
		if len(v.Copies) > maxCopies {
			return fmt.Errorf("%w: %d copies", ErrInvalid, len(v.Copies))
		}
		for _, c := range v.Copies {
			texts = append(texts, c.From, c.Why)
		}
	case Kept:
		texts = append(texts, v.Store, v.State)
	case Dropped:
		texts = append(texts, v.Store)
	case Alarm:
		texts = append(texts, v.Key, v.Text, v.Hint)
	case Gone:
		snapshot(Snapshot{Store: v.Store, Group: v.Group})
		if len(v.Snapshots) > maxCopies {
			return fmt.Errorf("%w: %d removals", ErrInvalid, len(v.Snapshots))
		}
		for _, r := range v.Snapshots {
			texts = append(texts, r.Why)
		}
	}
	for _, t := range texts {
		if len(t) > maxText || !printable(t) {
			return fmt.Errorf("%w: a text of %d bytes, or one that cannot be printed", ErrInvalid, len(t))
		}
	}
	return nil
}

func printable(s string) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return utf8.ValidString(s)
}

// cut makes an error of any program a text that can be sent.
func cut(s string) string {
	clean := make([]byte, 0, min(len(s), maxText))
	for _, r := range s {
		if !unicode.IsPrint(r) {
			r = ' '
		}
		if len(clean)+utf8.RuneLen(r) > maxText {
			break
		}
		clean = utf8.AppendRune(clean, r)
	}
	return string(clean)
}

// Clean makes a text of any origin one that a fact can hold.
func Clean(s string) string { return cut(s) }
