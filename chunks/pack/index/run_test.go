package index

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// A memoryFile is a file that is only read.
type memoryFile struct{ *bytes.Reader }

func (memoryFile) WriteAt([]byte, int64) (int, error) { return 0, errors.ErrUnsupported }
func (memoryFile) Close() error                       { return nil }
func (memoryFile) Name() string                       { return "memory" }
func (memoryFile) Truncate(int64) error               { return errors.ErrUnsupported }
func (memoryFile) Sync() error                        { return errors.ErrUnsupported }
func (f memoryFile) Size() (int64, error)             { return f.Reader.Size(), nil }

// loadRun is openRun for a run in memory.
func loadRun(data []byte, info runInfo) (*run, error) {
	r, err := parseRun(data, info)
	if err != nil {
		return nil, err
	}
	r.file = "memory"
	r.held = &mapping{data: data, file: memoryFile{bytes.NewReader(data)}}
	return r, nil
}

// runOf returns the bytes of a run with these records, which are put in order.
func runOf(tb testing.TB, recs []record) ([]byte, runInfo) {
	tb.Helper()
	slices.SortFunc(recs, func(a, b record) int { return bytes.Compare(a[:], b[:]) })
	cfg := benchConfig(tb.TempDir())
	w, err := createRun(cfg, 7, uint64(len(recs)), true)
	if err != nil {
		tb.Fatal(err)
	}
	for i := range recs {
		if err := w.add(&recs[i]); err != nil {
			tb.Fatal(err)
		}
	}
	info, err := w.finish(true)
	if err != nil {
		tb.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(cfg.Dir, runName(7)))
	if err != nil {
		tb.Fatal(err)
	}
	return data, info
}

// mixedRecords returns n records, of which the first third share a line and
// every seventh is a tombstone.
func mixedRecords(n uint64) []record {
	recs := make([]record, n)
	for i := range n {
		d, loc := synthetic(i), placeOf(i)
		if i < n/3 {
			d = crafted(i)
		}
		if i%7 == 6 {
			loc = Loc{Pack: NoPack}
		}
		recs[i] = makeRecord(d, loc)
	}
	return recs
}

func TestRunFindsItsRecordsAndNoOthers(t *testing.T) {
	for _, n := range []uint64{0, 1, 19, 31, 200, 5000} {
		t.Run(fmt.Sprintf("%d records", n), func(t *testing.T) {
			recs := mixedRecords(n)
			data, info := runOf(t, recs)
			r, err := loadRun(data, info)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.check(t.Context()); err != nil {
				t.Fatal(err)
			}
			for i := range recs {
				k := makeKey(recs[i].digest())
				if got := r.find(&k); got == nil || *got != recs[i] {
					t.Fatalf("record %d is not found", i)
				}
			}
			for i := range uint64(2000) {
				for _, d := range []chunks.Digest{synthetic(n + i), crafted(n + i)} {
					k := makeKey(&d)
					if r.find(&k) != nil {
						t.Fatalf("found %s, which is not there", d.Short())
					}
				}
			}
		})
	}
}

func TestLineMatchesEveryPlace(t *testing.T) {
	for place := range uint32(linePrints) {
		for _, mark := range []uint64{1, 2, 0x010, 0x7ff, 0x800, 0xfff} {
			var line [lineSize]byte
			binary.LittleEndian.PutUint32(line[:], 0x12345678)
			for other := range uint32(linePrints) {
				if other != place {
					setPrint(&line, other, 0xeee)
				}
			}
			setPrint(&line, place, mark)
			m := match(&line, mark*everyLane)
			if m == 0 || m.any() != uint64(place) {
				t.Errorf("print %#x at %d gives %b", mark, place, m)
			}
			if m := match(&line, 0x333*everyLane); m != 0 {
				t.Errorf("print that is not there gives %b", m)
			}
			if uint32(lineWord(&line, 0)) != 0x12345678 {
				t.Errorf("print %#x at %d changes the ordinal", mark, place)
			}
		}
	}
}

// TestEveryFlippedBitIsFound flips each bit of a run, of zeros every 67th:
// either it does not open,
// or the check finds it. Lookups before the check may miss, or find what the
// entry's header will contradict, but they do not fall over.
func TestEveryFlippedBitIsFound(t *testing.T) {
	recs := mixedRecords(90)
	data, info := runOf(t, recs)
	for bit := range len(data) * 8 {
		if data[bit/8] == 0 && bit%67 > 0 {
			continue
		}
		data[bit/8] ^= 1 << (bit % 8)
		r, err := loadRun(data, info)
		if err == nil {
			lookUpAll(r, recs)
			err = r.check(t.Context())
		}
		if err == nil {
			t.Fatalf("bit %d of byte %d of %d was flipped and nobody saw it", bit%8, bit/8, len(data))
		}
		data[bit/8] ^= 1 << (bit % 8)
	}
}

func lookUpAll(r *run, recs []record) (found int) {
	for i := range recs {
		k := makeKey(recs[i].digest())
		if r.find(&k) != nil {
			found++
		}
		if ord, ok := r.candidate(&k); ok {
			found += int(r.record(ord)[0]) * 0
		}
	}
	return found
}

