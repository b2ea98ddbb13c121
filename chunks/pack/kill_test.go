package pack

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

// The variables by which a test tells a process that it starts, which is the
// test program again, what it is to do.
const (
	childRole   = "HOLDFAST_TEST_CHILD" // "work" or "hold"
	childDir    = "HOLDFAST_TEST_DIR"
	childSeed   = "HOLDFAST_TEST_SEED"
	childDirect = "HOLDFAST_TEST_DIRECT"
)

// TestChild is no test of its own: it is what the processes do that other
// tests start.
func TestChild(t *testing.T) {
	role := os.Getenv(childRole)
	if role == "" {
		t.Skip("only for processes that other tests start")
	}
	seed, err := strconv.ParseUint(os.Getenv(childSeed), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	direct, err := strconv.Atoi(os.Getenv(childDirect))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Config{Dir: os.Getenv(childDir), Direct: Direct(direct), Reserve: 1})
	if err != nil {
		fmt.Println("failed", err)
		return
	}
	fmt.Println("ready")
	if role == "hold" {
		_, _ = io.Copy(io.Discard, os.Stdin) // until the parent ends us
		return
	}
	s.SetPackBytes(1 << 20)
	w := &worker{s: s, base: seed << 32}
	var g sync.WaitGroup
	for i := range uint64(3) {
		g.Go(func() { w.store(rand.New(rand.NewPCG(seed, i))) })
	}
	g.Go(func() { w.collect(rand.New(rand.NewPCG(seed, 99))) })
	g.Wait()
}

// A worker is what a child does until it is killed: it stores chunks and says
// so after they are durable, and collects some of them again, after it has
// said that they may go.
type worker struct {
	s    *Store
	base uint64

	mu sync.Mutex

	next    uint64
	garbage []uint64
}

// killedChunk is a chunk that parent and child can both make from a number.
func killedChunk(n uint64) chunktest.Chunk {
	return chunktest.Blob(n, 16+int(rand.New(rand.NewPCG(n, 1)).ExpFloat64()*12e3)%(200<<10)) // never two the same
}

// say prints one line, whole or not at all.
func (w *worker) say(word string, numbers ...uint64) {
	line := []byte(word)
	for _, n := range numbers {
		line = strconv.AppendUint(append(line, ' '), n, 10)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, _ = os.Stdout.Write(append(line, " .\n"...))
}

func (w *worker) store(rng *rand.Rand) {
	for {
		var batch []uint64
		for range 1 + rng.IntN(8) {
			w.mu.Lock()
			w.next++
			n := w.base + w.next
			w.mu.Unlock()
			c := killedChunk(n)
			if _, err := w.s.Put(context.Background(), c.Digest, c.Blob); err != nil {
				w.say("failed put")
				return
			}
			batch = append(batch, n)
		}
		if err := w.s.Commit(context.Background()); err != nil {
			w.say("failed commit")
			return
		}
		w.say("stored", batch...)
		w.mu.Lock()
		w.garbage = append(w.garbage, batch[:len(batch)*2/3]...)
		w.mu.Unlock()
	}
}

func (w *worker) collect(rng *rand.Rand) {
	methods := []Method{Punch, Copy, Punch, Drop}
	for {
		time.Sleep(time.Duration(rng.IntN(10)) * time.Millisecond)
		w.mu.Lock()
		garbage := w.garbage
		w.garbage = nil
		w.mu.Unlock()
		if len(garbage) == 0 {
			continue
		}
		w.say("condemned", garbage...)
		if _, _, err := w.s.BeginEpoch(context.Background()); err != nil {
			w.say("failed epoch")
			return
		}
		set := &Set{}
		for _, n := range garbage {
			if ref, ok := w.s.Lookup(killedChunk(n).Digest); ok {
				set.Add(ref)
			}
		}
		w.s.Condemn(set)
		if err := w.s.SyncState(context.Background()); err != nil {
			w.say("failed sync")
			return
		}
		for _, p := range w.s.Packs() {
			if m := methods[rng.IntN(len(methods))]; rng.IntN(3) == 0 {
				// Drop refuses where something lives, Punch where it cannot.
				_, _ = w.s.Reclaim(context.Background(), p.Number, m, func(_ []Move, apply func()) { apply() })
			}
		}
	}
}

// child starts the test program again.
func child(t *testing.T, role, dir string, seed uint64, direct Direct) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$", "-test.count=1")
	cmd.Env = append(os.Environ(),
		childRole+"="+role, childDir+"="+dir, childSeed+"="+strconv.FormatUint(seed, 10), childDirect+"="+strconv.Itoa(int(direct)))
	return cmd
}

