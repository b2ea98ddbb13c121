// Package notes is what a store in a bucket writes down beside it, because the
// bucket does not know it.
package notes

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// The kinds of note.
const (
	Number = "number" // a pack was given a number
	Dead   = "dead"   // entries of a pack are condemned
	Bad    = "bad"    // entries of a pack are denied, because they are damaged
	Doomed = "doomed" // a pack is to be buried by the next root
	Seen   = "seen"   // a local pack was first seen
	Lost   = "lost"   // the bucket has not what it should have, or has it again
	File   = "file"   // a file waits for the next root
	Filed  = "filed"  // a root names what waited
)

// A Note is a record of the store's journal. If the journal is lost, condemned
// chunks live again until the next collection.
type Note struct {
	Kind   string    `json:"k"`
	Pack   format.ID `json:"p,omitzero"`
	Number uint32    `json:"n,omitempty"`
	Bits   []uint64  `json:"b,omitempty"`
	Time   time.Time `json:"t,omitzero"`
	Name   string    `json:"f,omitempty"`
	On     bool      `json:"o,omitempty"`
}

// Encode returns the record of a note.
func (n Note) Encode() []byte {
	b, err := json.Marshal(n)
	if err != nil {
		panic(err) // a note is plain data
	}
	return b
}

// A Memory is what the notes of a journal add up to.
type Memory struct {
	Numbers map[format.ID]uint32
	Next    uint32
	Dead    map[format.ID][]uint64
	Bad     map[format.ID][]uint64
	Doomed  map[format.ID]time.Time
	Seen    map[uint32]time.Time
	Lost    map[format.ID]bool
	Files   map[string]bool
}

// New returns the memory of an empty journal.
func New() *Memory {
	return &Memory{
		Numbers: map[format.ID]uint32{}, Dead: map[format.ID][]uint64{}, Bad: map[format.ID][]uint64{}, Doomed: map[format.ID]time.Time{},
		Seen: map[uint32]time.Time{}, Lost: map[format.ID]bool{}, Files: map[string]bool{},
	}
}

// Open opens the journal of that name, and says what it adds up to. One that is
// damaged is set aside: nothing is lost with it but work.
func Open(fsys disk.FS, name string, log *slog.Logger) (*disk.Journal, *Memory, error) {
	m := New()
	j, err := disk.OpenJournal(fsys, name, m.Apply)
	if damaged := (*disk.JournalError)(nil); errors.As(err, &damaged) {
		aside := fmt.Sprintf("%s.damaged-%d", name, time.Now().UnixNano())
		log.Error("notes of the cloud store are damaged; set aside", "as", aside, "err", err)
		if err := fsys.Rename(name, aside); err != nil {
			return nil, nil, err
		}
		m = New()
		// Numbers that were given out must not come back.
		m.Next = uint32(rand.IntN(1<<16)+1) << 8
		j, err = disk.OpenJournal(fsys, name, m.Apply)
	}
	return j, m, err
}

// Apply replays one record. Records of other programs are skipped.
func (m *Memory) Apply(record []byte) error {
	var n Note
	if err := json.Unmarshal(record, &n); err != nil {
		return fmt.Errorf("a note of the cloud store: %w", err)
	}
	switch n.Kind {
	case Number:
		m.Numbers[n.Pack] = n.Number
		m.Next = max(m.Next, n.Number+1)
	case Dead:
		m.Dead[n.Pack] = n.Bits
	case Bad:
		m.Bad[n.Pack] = n.Bits
	case Doomed:
		m.Doomed[n.Pack] = n.Time
	case Seen:
		m.Seen[n.Number] = n.Time
	case Lost:
		m.Lost[n.Pack] = n.On
	case File:
		m.Files[n.Name] = n.On
	case Filed:
		delete(m.Files, n.Name)
	}
	return nil
}

// Records yields what a journal must say that adds up to m.
func (m *Memory) Records() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		ok := true
		say := func(n Note) { ok = ok && yield(n.Encode()) }
		for id, n := range m.Numbers {
			say(Note{Kind: Number, Pack: id, Number: n})
		}
		for id, bits := range m.Dead {
			if len(bits) > 0 {
				say(Note{Kind: Dead, Pack: id, Bits: bits})
			}
		}
		for id, bits := range m.Bad {
			if len(bits) > 0 {
				say(Note{Kind: Bad, Pack: id, Bits: bits})
			}
		}
		for id, lost := range m.Lost {
			if lost {
				say(Note{Kind: Lost, Pack: id, On: true})
			}
		}
		for id, at := range m.Doomed {
			say(Note{Kind: Doomed, Pack: id, Time: at})
		}
		for n, at := range m.Seen {
			say(Note{Kind: Seen, Number: n, Time: at})
		}
		for name, keep := range m.Files {
			say(Note{Kind: File, Name: name, On: keep})
		}
	}
}

// RewriteFrom is the size in bytes from which a journal is worth writing anew.
const RewriteFrom = 8 << 20