func TestEveryOtherLengthIsRefused(t *testing.T) {
	data, info := runOf(t, mixedRecords(40))
	for n := range len(data) {
		if _, err := loadRun(data[:n], info); err == nil {
			t.Fatalf("%d bytes of %d were accepted", n, len(data))
		}
	}
	if _, err := loadRun(append(data, 0), info); err == nil {
		t.Fatal("a byte too many was accepted")
	}
}

func TestRunOfAnotherNameIsRefused(t *testing.T) {
	data, info := runOf(t, mixedRecords(40))
	for _, wrong := range []runInfo{
		{info.number + 1, info.records, info.sum},
		{info.number, info.records + 1, info.sum},
		{info.number, info.records, info.sum + 1},
	} {
		if _, err := loadRun(data, wrong); err == nil {
			t.Errorf("run %+v passes as %+v", info, wrong)
		}
	}
}

// TestSealedLiesAreFound has damage that no sum shows, because it was there
// when the sums were made.
func TestSealedLiesAreFound(t *testing.T) {
	for _, tt := range []struct {
		name string
		at   func(r *run) int // the byte to change
	}{
		{"a line that starts elsewhere", func(*run) int { return headerSize }},
		{"a print that is not the record's", func(*run) int { return headerSize + 4*lineSize + 4 }},
		{"a byte between lines and records", func(r *run) int { return int(r.head.recordsOff()) - 1 }},
		{"records out of order", func(r *run) int { return int(r.head.recordsOff()) }},
		{"one tombstone too many", func(r *run) int { return len(r.held.data) - footerSize + 16 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data, info := runOf(t, mixedRecords(90))
			r, err := loadRun(data, info)
			if err != nil {
				t.Fatal(err)
			}
			data[tt.at(r)] ^= 0xff
			reseal(data)
			if r, err = loadRun(data, trueInfo(data)); err != nil {
				return // found on opening
			}
			if err := r.check(t.Context()); !errors.Is(err, ErrDamaged) {
				t.Errorf("check gives %v", err)
			}
		})
	}
}

func TestMergePlanKeepsRunsFewAndWritesLittle(t *testing.T) {
	for _, tt := range []struct {
		name          string
		each, flushes uint64
		fanIn         int
		maxRuns       int
		maxWritten    float64 // records written for each that came
	}{
		{"full deltas up to 10 million", 64 << 10, 153, 8, 3, 11},
		{"full deltas up to 100 million", 64 << 10, 1526, 8, 4, 17},
		{"a thousand at a time", 1000, 10_000, 8, 5, 23},
		{"one at a time", 1, 5000, 8, 4, 21},
		{"smallest fan-in", 64 << 10, 1526, 2, 7, 9},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var runs []runInfo
			var written uint64
			most := 0
			for range tt.flushes {
				width := mergeWidth(tt.each, runs, tt.fanIn)
				size := tt.each
				for _, r := range runs[:width] {
					size += r.records
				}
				written += size
				runs = slices.Insert(slices.Clone(runs[width:]), 0, runInfo{records: size})
				most = max(most, len(runs))
			}
			perRecord := float64(written) / float64(tt.each*tt.flushes)
			t.Logf("at most %d runs, each record written %.1f times", most, perRecord)
			if most > tt.maxRuns || perRecord > tt.maxWritten {
				t.Errorf("at most %d runs, each record written %.1f times, want %d and %.1f",
					most, perRecord, tt.maxRuns, tt.maxWritten)
			}
		})
	}
}

// TestSorterAgreesWithSort sorts even and crafted digests, with repetitions.
func TestSorterAgreesWithSort(t *testing.T) {
	var s sorter
	for _, n := range []uint64{0, 1, 2, 31, 32, 33, 3000} {
		recs := mixedRecords(n)
		recs = append(recs, mixedRecords(n/2)...)
		type numbered struct {
			record
			place int
		}
		want := make([]numbered, len(recs))
		for i := range recs {
			recs[i].setLoc(Loc{Len: uint32(i)})
			want[i] = numbered{recs[i], i}
		}
		slices.SortFunc(want, func(a, b numbered) int {
			return cmp.Or(a.digest().Compare(*b.digest()), cmp.Compare(a.place, b.place))
		})
		src := s.sort(recs)
		for i := range want {
			if got, _ := src.next(); got == nil || *got != want[i].record {
				t.Fatalf("record %d of %d is out of order", i, len(recs))
			}
		}
		if got, err := src.next(); got != nil || err != nil {
			t.Fatalf("after %d records comes %v, %v", len(recs), got, err)
		}
	}
}

func TestTableAgreesWithMap(t *testing.T) {
	x := openIndex(t, Config{FS: disk.OS{}, Dir: t.TempDir()})
	defer closeIndex(t, x)
	table := newTable(smallTable)
	model := map[chunks.Digest]Loc{}
	for i := range uint64(5000) {
		d := crafted(i * i % 700)
		rec := makeRecord(d, placeOf(i))
		if table.full() {
			table = table.grown(x.seed)
		}
		_, known := model[d]
		if table.put(hashOf(x.seed, &d), &rec) == known {
			t.Fatalf("digest %s: known is %v", d.Short(), known)
		}
		model[d] = placeOf(i)
	}
	got := map[chunks.Digest]Loc{}
	table.each(func(r *record) { got[*r.digest()] = r.loc() })
	if !maps.Equal(got, model) || table.used != len(model) {
		t.Errorf("the table has %d digests and counts %d, want %d", len(got), table.used, len(model))
	}
}
