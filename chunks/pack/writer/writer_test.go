package writer

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/cespare/xxhash/v2"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
	"github.com/holdfast-mesh/holdfast/chunks/pack/index"
	"github.com/holdfast-mesh/holdfast/chunks/pack/state"
)

// A desk is a writer with all that it needs, in memory.
type desk struct {
	*Writer
	t      *testing.T
	mem    *disktest.Mem
	env    Env
	pack   *state.Pack
	failed []error
	rows   []format.Row // as Append returned them
	put    []chunktest.Chunk
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{t: t, mem: disktest.NewMem()}
	x, err := index.Open(index.Config{FS: d.mem, Dir: "/index"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() })
	d.env = Env{FS: d.mem, Index: x, Log: slog.New(slog.DiscardHandler), Failed: func(err error) { d.failed = append(d.failed, err) }}
	d.pack = &state.Pack{Number: 7, ID: format.NewID(), Epoch: 1}
	f, err := d.mem.OpenFile("/pack", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	h := format.Header{ID: d.pack.ID, Store: format.NewID(), Epoch: 1, Number: 7}
	if _, err := f.WriteAt(h.Encode(), 0); err != nil {
		t.Fatal(err)
	}
	d.Writer = d.env.New(d.pack, f)
	return d
}

// add appends a chunk made from seed.
func (d *desk) add(seed uint64, size int) error {
	c := chunktest.Blob(seed, size)
	r := format.Row{Digest: c.Digest, Content: format.ContentSum(c.Blob), Sum: xxhash.Sum64(c.Blob), Stored: uint32(len(c.Blob))}
	r, err := d.Append(r, 1, c.Blob, nil, false)
	if err == nil {
		d.rows, d.put = append(d.rows, r), append(d.put, c)
	}
	return err
}

func (d *desk) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// read returns the blob of the nth chunk, from memory and from the file.
func (d *desk) read(n int) []byte {
	d.t.Helper()
	b, off := make([]byte, d.rows[n].Stored), d.rows[n].Off+format.EntrySize
	if k := d.ReadAt(b, off); k > 0 {
		if _, err := d.file.ReadAt(b[:k], off); err != nil {
			d.t.Fatal(err)
		}
	}
	return b
}

// known returns how many of the chunks the index knows.
func (d *desk) known() (n int) {
	for _, c := range d.put {
		if _, ok := d.env.Index.Lookup(c.Digest); ok {
			n++
		}
	}
	return n
}

// Chunks of all sizes come back at every moment: from the buffer, while a write
// is under way, half from each, and from the file.
func TestChunksComeBackAtEveryMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, gate := newDesk(t), make(chan struct{}, 1)
		d.mem.SetHook(func(op disktest.Op) error {
			if op.Kind == disktest.Write && op.Name == "/pack" {
				<-gate
			}
			return nil
		})
		all := func(when string) {
			t.Helper()
			for n, c := range d.put {
				if !bytes.Equal(d.read(n), c.Blob) {
					t.Errorf("%s chunk %d of %d bytes comes back different", when, n, len(c.Blob))
				}
			}
		}
		for i, size := range []int{100, 64 << 10, 3<<20 + 5, 4000, 2 << 20} { // a buffer has 4 MiB
			d.must(d.add(uint64(i), size))
		}
		synctest.Wait()
		if d.flight == nil {
			t.Fatal("the test is void: nothing is under way")
		}
		all("while a write is under way")
		close(gate)
		synctest.Wait()
		all("when it has ended")
		if _, err := d.Commit(); err != nil {
			t.Fatal(err)
		}
		all("after a commit")
		d.must(d.add(9, 500))
		all("after one more")
		d.must(d.Seal())
		all("after sealing")
		d.must(d.Close())
	})
}