// kills returns how many processes to kill: 50, or what make soak asks for.
func kills(t *testing.T) int {
	t.Helper()
	if text := os.Getenv("HOLDFAST_SOAK_KILLS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("HOLDFAST_SOAK_KILLS: %v", err)
		}
		return n
	}
	if os.Getenv("HOLDFAST_SOAK") != "" {
		return 1000
	}
	return 50
}

// TestKilledProcess kills a process at work with SIGKILL at random moments,
// again and again on the same store, and promises: what the process said was
// stored is there and right, nothing is damaged, and nobody has to help.
func TestKilledProcess(t *testing.T) {
	const perStore = 10
	seed := uint64(time.Now().UnixNano()) >> 8
	if text := os.Getenv("HOLDFAST_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	var k *killing
	n, recovered := 0, 0
	stored, condemned := 0, 0
	for ; n < kills(t); n++ {
		if n%perStore == 0 {
			k = newKilling(t)
		}
		k.kill(t, seed<<16+uint64(n), rng)
		if rng.IntN(4) > 0 || n%perStore == perStore-1 { // else a killed process follows a killed one
			h := k.check(t)
			recovered += h.RecoveredPacks
		}
		if n%perStore == perStore-1 {
			stored, condemned = stored+k.stored, condemned+k.condemned
		}
		if t.Failed() {
			t.Fatalf("after %d kills; HOLDFAST_SEED=%d, moments differ", n+1, seed)
		}
	}
	t.Logf("%d kills, %d acknowledged chunks, 0 lost; %d of them condemned again, %d torn packs recovered", n, stored, condemned, recovered)
}

// A killing is one store and what the processes said that were killed on it.
type killing struct {
	dir               string
	must              map[uint64]bool // stored and not condemned
	stored, condemned int
	checked           bool // opened by us: before, a first start may have been killed
}

func newKilling(t *testing.T) *killing {
	t.Helper()
	k := &killing{dir: filepath.Join(t.TempDir(), "store"), must: map[uint64]bool{}}
	if _, err := identity.Init(disk.OS{}, k.dir, identity.MinPackBytes); err != nil {
		t.Fatal(err)
	}
	return k
}

// kill starts a process and kills it: mostly at work, at times while it opens
// the store.
func (k *killing) kill(t *testing.T, seed uint64, rng *rand.Rand) {
	t.Helper()
	cmd := child(t, "work", k.dir, seed%1e9, Direct(1+rng.IntN(2)))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if rng.IntN(5) > 0 {
		k.listen(t, lines, true)
		time.Sleep(time.Duration(rng.IntN(120_000)) * time.Microsecond)
	} else {
		time.Sleep(time.Duration(rng.IntN(60)) * time.Millisecond)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	k.listen(t, lines, false)
	_ = cmd.Wait() // it was killed
}

// listen takes in what the process says, up to "ready" or to the end.
func (k *killing) listen(t *testing.T, lines *bufio.Reader, upToReady bool) {
	t.Helper()
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return // a line that was cut short says nothing
		}
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == "ready" && upToReady:
			return
		case words[0] == "failed":
			t.Errorf("the process says: %s", line)
			if upToReady {
				return
			}
		case words[0] == "stored" || words[0] == "condemned":
			k.take(t, words[0] == "stored", words[1:len(words)-1])
		}
	}
}

func (k *killing) take(t *testing.T, stored bool, numbers []string) {
	t.Helper()
	for _, text := range numbers {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if stored {
			k.must[n] = true
			k.stored++
		} else {
			delete(k.must, n)
			k.condemned++
		}
	}
}

