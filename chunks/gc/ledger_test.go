package gc

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// ledgerOf takes records into a new ledger.
func ledgerOf(t *testing.T, records ...[]byte) *ledger {
	t.Helper()
	g := newLedger()
	for _, rec := range records {
		if err := g.apply(rec); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func TestLedgerAddsUp(t *testing.T) {
	at := func(min int) time.Time { return time.UnixMilli(int64(min) * 60_000) }
	pins := func(min int, all ...pack.Ref) []byte {
		for rec := range encodePins(1, at(min), refs(all...)) {
			return rec
		}
		return nil
	}
	a, b, c := pack.Ref{Pack: 3, Entry: 200}, pack.Ref{Pack: 3, Entry: 1}, pack.Ref{Pack: 9}
	opened := encodeOpened(1, at(0), at(1), "pull", "job 7")
	exist := map[uint32]pack.Usage{3: {}, 9: {}}
	for _, row := range []struct {
		name    string
		records [][]byte
		want    []pack.Ref
		renewed int // minute; -1: there is no lease
	}{
		{"a new lease has no pins", [][]byte{opened}, nil, 1},
		{"pins add up", [][]byte{opened, pins(2, a), pins(5, b, c)}, []pack.Ref{b, a, c}, 5},
		{"a renewal moves the time only", [][]byte{opened, pins(2, a), encodeRenewed(1, at(7))}, []pack.Ref{a}, 7},
		{"an end ends it", [][]byte{opened, pins(2, a), encodeClosed(1)}, nil, -1},
		{"opened again it has no pins", [][]byte{opened, pins(2, a), opened}, nil, 1},
		{"what is said of no lease says nothing", [][]byte{pins(2, a), encodeRenewed(1, at(7)), encodeClosed(1)}, nil, -1},
		{"another lease is another lease", [][]byte{opened, pins(2, a), encodeClosed(2), encodeRenewed(2, at(9))}, []pack.Ref{a}, 2},
		{"packs that are gone are left out", [][]byte{opened, appendRow(pins(2, a), 1<<31, []uint64{1})}, []pack.Ref{a}, 2},
	} {
		t.Run(row.name, func(t *testing.T) {
			l := ledgerOf(t, row.records...).leases[1]
			if (l == nil) != (row.renewed < 0) {
				t.Fatalf("lease is %+v", l)
			}
			if l == nil {
				return
			}
			set := l.set(exist)
			if got := slices.Collect(set.All()); !slices.Equal(got, row.want) || !l.renewed.Equal(at(row.renewed)) || l.kind != "pull" || l.owner != "job 7" || !l.created.Equal(at(0)) {
				t.Errorf("pins %v, lease %+v", got, l)
			}
		})
	}
}

func TestLargePinsAreSplit(t *testing.T) {
	set := &pack.Set{}
	for n := range uint32(200_000) {
		set.Add(pack.Ref{Pack: n, Entry: n % 1000})
	}
	records := [][]byte{encodeOpened(1, time.Now(), time.Now(), "", "")}
	for rec := range encodePins(1, time.Now(), set) {
		if len(rec) > maxRecord+rowHeader+8*maxWords {
			t.Errorf("record of %d bytes", len(rec))
		}
		records = append(records, slices.Clone(rec))
	}
	if len(records) < 4 {
		t.Errorf("%d records", len(records))
	}
	if l := ledgerOf(t, records...).leases[1]; len(l.pins) != 200_000 {
		t.Errorf("%d packs came back", len(l.pins))
	}
}

// FuzzLedger: no record makes a ledger panic or grow beyond the record, and
// what a ledger took in can be written again and read back the same.
func FuzzLedger(f *testing.F) {
	now := time.UnixMilli(1)
	f.Add(encodeOpened(1, now, now, "backup", "vm/100"), encodeRenewed(1, now))
	for rec := range encodePins(1, now, refs(pack.Ref{Pack: 3, Entry: 200})) {
		f.Add(encodeOpened(1, now, now, "", ""), appendRow(slices.Clone(rec), 1<<31, []uint64{1}))
	}
	f.Add(encodeClosed(1), []byte{recPins, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 255, 255, 0, 0, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		g := newLedger()
		g.apply(encodeOpened(1, now, now, "", ""))
		g.apply(first)
		g.apply(second)
		again := newLedger()
		for id, l := range g.leases {
			if err := again.apply(encodeOpened(id, l.created, l.renewed, l.kind, l.owner)); err != nil {
				t.Fatal(err)
			}
			for _, number := range slices.Sorted(maps.Keys(l.pins)) {
				if len(l.pins[number]) > maxWords {
					t.Fatalf("%d words of pack %d", len(l.pins[number]), number)
				}
				rec := appendTime(appendHead(nil, recPins, id), l.renewed)
				if err := again.apply(appendRow(rec, number, l.pins[number])); err != nil {
					t.Fatal(err)
				}
			}
			if got := again.leases[id]; !got.renewed.Equal(l.renewed) || got.kind != l.kind || got.owner != l.owner || countBits(got.pins) != countBits(l.pins) {
				t.Fatalf("lease %+v came back as %+v", l, got)
			}
		}
	})
}

func countBits(pins map[uint32][]uint64) (n int) {
	for _, words := range pins {
		s := pack.Set{}
		s.OrRow(0, words)
		n += s.Len()
	}
	return n
}
