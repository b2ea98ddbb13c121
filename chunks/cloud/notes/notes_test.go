package notes

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// Later notes replace earlier ones, and numbers are never given twice.
func TestApply(t *testing.T) {
	m, id := New(), format.NewID()
	for _, n := range []Note{
		{Kind: Number, Pack: id, Number: 7}, {Kind: Number, Pack: format.NewID(), Number: 3},
		{Kind: Dead, Pack: id, Bits: []uint64{1}}, {Kind: Dead, Pack: id, Bits: []uint64{3}}, {Kind: Bad, Pack: id, Bits: []uint64{4}},
		{Kind: Lost, Pack: id, On: true}, {Kind: Lost, Pack: id}, {Kind: Doomed, Pack: id, Time: time.Unix(5, 0)}, {Kind: Seen, Number: 2, Time: time.Unix(6, 0)},
		{Kind: File, Name: "a", On: true}, {Kind: File, Name: "b"}, {Kind: Filed, Name: "a"}, {Kind: "of another program"},
	} {
		if err := m.Apply(n.Encode()); err != nil {
			t.Fatal(err)
		}
	}
	if m.Next != 8 || m.Numbers[id] != 7 {
		t.Errorf("next number is %d, that of the pack %d", m.Next, m.Numbers[id])
	}
	if !slices.Equal(m.Dead[id], []uint64{3}) || !slices.Equal(m.Bad[id], []uint64{4}) || m.Lost[id] || m.Doomed[id].Unix() != 5 || m.Seen[2].Unix() != 6 {
		t.Errorf("it adds up to %+v", m)
	}
	if !maps.Equal(m.Files, map[string]bool{"b": false}) {
		t.Errorf("files that wait: %v", m.Files)
	}
}

func FuzzApply(f *testing.F) {
	f.Add(Note{Kind: Number, Number: 1}.Encode())
	f.Add([]byte("{"))
	f.Fuzz(func(_ *testing.T, b []byte) { _ = New().Apply(b) })
}