// check opens the store and looks for everything that was promised.
func (k *killing) check(t *testing.T) Health {
	t.Helper()
	s, err := Open(t.Context(), Config{Dir: k.dir, Direct: DirectOff, Reserve: 1})
	if err != nil {
		t.Fatalf("the store does not open: %v", err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	s.SetPackBytes(1 << 20)
	h := s.Health()
	if h.LostEntries > 0 || len(h.DamagedPacks)+len(h.MissingPacks)+len(h.ForeignFiles) > 0 || h.JournalSetAside != "" || h.Rebuilt && len(k.must) > 0 && k.checked {
		t.Errorf("health is %+v", h)
	}
	k.checked = true
	var buf []byte
	for n := range k.must {
		c := killedChunk(n)
		b, err := s.Get(t.Context(), c.Digest, buf)
		if err != nil || !bytes.Equal(b, c.Blob) {
			t.Errorf("LOST chunk %d, which was acknowledged: %v; health %+v", n, err, h)
		}
		if !s.Known(c.Digest) {
			t.Errorf("chunk %d, which was acknowledged, is denied; health %+v", n, h)
		}
		buf = b[:0]
	}
	report, err := s.Scrub(t.Context(), ScrubOptions{})
	if err != nil {
		t.Error(err)
	}
	for _, d := range report.Damaged {
		t.Errorf("scrub finds chunk %s of %s at %d: %s", d.Digest.Short(), d.Pack, d.Offset, d.Reason)
	}
	return h
}

// A second process is refused while the first lives, and let in at once when
// it was killed.
func TestTwoProcesses(t *testing.T) {
	k := newKilling(t)
	cmd := child(t, "hold", k.dir, 1, DirectOff)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	k.listen(t, bufio.NewReader(out), true)
	before := tree(t, filepath.Join(k.dir, identity.PacksDir))
	began := time.Now()
	_, err = Open(t.Context(), Config{Dir: k.dir})
	var hinted interface{ Hint() string }
	if !errors.Is(err, identity.ErrLocked) || !errors.As(err, &hinted) || hinted.Hint() == "" {
		t.Errorf("a second process gets %v", err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("it had to wait %v for that", took)
	}
	if after := tree(t, filepath.Join(k.dir, identity.PacksDir)); after != before {
		t.Errorf("the second process changed the store from\n%s to\n%s", before, after)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	s := openStore(t, Config{Dir: k.dir, Direct: DirectOff})
	wantAll(t, s, put(t, s, 1000, 1))
}

// The clock was ahead by a century when a store was filled, and then set back.
// Nothing that the store does depends on it.
func TestClockSetBack(t *testing.T) {
	future, past := time.Now().AddDate(100, 0, 0), time.Unix(1, 0)
	v := newVictim(t)
	for _, st := range stops {
		for name, when := range map[string]time.Time{"ahead": future, "behind": past} {
			t.Run(st.name+", files "+name, func(t *testing.T) {
				files := maps.Clone(v.files)
				st.leave(files)
				for _, p := range v.packs[:2] { // the third is of now
					files[p.file] = created(t, files[p.file], p, when)
				}
				dir := writeTree(t, files)
				err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
					return errors.Join(err, os.Chtimes(name, when, when))
				})
				if err != nil {
					t.Fatal(err)
				}
				s := openStore(t, Config{FS: hasty{}, Dir: dir, Direct: DirectOff, Lanes: 1})
				wantWhole(t, s, v)
				hurt, _ := inPack(victimPack{rows: v.packs[0].rows[:1]}, v.chunks)
				ref, _ := s.Lookup(hurt[0].Digest)
				if err := s.Quarantine(ref); err != nil {
					t.Fatal(err)
				}
				more := append(put(t, s, 1000, 7777), hurt...)
				if _, err := s.Put(t.Context(), hurt[0].Digest, hurt[0].Blob); err != nil {
					t.Fatal(err)
				}
				commit(t, s)
				closeStore(t, s)
				files = readTree(t, dir)
				withoutIndex(files)
				again := openFiles(t, files)
				wantKnown(t, again, slices.Concat(v.chunks, more))
				wantAll(t, again, slices.Concat(v.chunks, more))
				if now, _ := again.Lookup(hurt[0].Digest); now == ref {
					t.Error("the quarantined entry counts again")
				}
			})
		}
	}
}

// created changes when a pack says that it was begun.
func created(t *testing.T, b []byte, p victimPack, when time.Time) []byte {
	t.Helper()
	name := filepath.Join(t.TempDir(), "pack")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := disk.OS{}.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h, err := format.ReadHeader(f, format.ID(b[8:24]), 1)
	if err != nil {
		t.Fatal(err)
	}
	h.Created = when
	return append(h.Encode(), b[format.HeaderSize:]...)
}