func TestCommitMakesDurable(t *testing.T) {
	d := newDesk(t)
	d.must(d.mem.SyncDir("/"))
	d.must(d.add(1, 5000))
	d.must(d.add(2, 100<<10))
	if n := d.DurableEntries(); n != 0 {
		t.Errorf("%d entries are durable before a commit", n)
	}
	end, err := d.Commit()
	d.must(err)
	if end%format.Align != 0 || end < d.rows[1].End() || d.DurableEntries() != 2 {
		t.Errorf("durable up to %d, %d entries; the last ends at %d", end, d.DurableEntries(), d.rows[1].End())
	}
	d.must(d.add(3, 5000))
	if again := d.rows[2].Off; again < end {
		t.Errorf("an entry at %d is written into what is durable up to %d", again, end)
	}
	if rows, open := d.Rows(); len(rows) != 2 || !open {
		t.Errorf("%d rows, open %v", len(rows), open)
	}
	f, err := d.mem.CrashLosing().OpenFile("/pack", os.O_RDONLY, 0)
	d.must(err)
	for n, r := range d.rows[:2] {
		b, err := format.ReadRow(f, r)
		d.must(err)
		if !bytes.Equal(b[format.EntrySize:], d.put[n].Blob) {
			t.Errorf("chunk %d did not outlive a power cut", n)
		}
	}
}

// A pack that fails keeps what is durable and forgets the rest, tells it once,
// and takes nothing more.
func TestFailureForgetsWhatIsNotDurable(t *testing.T) {
	for _, tt := range []struct {
		name string
		kind disktest.Kind
		err  error
		want error
	}{
		{"a full disk", disktest.Write, syscall.ENOSPC, chunks.ErrNoSpace},
		{"a bad disk", disktest.Write, syscall.EIO, syscall.EIO},
		{"a disk that cannot sync", disktest.Sync, syscall.EIO, syscall.EIO},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDesk(t)
			d.must(d.add(1, 5000))
			end, err := d.Commit()
			d.must(err)
			d.must(d.add(2, 5000))
			d.must(d.add(3, 5000))
			d.mem.SetHook(func(op disktest.Op) error {
				if op.Kind == tt.kind && op.Name == "/pack" {
					return tt.err
				}
				return nil
			})
			durable, err := d.Commit()
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), "/pack") || durable != end {
				t.Errorf("commit: durable up to %d, %v; want %d, %v", durable, err, end, tt.want)
			}
			d.mem.SetHook(nil)
			if d.known() != 1 || d.DurableEntries() != 1 || d.pack.Size.Load() != end || len(d.failed) != 1 {
				t.Errorf("the index knows %d, durable are %d, size %d, told %v", d.known(), d.DurableEntries(), d.pack.Size.Load(), d.failed)
			}
			if err := d.add(4, 100); !errors.Is(err, tt.want) {
				t.Errorf("one more: %v", err)
			}
			if _, err := d.Commit(); !errors.Is(err, tt.want) {
				t.Errorf("another commit: %v", err)
			}
			if _, err := d.Fits(1, 1<<20); !errors.Is(err, tt.want) || len(d.failed) != 1 {
				t.Errorf("it says that more fits: %v, told %v", err, d.failed)
			}
			if !bytes.Equal(d.read(0), d.put[0].Blob) {
				t.Error("what is durable comes back different")
			}
			d.must(d.Close())
		})
	}
}

// If a footer cannot be written nothing is lost, and sealing can be repeated.
func TestFooterThatCannotBeWritten(t *testing.T) {
	d := newDesk(t)
	d.must(d.add(1, 5000))
	_, err := d.Commit()
	d.must(err)
	d.mem.SetHook(func(op disktest.Op) error {
		if op.Kind == disktest.Write {
			return syscall.ENOSPC
		}
		return nil
	})
	if err := d.Seal(); !errors.Is(err, chunks.ErrNoSpace) || d.pack.Sealed.Load() || d.known() != 1 || len(d.failed) > 0 {
		t.Errorf("seal: %v; sealed %v, the index knows %d, told %v", err, d.pack.Sealed.Load(), d.known(), d.failed)
	}
	d.mem.SetHook(nil)
	d.must(d.Seal())
	size := d.pack.Size.Load()
	rows, _, err := format.ReadFooter(d.file, d.pack.ID, size)
	if err != nil || len(rows) != 1 || !d.pack.Sealed.Load() {
		t.Errorf("%d rows, sealed %v, %v", len(rows), d.pack.Sealed.Load(), err)
	}
	d.must(d.Close())
	if err := d.add(2, 100); !errors.Is(err, ErrClosed) {
		t.Errorf("append to a closed pack: %v", err)
	}
}

