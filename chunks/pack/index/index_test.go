package index

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
)

// crafted returns digests that a hostile client would choose: all of them
// share a line, and half of them their print.
func crafted(i uint64) (d chunks.Digest) {
	binary.BigEndian.PutUint64(d[24:], i)
	if i%2 == 0 {
		d[9] = byte(i)
	}
	return d
}

func openIndex(tb testing.TB, cfg Config) *Index {
	tb.Helper()
	x, err := Open(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return x
}

func closeIndex(tb testing.TB, x *Index) {
	tb.Helper()
	if err := x.Close(); err != nil {
		tb.Fatal(err)
	}
}

func flush(tb testing.TB, x *Index, state string) {
	tb.Helper()
	if err := x.Flush(tb.Context(), []byte(state)); err != nil {
		tb.Fatal(err)
	}
}

// sameAs fails unless x holds exactly model, by every way of asking.
func sameAs(tb testing.TB, x *Index, model map[chunks.Digest]Loc, universe []chunks.Digest) {
	tb.Helper()
	if x.Len() != len(model) {
		tb.Fatalf("length is %d, want %d", x.Len(), len(model))
	}
	for _, d := range universe {
		want, known := model[d]
		if got, ok := x.Lookup(d); ok != known || got != want {
			tb.Fatalf("lookup of %s gives %+v, %v, want %+v, %v", d.Short(), got, ok, want, known)
		}
	}
	calls := 0
	x.LookupMany(universe, func(i int, got Loc, ok bool) {
		want, known := model[universe[i]]
		if i != calls || ok != known || got != want {
			tb.Fatalf("call %d for place %d gives %+v, %v, want %+v, %v", calls, i, got, ok, want, known)
		}
		calls++
	})
	if calls != len(universe) {
		tb.Fatalf("%d calls for %d digests", calls, len(universe))
	}
	var last chunks.Digest
	got := map[chunks.Digest]Loc{}
	all, failed := x.All(tb.Context())
	for d, loc := range all {
		if len(got) > 0 && last.Compare(d) >= 0 {
			tb.Fatalf("%s after %s", d.Short(), last.Short())
		}
		got[d], last = loc, d
	}
	if err := failed(); err != nil {
		tb.Fatal(err)
	}
	if !maps.Equal(got, model) {
		tb.Fatalf("all gives %d records, which are not the %d expected", len(got), len(model))
	}
}

// TestIndexAgreesWithMap does the same random things to an index and a map,
// with flushes, failed flushes and reopening in between.
func TestIndexAgreesWithMap(t *testing.T) {
	for _, tt := range []struct {
		name string
		fs   disk.FS
		make func(uint64) chunks.Digest
	}{
		{"even digests, mapped", disk.OS{}, synthetic},
		{"crafted digests, mapped", disk.OS{}, crafted},
		{"even digests, no mapping", disktest.Plain(disk.OS{}), synthetic},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(2) {
				cfg := Config{FS: tt.fs, Dir: t.TempDir(), DeltaMax: 300, FanIn: 2 + int(seed)*6}
				playAgainstMap(t, cfg, seed, tt.make)
			}
		})
	}
}

func playAgainstMap(t *testing.T, cfg Config, seed uint64, digest func(uint64) chunks.Digest) {
	rng := rand.New(rand.NewPCG(seed, 1))
	universe := make([]chunks.Digest, 1500)
	for i := range universe {
		universe[i] = digest(uint64(i))
	}
	model := map[chunks.Digest]Loc{}
	x := openIndex(t, cfg)
	for step := range 12_000 {
		d := universe[rng.IntN(len(universe))]
		old, known := model[d]
		loc := Loc{Pack: rng.Uint32N(50), Entry: rng.Uint32(), Off: rng.Uint32(), Len: rng.Uint32()}
		switch rng.IntN(8) {
		case 0, 1, 2:
			if got, inserted := x.InsertIfAbsent(d, loc); inserted == known || got != old {
				t.Fatalf("seed %d step %d: insert gives %+v, %v, had %+v, %v", seed, step, got, inserted, old, known)
			}
			if !known {
				model[d] = loc
			}
		case 3:
			x.Insert(d, loc)
			model[d] = loc
		case 4:
			if x.Replace(d, old, loc) != known || x.Replace(d, Loc{Pack: 77}, loc) {
				t.Fatalf("seed %d step %d: wrong answer to a replacement", seed, step)
			}
			if known {
				model[d] = loc
			}
		default:
			if x.Delete(d, Loc{Pack: 77}) || x.Delete(d, old) != known {
				t.Fatalf("seed %d step %d: wrong answer to a deletion", seed, step)
			}
			delete(model, d)
		}
		switch {
		case x.NeedsFlush() || rng.IntN(400) == 0:
			flush(t, x, "some state")
		case rng.IntN(800) == 0:
			failFlush(t, x)
		case rng.IntN(2000) == 0:
			sameAs(t, x, model, universe)
			x = reopened(t, x, cfg)
		}
	}
	sameAs(t, x, model, universe)
	x = reopened(t, x, cfg)
	sameAs(t, x, model, universe)
	for d, loc := range model {
		x.Delete(d, loc)
	}
	x = reopened(t, x, cfg)
	sameAs(t, x, nil, universe)
	closeIndex(t, x)
}

