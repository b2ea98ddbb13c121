package partial

import (
	"bytes"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
)

const size = 1 << 20

// blob is a blob by its number.
func blob(n byte) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = n ^ byte(i>>8)
	}
	return b
}

func open(t *testing.T, mem *disktest.Mem) *Store {
	t.Helper()
	s, err := Open(mem, "/store/partial/job")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func memory(t *testing.T) *disktest.Mem {
	t.Helper()
	mem := disktest.NewMem()
	if err := mem.Mkdir("/store", 0o700); err != nil {
		t.Fatal(err)
	}
	return mem
}

// arrive has n bytes of a chunk arrive, some at a time.
func arrive(t *testing.T, s *Store, n byte, until int) *Part {
	t.Helper()
	p := s.Begin(chunks.Digest{n}, size)
	if p == nil {
		t.Fatalf("chunk %d is not kept", n)
	}
	b := blob(n)
	for at := 0; at < until; {
		at = min(at+30_000, until)
		p.Filled(b, at)
	}
	return p
}

// Whoever is killed, the next one has what came before, but for one step.
func TestWhatArrivedIsThere(t *testing.T) {
	mem := memory(t)
	s := open(t, mem)
	arrive(t, s, 1, 700_000)
	arrive(t, s, 2, size).Leave(true)
	arrive(t, s, 3, 1000)
	again := open(t, mem) // what was before was killed: nothing was left, put or closed
	for n, least := range map[byte]int{1: 700_000 - step, 2: size} {
		p := again.Take(chunks.Digest{n})
		if p == nil || p.Have() < least || p.Size() != size {
			t.Fatalf("of chunk %d there is %+v, want at least %d bytes", n, p, least)
		}
		b := make([]byte, size)
		p.Load(b)
		if !bytes.Equal(b[:p.Have()], blob(n)[:p.Have()]) {
			t.Errorf("the beginning of chunk %d is another one", n)
		}
		if again.Take(chunks.Digest{n}) != nil {
			t.Errorf("two streams go on with chunk %d", n)
		}
	}
	if p := again.Take(chunks.Digest{3}); p != nil {
		t.Errorf("of a chunk of which almost nothing came there is %+v", p)
	}
}

// A file is used for one chunk after another; what a longer one has left in it
// is no part of the next.
func TestFilesAreUsedAgain(t *testing.T) {
	mem := memory(t)
	s := open(t, mem)
	for n := range byte(20) {
		arrive(t, s, n, size).Leave(true)
		s.Put(chunks.Digest{n})
		s.Committing()()
	}
	arrive(t, s, 200, 2*step)
	again := open(t, mem)
	if n := len(again.slots); n != 1 {
		t.Errorf("20 chunks, one after the other, took %d files", n)
	}
	if p := again.Take(chunks.Digest{19}); p != nil {
		t.Errorf("a chunk is there that is durable elsewhere: %+v", p)
	}
	p := again.Take(chunks.Digest{200})
	if p == nil || p.Have() > 2*step {
		t.Fatalf("of the last there is %+v", p)
	}
	b := make([]byte, size)
	p.Load(b)
	if !bytes.Equal(b[:p.Have()], blob(200)[:p.Have()]) {
		t.Error("its beginning is another one")
	}
}

// A chunk that was put stays until it is durable, or until much more was put.
func TestWhatWasPutStaysUntilItIsDurable(t *testing.T) {
	mem := memory(t)
	s := open(t, mem)
	put := func(n byte) {
		arrive(t, s, n, size).Leave(true)
		s.Put(chunks.Digest{n})
	}
	put(1)
	durable := s.Committing()
	put(2)
	durable()
	again := open(t, mem)
	if again.Take(chunks.Digest{2}) == nil {
		t.Error("a chunk is gone that was put after the commit began")
	}
	for n := range byte(maxPut/size + 5) {
		put(100 + n)
	}
	if s.put > maxPut || len(s.slots) > maxPut/size+2 {
		t.Errorf("%d bytes in %d files are kept of what was put", s.put, len(s.slots))
	}
}

// What is of no use is not kept, whoever has it just then.
func TestDropped(t *testing.T) {
	s := open(t, memory(t))
	p := arrive(t, s, 1, 3*step)
	s.Drop(chunks.Digest{1})
	p.Filled(blob(1), size)
	p.Leave(true)
	arrive(t, s, 2, size).Leave(true)
	s.Drop(chunks.Digest{2})
	if len(s.parts) > 0 || s.Take(chunks.Digest{1}) != nil || s.Take(chunks.Digest{2}) != nil {
		t.Errorf("%d are kept", len(s.parts))
	}
}

// What the datastore turns out to have takes no file any more.
func TestKnownOnesAreDropped(t *testing.T) {
	mem := memory(t)
	s := open(t, mem)
	var all []chunks.Digest
	for n := range byte(4) {
		arrive(t, s, n, size)
		all = append(all, chunks.Digest{n})
	}
	again := open(t, mem)
	again.Missing(all, all[:1])
	if len(again.parts) != 1 || again.Take(all[0]) == nil {
		t.Errorf("%d are kept, want the one that is missing", len(again.parts))
	}
	if arrive(t, again, 9, size); len(again.slots) != 4 {
		t.Errorf("the next one takes a file of its own, the %dth", len(again.slots))
	}
}

// When the job has all it wants, nothing is left on the disk; when the disk is
// full, a pull goes on without.
func TestClearedAndFull(t *testing.T) {
	mem := memory(t)
	s := open(t, mem)
	arrive(t, s, 1, size).Leave(true)
	if err := s.Clear(); err != nil {
		t.Fatal(err)
	}
	if list, err := mem.ReadDir("/store/partial"); err != nil || len(list) > 0 {
		t.Errorf("%v is left (%v)", list, err)
	}
	if s.Begin(chunks.Digest{9}, size) != nil {
		t.Error("something is kept after the end")
	}
	var none *Store
	none.Begin(chunks.Digest{1}, size).Leave(true)
	none.Put(chunks.Digest{1})
	none.Drop(chunks.Digest{1})
	none.Committing()()
}

func FuzzHead(f *testing.F) {
	mem := disktest.NewMem()
	_ = mem.Mkdir("/store", 0o700)
	s, _ := Open(mem, "/store/partial/job")
	s.Begin(chunks.Digest{1}, size).Filled(blob(1), size)
	f.Add(mem.Bytes("/store/partial/job/00.part")[:headSize])
	f.Fuzz(func(t *testing.T, b []byte) {
		_, size, have, ok := parseHead(b)
		if ok && (size < least || size > chunks.MaxBlob || have < 0 || have > size) {
			t.Errorf("%d bytes of %d", have, size)
		}
	})
}