func TestContinueWritesBehindWhatIsThere(t *testing.T) {
	d := newDesk(t)
	d.must(d.add(1, 5000))
	end, err := d.Commit()
	d.must(err)
	rows, _ := d.Rows()
	d.must(d.Close())
	f, err := d.mem.OpenFile("/pack", os.O_RDWR, 0)
	d.must(err)
	d.Writer = d.env.Continue(d.pack, f, rows)
	d.must(d.add(2, 5000))
	if d.rows[1].Off < end || d.rows[1].Ordinal != 1 {
		t.Errorf("the next entry is number %d at %d, behind %d", d.rows[1].Ordinal, d.rows[1].Off, end)
	}
	d.must(d.Seal())
	for n, c := range d.put {
		if !bytes.Equal(d.read(n), c.Blob) {
			t.Errorf("chunk %d comes back different", n)
		}
	}
	d.must(d.Close())
}

func TestFits(t *testing.T) {
	d := newDesk(t)
	for _, tt := range []struct {
		name string
		n    int
		max  int64
		want bool
	}{
		{"an empty pack takes what is larger than a pack", 1 << 20, 1 << 10, true},
		{"a chunk that ends within the pack", 100, 64 << 10, true},
		{"a chunk that ends behind it", 64 << 10, 64 << 10, false},
	} {
		if got, err := d.Fits(tt.n, tt.max); got != tt.want || err != nil {
			t.Errorf("%s: %v, %v", tt.name, got, err)
		}
		if len(d.rows) == 0 {
			d.must(d.add(1, 1000))
		}
	}
}

// One caller at a time has a claim; the others wait, learn that it is over, or
// leave when their own work is called off.
func TestClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d := NewClaims(), chunks.Sum([]byte("one"))
		if won, err := c.Take(t.Context(), d); !won || err != nil {
			t.Fatal(won, err)
		}
		if won, err := c.Take(t.Context(), chunks.Sum([]byte("two"))); !won || err != nil {
			t.Error("another chunk is claimed as well", won, err)
		}
		results := make(chan bool, 3)
		for range 3 {
			go func() {
				won, err := c.Take(t.Context(), d)
				results <- won || err != nil
			}()
		}
		synctest.Wait()
		if len(results) > 0 {
			t.Error("somebody did not wait")
		}
		c.Release(d)
		for range 3 {
			if <-results {
				t.Error("who waited was given the claim, or an error")
			}
		}
		if won, err := c.Take(t.Context(), d); !won || err != nil {
			t.Error("a claim that was let go cannot be had", won, err)
		}
	})
}

// The disk is asked for its space once for many chunks, and never filled into
// the reserve.
func TestRoom(t *testing.T) {
	m := disktest.NewMem()
	m.SetLimit(64 << 20)
	asked := 0
	m.SetHook(func(op disktest.Op) error {
		if op.Kind == disktest.Space {
			asked++
		}
		return nil
	})
	r := NewRoom(m, "/", 32<<20)
	for range 16 {
		if err := r.Take(1 << 20); err != nil {
			t.Fatal(err)
		}
	}
	if asked > 2 {
		t.Errorf("asked %d times for 16 MiB", asked)
	}
	if err := r.Take(33 << 20); !errors.Is(err, chunks.ErrNoSpace) || !strings.Contains(err.Error(), "of which 32 are kept") {
		t.Errorf("into the reserve: %v", err)
	}
	m.SetLimit(1 << 30)
	r.Look()
	if err := r.Take(33 << 20); err != nil {
		t.Errorf("after space came back: %v", err)
	}
}

// What is durable is not read from memory any more: a verification is to see
// what is on the disk.
func TestWhatIsDurableIsReadFromTheDisk(t *testing.T) {
	d := newDesk(t)
	for round := range uint64(3) {
		d.must(d.add(round, 5000))
		_, err := d.Commit()
		d.must(err)
		for n := range d.rows {
			b := make([]byte, d.rows[n].Stored)
			if fromFile := d.ReadAt(b, d.rows[n].Off+format.EntrySize); fromFile != len(b) {
				t.Errorf("after commit %d chunk %d has %d of %d bytes from the disk", round, n, fromFile, len(b))
			}
		}
	}
}
