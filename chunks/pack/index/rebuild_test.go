package index

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// rebuilt runs a builder with small batches, so that there is much to merge.
func rebuilt(t *testing.T, cfg Config, batch int, recs iter.Seq2[chunks.Digest, Loc], c Conflict) *Index {
	t.Helper()
	cfg, err := cfg.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	b := &builder{cfg: cfg, resolve: c.resolver(), max: batch}
	if err := b.build(t.Context(), recs, noState); err != nil {
		t.Fatal(err)
	}
	if err := b.drop(); err != nil {
		t.Fatal(err)
	}
	x := openIndex(t, cfg)
	if err := x.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	return x
}

func TestRebuildAgreesWithMap(t *testing.T) {
	for _, batch := range []int{7, 1000, 1 << 20} {
		for _, n := range []uint64{0, 1, 6, 7, 8, 3000} {
			t.Run(fmt.Sprintf("%d records by %d", n, batch), func(t *testing.T) {
				cfg := Config{FS: disk.OS{}, Dir: t.TempDir()}
				model := map[chunks.Digest]Loc{}
				var universe []chunks.Digest
				recs := func(yield func(chunks.Digest, Loc) bool) {
					for i := range n {
						d := synthetic(i % 2000)
						if i%3 == 0 {
							d = crafted(i % 900)
						}
						universe = append(universe, d, synthetic(1e6+i))
						model[d] = placeOf(i)
						if !yield(d, placeOf(i)) {
							return
						}
					}
				}
				x := rebuilt(t, cfg, batch, recs, nil)
				sameAs(t, x, model, universe)
				if x.Fresh() || x.Runs() > 1 {
					t.Errorf("a rebuilt index is fresh: %v, and has %d runs", x.Fresh(), x.Runs())
				}
				closeIndex(t, x)
			})
		}
	}
}

// TestConflictSeesPlacesInTheirOrder has each digest come five times, in one
// batch and in several.
func TestConflictSeesPlacesInTheirOrder(t *testing.T) {
	for _, batch := range []int{3, 1000} {
		recs := func(yield func(chunks.Digest, Loc) bool) {
			for turn := range uint32(5) {
				for i := range uint64(20) {
					if !yield(synthetic(i), Loc{Entry: 1, Off: turn}) {
						return
					}
				}
			}
		}
		sum := func(d chunks.Digest, a, b Loc) Loc {
			if b.Entry != 1 || b.Off != a.Entry {
				t.Errorf("after %+v comes %+v", a, b)
			}
			return Loc{Entry: a.Entry + b.Entry, Off: b.Off}
		}
		x := rebuilt(t, Config{FS: disk.OS{}, Dir: t.TempDir()}, batch, recs, sum)
		for i := range uint64(20) {
			if loc, ok := x.Lookup(synthetic(i)); !ok || loc.Entry != 5 {
				t.Errorf("digest %d has %+v in the end", i, loc)
			}
		}
		closeIndex(t, x)
	}
}

func TestRebuildReplacesWhatIsThere(t *testing.T) {
	cfg := Config{FS: disk.OS{}, Dir: t.TempDir()}
	x := openIndex(t, cfg)
	x.Insert(synthetic(1), placeOf(1))
	flush(t, x, "old")
	closeIndex(t, x)
	for _, damage := range []string{"nothing", "its list", "its run"} {
		t.Run(damage, func(t *testing.T) {
			runs := runFiles(t, cfg.Dir)
			switch damage {
			case "its list":
				overwrite(t, filepath.Join(cfg.Dir, currentName), 20)
			case "its run":
				overwrite(t, runs[0], 20)
			}
			if _, err := Open(cfg); (damage != "nothing") != errors.Is(err, ErrDamaged) {
				t.Fatalf("open gives %v", err)
			}
			state := func() ([]byte, error) { return []byte("new"), nil }
			x, err := Rebuild(t.Context(), cfg, records(5, 9), nil, state)
			if err != nil {
				t.Fatal(err)
			}
			defer closeIndex(t, x)
			if _, ok := x.Lookup(synthetic(1)); ok || x.Len() != 4 || string(x.State()) != "new" {
				t.Errorf("old chunk known %v, %d records, state %q", ok, x.Len(), x.State())
			}
			if now := runFiles(t, cfg.Dir); len(now) != 1 || slices.Contains(runs, now[0]) {
				t.Errorf("runs were %v, are %v", runs, now)
			}
		})
	}
}

// overwrite changes one byte of a file.
func overwrite(t *testing.T, name string, at int) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	data[at] ^= 0x40
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func runFiles(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"+runSuffix))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestFailedRebuildLeavesTheOldIndex(t *testing.T) {
	errScan := errors.New("a pack could not be read")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	reserved := maps.All(map[chunks.Digest]Loc{synthetic(3): {Pack: NoPack}})
	for _, tt := range []struct {
		name  string
		ctx   context.Context
		recs  iter.Seq2[chunks.Digest, Loc]
		state error
		want  string
	}{
		{"the scan of the packs failed", t.Context(), records(0, 5), errScan, "rebuild index: a pack could not be read"},
		{"no time", cancelled, records(0, 5), nil, "rebuild index: context canceled"},
		{"a pack number that is reserved", t.Context(), reserved, nil,
			"rebuild index: chunk " + synthetic(3).Short() + " is said to be in pack 4294967295, a number that is reserved"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := Config{FS: disk.OS{}, Dir: t.TempDir()}
			x := openIndex(t, cfg)
			x.Insert(synthetic(1), placeOf(1))
			flush(t, x, "old")
			closeIndex(t, x)
			_, err := Rebuild(tt.ctx, cfg, tt.recs, nil, func() ([]byte, error) { return nil, tt.state })
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			x = openIndex(t, cfg)
			if string(x.State()) != "old" || x.Len() != 1 || len(runFiles(t, cfg.Dir)) != 1 {
				t.Errorf("state %q, %d records, files %v", x.State(), x.Len(), runFiles(t, cfg.Dir))
			}
			closeIndex(t, x)
		})
	}
}
