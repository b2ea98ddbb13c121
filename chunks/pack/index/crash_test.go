package index

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
)

// A story is an index that grows in steps, each of which ends with a flush
// whose state is the number of the step.
const storySteps = 7

// storyBounds are the chunks that come with each step: many, then few, so that
// some flushes merge all runs and some leave a few.
var storyBounds = [storySteps + 1]uint64{0, 200, 205, 225, 230, 280, 281, 300}

func storyConfig(fsys disk.FS) Config { return Config{FS: fsys, Dir: "/index", FanIn: 2} }

// storyStep does to x and to model what belongs to a step: new chunks, some
// moved, some deleted; in step 4 nearly all are deleted.
func storyStep(x *Index, model map[chunks.Digest]Loc, step uint64) {
	for i := storyBounds[step]; i < storyBounds[step+1]; i++ {
		x.Insert(synthetic(i), placeOf(i))
		model[synthetic(i)] = placeOf(i)
	}
	for i := range storyBounds[step] {
		d := synthetic(i)
		old, known := model[d]
		switch {
		case known && (step == 4 || i%71 == step):
			x.Delete(d, old)
			delete(model, d)
		case known && i%61 == step:
			x.Replace(d, old, placeOf(i+1000))
			model[d] = placeOf(i + 1000)
		}
	}
}

// storyModels returns what the index holds after each step; the first is
// empty.
func storyModels(t *testing.T) []map[chunks.Digest]Loc {
	t.Helper()
	x := openIndex(t, storyConfig(disktest.NewMem()))
	models := []map[chunks.Digest]Loc{{}}
	model := map[chunks.Digest]Loc{}
	for step := range uint64(storySteps) {
		storyStep(x, model, step)
		models = append(models, maps.Clone(model))
	}
	closeIndex(t, x)
	return models
}

// tell runs the story until it ends or a step fails, and returns how many
// steps were acknowledged.
func tell(t *testing.T, fsys disk.FS) (done int) {
	t.Helper()
	x, err := Open(storyConfig(fsys))
	if err != nil {
		return 0
	}
	defer func() { _ = x.Close() }()
	model := map[chunks.Digest]Loc{}
	for step := range storySteps {
		storyStep(x, model, uint64(step))
		if x.Flush(t.Context(), strconv.AppendInt(nil, int64(step+1), 10)) != nil {
			return step
		}
	}
	return storySteps
}

func storyUniverse() (all []chunks.Digest) {
	for i := range storyBounds[storySteps] + 50 {
		all = append(all, synthetic(i))
	}
	return all
}

// changesOf returns the numbers of the operations by which do changes a disk.
func changesOf(do func(*disktest.Mem)) (changes []int) {
	m := disktest.NewMem()
	m.SetHook(func(op disktest.Op) error {
		if op.Kind.Changes() {
			changes = append(changes, op.Seq)
		}
		return nil
	})
	do(m)
	return changes
}

// wakings returns states that the disk may be in after the power was cut at an
// operation.
func wakings(m *disktest.Mem, at int) map[string]*disktest.Mem {
	w := map[string]*disktest.Mem{"losing": m.CrashLosing(), "keeping": m.CrashKeeping()}
	for i := range 8 {
		seed := uint64(at*100 + i) // the same seeds would tear all alike
		w[fmt.Sprintf("seed %d", seed)] = m.Crash(seed)
	}
	return w
}

// TestCrashAnywhereLosesNoAcknowledgedFlush cuts the power before every
// change of the disk. The index that wakes up is that of the last flush which
// was acknowledged, or of the one that was under way, to the record; and so it
// is when power is cut again right after opening it.
func TestCrashAnywhereLosesNoAcknowledgedFlush(t *testing.T) {
	models, universe := storyModels(t), storyUniverse()
	for _, at := range changesOf(func(m *disktest.Mem) { tell(t, m) }) {
		m := disktest.NewMem()
		m.FailAt(at, disktest.ErrCrashed)
		done := tell(t, m)
		for how, woken := range wakings(m, at) {
			for again := range 2 {
				t.Logf("crash at %d, %s, opened %d times, %d flushes acknowledged", at, how, again+1, done)
				x := openIndex(t, storyConfig(woken))
				if err := x.Check(t.Context()); err != nil {
					t.Fatal(err)
				}
				step := 0
				if !x.Fresh() {
					step, _ = strconv.Atoi(string(x.State()))
				}
				if step != done && step != done+1 {
					t.Fatalf("state is that of step %d", step)
				}
				sameAs(t, x, models[step], universe)
				noLeftovers(t, woken, x)
				closeIndex(t, x)
				woken = woken.CrashLosing()
			}
		}
	}
}

// noLeftovers fails if the directory has files that the index does not list.
func noLeftovers(t *testing.T, m *disktest.Mem, x *Index) {
	t.Helper()
	var want []string
	if !x.Fresh() {
		want = append(want, "/index/"+currentName)
	}
	for _, r := range x.view.Load().runs {
		want = append(want, r.file)
	}
	slices.Sort(want)
	if got := m.Names(); !slices.Equal(got, want) {
		t.Fatalf("files are %v, want %v", got, want)
	}
}

