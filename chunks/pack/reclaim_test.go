package pack

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

// A ground is a file system to reclaim on.
type ground struct {
	name string
	fs   disk.FS
	dir  string
	mem  *disktest.Mem // nil: a real one
}

func realGround(t *testing.T, name, dir string) ground {
	return ground{name: name, fs: disk.OS{}, dir: filepath.Join(dir, "store")}
}

func memGround(without disk.Abilities) ground {
	m := disktest.NewMem()
	m.Disable(without)
	return ground{name: "memory", fs: m, dir: "/store", mem: m}
}

// A garden is a store with one sealed pack, number 0, in which some chunks are
// dead, and an open one that must not suffer.
type garden struct {
	ground
	s          *Store
	dead, live []chunktest.Chunk // of pack 0
	others     []chunktest.Chunk
}

func newGarden(t *testing.T, g ground) *garden {
	t.Helper()
	y := &garden{ground: g}
	if _, err := identity.Init(g.fs, g.dir, identity.MinPackBytes); err != nil {
		t.Fatal(err)
	}
	y.open(t)
	for i := range uint64(40) {
		size := []int{200 << 10, 90 << 10, 3000, 100}[i/3%4]
		c := put(t, y.s, size, 500+i)[0]
		if i%12 < 5 || i == 39 {
			y.dead = append(y.dead, c)
		} else {
			y.live = append(y.live, c)
		}
	}
	commit(t, y.s)
	y.crash(t) // seals
	y.others = put(t, y.s, 5000, seeds(900, 5)...)
	commit(t, y.s)
	return y
}

func (y *garden) open(t *testing.T) {
	t.Helper()
	y.s = openStore(t, Config{FS: y.fs, Dir: y.dir, Reserve: 1, Direct: DirectOff, Lanes: 1})
}

// crash starts the store again without a clean stop.
func (y *garden) crash(t *testing.T) {
	t.Helper()
	if y.mem != nil {
		y.s.closed.Store(true)
		y.mem = y.mem.CrashLosing()
		y.fs = y.mem
		y.open(t)
		return
	}
	closeStore(t, y.s)
	if err := y.fs.Remove(filepath.Join(y.dir, identity.CleanFile)); err != nil {
		t.Fatal(err)
	}
	y.open(t)
}