// failFlush cancels a flush when it has begun.
func failFlush(t *testing.T, x *Index) {
	t.Helper()
	if x.pending.Load() == 0 {
		return
	}
	if err := x.Flush(&lateCancel{Context: t.Context(), after: 1}, nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled flush gives %v", err)
	}
}

// A lateCancel ends after Err was asked a number of times.
type lateCancel struct {
	context.Context
	after int
}

func (c *lateCancel) Err() error {
	if c.after--; c.after < 0 {
		return context.Canceled
	}
	return nil
}

func reopened(t *testing.T, x *Index, cfg Config) *Index {
	t.Helper()
	flush(t, x, "reopened")
	if err := x.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	closeIndex(t, x)
	x = openIndex(t, cfg)
	if x.Fresh() || string(x.State()) != "reopened" {
		t.Fatalf("reopened index: fresh %v, state %q", x.Fresh(), x.State())
	}
	return x
}

func TestLookupAllocatesNothing(t *testing.T) {
	x := openIndex(t, Config{FS: disk.OS{}, Dir: t.TempDir()})
	defer closeIndex(t, x)
	for d, loc := range records(0, 1000) {
		x.Insert(d, loc)
	}
	flush(t, x, "")
	for d, loc := range records(1000, 1100) {
		x.Insert(d, loc)
	}
	i := uint64(0)
	allocs := testing.AllocsPerRun(3000, func() {
		if _, ok := x.Lookup(synthetic(i)); ok != (i < 1100) {
			t.Errorf("chunk %d: %v", i, ok)
		}
		i++
	})
	if allocs != 0 {
		t.Errorf("a lookup allocates %v times", allocs)
	}
}

func TestHeapStaysWithinBudget(t *testing.T) {
	x := openIndex(t, Config{FS: disk.OS{}, Dir: t.TempDir()})
	defer closeIndex(t, x)
	fill := func(from uint64) {
		for i := from; !x.NeedsFlush(); i++ {
			x.Insert(synthetic(i), placeOf(i))
		}
	}
	fill(0)
	x.freeze()
	fill(1 << 20)
	if got := x.Heap(); got < 2*64<<10*recordSize || got > 16_000_000 {
		t.Errorf("two full tables take %d bytes, want 16 a chunk of 1 million at most", got)
	}
}

func TestFreshIndexHasNoState(t *testing.T) {
	cfg := Config{FS: disk.OS{}, Dir: filepath.Join(t.TempDir(), "index")}
	x := openIndex(t, cfg)
	if !x.Fresh() || x.State() != nil || x.Generation() != 0 || x.Len() != 0 {
		t.Errorf("new index: fresh %v, state %q, generation %d, %d records", x.Fresh(), x.State(), x.Generation(), x.Len())
	}
	if err := x.Check(t.Context()); err != nil {
		t.Error(err)
	}
	closeIndex(t, x)
	x = openIndex(t, cfg)
	if !x.Fresh() {
		t.Error("an index that was never flushed is not fresh when opened again")
	}
	flush(t, x, "")
	if x.Fresh() || x.Generation() == 0 {
		t.Error("a flushed index is fresh")
	}
	closeIndex(t, x)
	if err := x.Flush(t.Context(), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("flush after close gives %v", err)
	}
	if err := x.Check(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("check after close gives %v", err)
	}
}

func TestFlushWithNothingNewWritesNothing(t *testing.T) {
	x := openIndex(t, Config{FS: disk.OS{}, Dir: t.TempDir()})
	defer closeIndex(t, x)
	flush(t, x, "a")
	first := x.Generation()
	flush(t, x, "a")
	if x.Generation() != first {
		t.Error("a flush with nothing new wrote the list")
	}
	flush(t, x, "b")
	if x.Generation() == first || string(x.State()) != "b" {
		t.Errorf("state is %q after a flush with a new one", x.State())
	}
}

func TestConfigNamesWhatIsWrong(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		cfg        Config
	}{
		{"no file system", "index: no file system", Config{Dir: "x"}},
		{"no directory", "index: no directory", Config{FS: disk.OS{}}},
		{"negative delta", "index: delta of -1 digests, want 1 to 16777216", Config{FS: disk.OS{}, Dir: "x", DeltaMax: -1}},
		{"fan-in of one", "index: fan-in is 1, want 2 to 64", Config{FS: disk.OS{}, Dir: "x", FanIn: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Open(tt.cfg); err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}