// TestListThatIsNotDurableKeepsOldRuns stops the process when the new list is
// in place, but not durable. The next process sees it and removes the runs of
// the old list; then the power is cut, and the old list may be back.
func TestListThatIsNotDurableKeepsOldRuns(t *testing.T) {
	universe := storyUniverse()
	for seed := range uint64(50) {
		m := disktest.NewMem()
		cfg := storyConfig(m)
		x := openIndex(t, cfg)
		model := map[chunks.Digest]Loc{}
		storyStep(x, model, 0)
		flush(t, x, "1")
		models := map[string]map[chunks.Digest]Loc{"1": maps.Clone(model)}
		storyStep(x, model, 4) // which leaves one run
		models["2"] = model
		renamed := false
		m.SetHook(func(op disktest.Op) error {
			if renamed && op.Kind == disktest.SyncDir {
				return syscall.EIO
			}
			renamed = renamed || op.Kind == disktest.Rename
			return nil
		})
		if err := x.Flush(t.Context(), []byte("2")); !errors.Is(err, syscall.EIO) {
			t.Fatalf("flush gives %v", err)
		}
		m.SetHook(nil)
		closeIndex(t, x)
		x = openIndex(t, cfg)
		sameAs(t, x, models["2"], universe)
		closeIndex(t, x)
		woken := m.Crash(seed)
		t.Logf("seed %d", seed)
		x = openIndex(t, storyConfig(woken))
		sameAs(t, x, models[string(x.State())], universe)
		closeIndex(t, x)
	}
}

// TestCrashInRebuildLeavesOneOrTheOther cuts the power before every change
// that a rebuild makes.
func TestCrashInRebuildLeavesOneOrTheOther(t *testing.T) {
	old := map[chunks.Digest]Loc{}
	prepare := func(m *disktest.Mem) {
		x := openIndex(t, storyConfig(m))
		storyStep(x, old, 1)
		flush(t, x, "old")
		closeIndex(t, x)
	}
	rebuild := func(m *disktest.Mem) {
		cfg, err := storyConfig(m).withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		b := &builder{cfg: cfg, resolve: Conflict(nil).resolver(), max: 30}
		_ = b.build(t.Context(), records(20, 120), func() ([]byte, error) { return []byte("new"), nil })
		_ = b.drop() // a crash made it fail
	}
	fresh := maps.Collect(records(20, 120))
	before := changesOf(prepare)
	for _, at := range changesOf(func(m *disktest.Mem) { prepare(m); rebuild(m) })[len(before):] {
		m := disktest.NewMem()
		prepare(m)
		m.FailAt(at, disktest.ErrCrashed)
		rebuild(m)
		for how, woken := range wakings(m, at) {
			t.Logf("crash at %d, %s", at, how)
			x := openIndex(t, storyConfig(woken))
			if err := x.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			want := old
			if string(x.State()) == "new" {
				want = fresh
			}
			sameAs(t, x, want, storyUniverse())
			noLeftovers(t, woken, x)
			closeIndex(t, x)
		}
	}
}

// A trap has the n-th operation fail that is done while it is set.
type trap struct {
	n    int
	set  bool
	seen int
}

func (t *trap) hook(disktest.Op) error {
	if !t.set {
		return nil
	}
	if t.seen++; t.seen == t.n {
		return syscall.EIO
	}
	return nil
}

// TestErrorAnywhereLosesNothing has every operation of every flush fail once:
// the flush may fail, but lookups stay right and the next flush works.
func TestErrorAnywhereLosesNothing(t *testing.T) {
	universe := storyUniverse()
	for n, sprung := 1, true; sprung; n++ {
		m, trap := disktest.NewMem(), trap{n: n}
		m.SetHook(trap.hook)
		x := openIndex(t, storyConfig(m))
		model := map[chunks.Digest]Loc{}
		failures := 0
		for step := range uint64(storySteps) {
			storyStep(x, model, step)
			trap.set = true
			if err := x.Flush(t.Context(), []byte("x")); err != nil {
				if failures++; !errors.Is(err, syscall.EIO) {
					t.Fatalf("operation %d failed, flush says %v", n, err)
				}
			}
			trap.set = false
			sameAs(t, x, model, universe)
		}
		flush(t, x, "end")
		if failures > 1 || x.pending.Load() != 0 {
			t.Fatalf("operation %d failed, %d flushes did, %d records are pending", n, failures, x.pending.Load())
		}
		noLeftovers(t, m, x)
		closeIndex(t, x)
		x = openIndex(t, storyConfig(m))
		sameAs(t, x, model, universe)
		noLeftovers(t, m, x)
		closeIndex(t, x)
		sprung = trap.seen >= n
	}
}

func TestFullDiskKeepsRecordsInMemory(t *testing.T) {
	m := disktest.NewMem()
	x := openIndex(t, Config{FS: m, Dir: "/index", DeltaMax: 100})
	defer closeIndex(t, x)
	model := map[chunks.Digest]Loc{}
	m.SetLimit(8 << 10)
	for step := range uint64(3) {
		storyStep(x, model, step)
		if err := x.Flush(t.Context(), nil); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("flush on a full disk gives %v", err)
		}
	}
	if !x.NeedsFlush() {
		t.Error("after flushes that failed none is needed")
	}
	m.SetLimit(0)
	flush(t, x, "")
	if x.NeedsFlush() {
		t.Error("after a flush one is needed")
	}
	sameAs(t, x, model, storyUniverse())
	noLeftovers(t, m, x)
}