// reclaim condemns the dead and reclaims pack 0.
func (y *garden) reclaim(t *testing.T, m Method) Reclaimed {
	t.Helper()
	condemn(t, y.s, y.dead)
	done, err := y.s.Reclaim(t.Context(), 0, m, carryOut)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// carryOut is a switchover of a store that nobody else uses.
func carryOut(_ []Move, apply func()) { apply() }

// check fails the test unless everything that lives is as it was and the dead
// are gone.
func (y *garden) check(t *testing.T, when string) {
	t.Helper()
	kept := slices.Concat(y.live, y.others)
	wantKnown(t, y.s, kept)
	wantAll(t, y.s, kept)
	wantUnknown(t, y.s, y.dead)
	report := deepScrub(t, y.s, nil)
	if len(report.Damaged) > 0 || report.Chunks != int64(len(kept)) {
		t.Errorf("%s: scrub finds %d chunks, want %d; damage %+v", when, report.Chunks, len(kept), report.Damaged)
	}
	if c := y.s.Condemned(); c.Len() > 0 {
		t.Errorf("%s: still to be reclaimed are %v", when, slices.Collect(c.All()))
	}
}

func size(cs []chunktest.Chunk) (n int64) {
	for _, c := range cs {
		n += int64(len(c.Blob))
	}
	return n
}

// TestReclaim gives the space of dead chunks back by each method, on each
// ground that has it.
func TestReclaim(t *testing.T) {
	grounds := []ground{realGround(t, "this machine", t.TempDir()), memGround(disk.Abilities{})}
	for _, g := range grounds {
		for _, m := range []Method{Punch, Reflink, Copy} {
			t.Run(m.String()+" on "+g.name, func(t *testing.T) {
				g := g
				if g.mem == nil {
					g = realGround(t, g.name, t.TempDir())
					can, err := disk.Probe(g.fs, filepath.Dir(g.dir))
					if err != nil {
						t.Fatal(err)
					}
					if m == Punch && !can.Punch || m == Reflink && !can.Clone {
						t.Skipf("the file system cannot: %+v", can)
					}
				} else {
					g = memGround(disk.Abilities{})
				}
				testReclaim(t, g, m)
			})
		}
	}
}

func testReclaim(t *testing.T, g ground, m Method) {
	y := newGarden(t, g)
	before := allocated(t, y)
	generation := y.s.Generation()
	done := y.reclaim(t, m)
	if int(done.Entries) != len(y.dead) {
		t.Errorf("%d entries are gone, want %d", done.Entries, len(y.dead))
	}
	if copied := done.CopiedBytes; m == Copy && copied != size(y.live) || m != Copy && copied != 0 {
		t.Errorf("%d bytes were copied, of %d that live", copied, size(y.live))
	}
	if m != Punch && y.s.Generation() == generation {
		t.Error("chunks have moved, and the generation is the same")
	}
	y.check(t, "after "+m.String())
	if m == Punch && before-allocated(t, y) != done.FreedBytes {
		t.Errorf("%d bytes came back, %d are reported", before-allocated(t, y), done.FreedBytes)
	}
	if least := size(y.dead) * 8 / 10; done.FreedBytes < least || y.mem != nil && before-allocated(t, y) < least {
		t.Errorf("%d bytes came back, %d by the report, want at least %d", before-allocated(t, y), done.FreedBytes, least)
	}
	if gone := y.s.packs.At(0) == nil; gone != (m != Punch) {
		t.Errorf("the old pack is gone: %v", gone)
	}
	again, err := y.s.Reclaim(t.Context(), 0, m, carryOut)
	if err != nil || again != (Reclaimed{}) {
		t.Errorf("once more: %+v, %v", again, err)
	}
	y.check(t, "once more")
	y.crash(t)
	y.check(t, "after a crash")
	closeStore(t, y.s)
	y.open(t)
	y.check(t, "after a clean stop")
	closeStore(t, y.s)
	y.loseIndex(t)
	y.open(t)
	y.check(t, "without an index")
}

// allocated returns the disk space of all packs.
func allocated(t *testing.T, y *garden) (n int64) {
	t.Helper()
	if y.mem != nil {
		space, err := y.mem.Space("/")
		if err != nil {
			t.Fatal(err)
		}
		return space.TotalBytes - space.FreeBytes
	}
	for _, p := range y.s.packs.All() {
		n += disk.Allocated(y.s.fs, y.s.path(p))
	}
	return n
}

func (y *garden) loseIndex(t *testing.T) {
	t.Helper()
	dir := filepath.Join(y.dir, identity.IndexDir)
	entries, err := y.fs.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := y.fs.Remove(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDrop(t *testing.T) {
	y := newGarden(t, memGround(disk.Abilities{}))
	condemn(t, y.s, y.dead)
	if done, err := y.s.Reclaim(t.Context(), 0, Drop, carryOut); err != nil || done != (Reclaimed{}) {
		t.Errorf("a pack in which chunks live is dropped: %+v, %v", done, err)
	}
	wantAll(t, y.s, y.live)
	condemn(t, y.s, y.live)
	y.dead, y.live = slices.Concat(y.dead, y.live), nil
	name := pathOf(y.s, 0)
	done, err := y.s.Reclaim(t.Context(), 0, Drop, carryOut)
	if err != nil || int(done.Entries) != len(y.dead) || done.CopiedBytes != 0 || done.FreedBytes < size(y.dead) {
		t.Errorf("drop: %+v, %v", done, err)
	}
	if _, err := y.fs.Stat(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
	y.check(t, "after the drop")
	y.crash(t)
	y.check(t, "after a crash")
}

// What a file system cannot do fails and changes nothing; what is not to be
// done is not.
func TestReclaimRefuses(t *testing.T) {
	for _, tt := range []struct {
		name    string
		without disk.Abilities
		pack    uint32
		method  Method
		want    error // nil: nothing happens
	}{
		{"punch where holes are not supported", disk.Abilities{Punch: true}, 0, Punch, errors.ErrUnsupported},
		{"reflink where blocks cannot be shared", disk.Abilities{Clone: true}, 0, Reflink, errors.ErrUnsupported},
		{"keep", disk.Abilities{}, 0, Keep, nil},
		{"a pack that is being written", disk.Abilities{}, 1, Copy, nil},
		{"a pack that never was", disk.Abilities{}, 77, Copy, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			y := newGarden(t, memGround(tt.without))
			condemn(t, y.s, y.dead)
			before := y.s.Packs()
			done, err := y.s.Reclaim(t.Context(), tt.pack, tt.method, carryOut)
			if !errors.Is(err, tt.want) || done != (Reclaimed{}) {
				t.Errorf("reclaimed %+v, %v; want %v", done, err, tt.want)
			}
			if after := y.s.Packs(); !slices.Equal(after, before) {
				t.Errorf("packs are %+v, were %+v", after, before)
			}
			wantAll(t, y.s, slices.Concat(y.live, y.others))
		})
	}
	if can := newGarden(t, memGround(disk.Abilities{Punch: true})).s.Abilities(); can != (Abilities{Clone: true}) {
		t.Errorf("abilities are %+v", can)
	}
}

func TestMeasure(t *testing.T) {
	y := newGarden(t, memGround(disk.Abilities{}))
	set := &Set{}
	for _, c := range y.dead {
		ref, _ := y.s.Lookup(c.Digest)
		set.Add(ref)
	}
	usage, err := y.s.Measure(set)
	if err != nil {
		t.Fatal(err)
	}
	u := usage[0]
	if int(u.Entries) != len(y.dead)+len(y.live) || int(u.Dead) != len(y.dead) {
		t.Errorf("usage is %+v", u)
	}
	within := func(what string, n int64, cs []chunktest.Chunk) {
		if least, most := size(cs)+int64(len(cs))*format.EntrySize, size(cs)+int64(len(cs))*(format.EntrySize+format.Align); n < least || n > most {
			t.Errorf("%s take %d bytes, want %d to %d", what, n, least, most)
		}
	}
	within("dead", u.DeadBytes, y.dead)
	within("live", u.LiveBytes, y.live)
	other, _ := y.s.Lookup(y.others[0].Digest)
	if o := usage[other.Pack]; int(o.Entries) != len(y.others) || o.Dead != 0 || o.DeadBytes != 0 {
		t.Errorf("usage of the other pack is %+v", o)
	}
	y.reclaim(t, Punch)
	usage, err = y.s.Measure(y.s.Condemned())
	if u := usage[0]; err != nil || int(u.Entries) != len(y.live) || u.Dead != 0 {
		t.Errorf("after reclaim usage is %+v, %v", u, err)
	}
}

// TestReflinkOnXFS does on the real thing what TestReclaim does in memory.
func TestReflinkOnXFS(t *testing.T) {
	dir := mountXFS(t)
	g := realGround(t, "XFS", dir)
	if can, err := disk.Probe(g.fs, dir); err != nil || !can.Clone {
		t.Fatalf("XFS cannot share blocks: %+v, %v", can, err)
	}
	for _, m := range []Method{Reflink, Punch, Copy} {
		t.Run(m.String(), func(t *testing.T) {
			testReclaim(t, realGround(t, "XFS", filepath.Join(dir, m.String())), m)
		})
	}
}

// mountXFS makes and mounts a file system in a file, or skips the test.
func mountXFS(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can mount a file system")
	}
	for _, tool := range []string{"mkfs.xfs", "losetup", "mount", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	image, dir := filepath.Join(t.TempDir(), "image"), filepath.Join(t.TempDir(), "xfs")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 400<<20); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range [][]string{{"mkfs.xfs", "-q", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.Command(cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
			t.Skipf("%s: %v: %s", strings.Join(cmd, " "), err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}
