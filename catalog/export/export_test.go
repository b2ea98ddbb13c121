package export

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
)

const outDir = "/out"

// exports exports the datastore to a file system.
func (s *site) exports(out disk.FS, opt ExportOptions) (Report, error) {
	s.t.Helper()
	d := s.open()
	defer d.Close()
	opt.FS = out
	return ExportPBS(context.Background(), d, outDir, opt)
}

func (s *site) exported(out disk.FS, opt ExportOptions) Report {
	s.t.Helper()
	r, err := s.exports(out, opt)
	s.must(err)
	return r
}

// fan returns a file system with an empty PBS datastore in it. Its 65,536
// directories are made once, and copied.
func fan(t *testing.T) *disktest.Mem {
	t.Helper()
	out, err := fanned()
	if err != nil {
		t.Fatal(err)
	}
	return out.CrashKeeping()
}

var fanned = sync.OnceValues(func() (*disktest.Mem, error) {
	out := disktest.NewMem()
	if err := out.Mkdir(outDir, 0o755); err != nil {
		return nil, err
	}
	lock, err := openLayout(context.Background(), out, outDir)
	if err != nil {
		return nil, err
	}
	return out, errors.Join(lock.Close(), removeTemp(out, path.Join(outDir, tempDir)), out.SyncDir("/"))
})

// memoryDir returns a directory in memory where the machine has one: on a disk
// it takes a minute to make 65,536 directories and remove them again, and
// slows down whatever else is tested.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "holdfast-test-*")
	if err != nil {
		t.Skip("no file system in memory: ", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func dumpPBS(t *testing.T, fsys disk.FS, dir string) map[string]string {
	t.Helper()
	p, err := OpenPBS(fsys, dir)
	if err != nil {
		t.Fatal(err)
	}
	return dump(t, stock{p.Tree, p.Chunks()})
}

func TestExportWritesWhatWasImported(t *testing.T) {
	s := full(t)
	s.imports(ImportOptions{})
	out := fan(t)
	s.want(s.exported(out, ExportOptions{}), "groups 6 copied 8 present 0 unfinished 0 vanished 0 refused 0; chunks 19 known 5 bad 0")
	equal(t, dumpPBS(t, out, outDir), dump(t, s.pbsStock()))

	out.SetHook(func(op disktest.Op) error {
		if op.Kind == disktest.Create && !strings.HasSuffix(op.Name, lockName) || op.Kind == disktest.Write {
			t.Errorf("the second export writes again: %v", op)
		}
		return nil
	})
	s.want(s.exported(out, ExportOptions{}), "groups 6 copied 0 present 8 unfinished 0 vanished 0 refused 0; chunks 0 known 0 bad 0")
}

func TestExportedStoreImportsAsItWas(t *testing.T) {
	s := full(t)
	s.imports(ImportOptions{})
	out := fan(t)
	s.exported(out, ExportOptions{})
	back := newSite(t)
	d := back.open()
	defer d.Close()
	_, err := ImportPBS(context.Background(), d, outDir, ImportOptions{FS: out})
	s.must(err)
	equal(t, dump(t, stock{d.Tree, d.Chunks()}), dump(t, s.pbsStock()))
}

func TestExportToADisk(t *testing.T) {
	s := full(t)
	s.imports(ImportOptions{})
	dir := filepath.Join(memoryDir(t), "new")
	d := s.open()
	defer d.Close()
	if _, err := ExportPBS(t.Context(), d, dir, ExportOptions{}); err != nil {
		t.Fatal(err)
	}
	equal(t, dumpPBS(t, disk.OS{}, dir), dump(t, s.pbsStock()))
	first, last := filepath.Join(dir, ".chunks", "0000"), filepath.Join(dir, ".chunks", "ffff")
	file := filepath.Join(dir, ".chunks", chunkPath(chunktest.Blob(1, slot).Digest))
	for name, mode := range map[string]os.FileMode{
		filepath.Join(dir, ".chunks"): os.ModeDir | 0o750, first: os.ModeDir | 0o750, last: os.ModeDir | 0o750, file: 0o640,
	} {
		info, err := os.Stat(name)
		if err != nil || info.Mode()&^0o022 != mode&^0o022 { // whatever the umask
			t.Errorf("%s has mode %v, %v, want %v", name, info.Mode(), err, mode)
		}
	}
	fans, err := os.ReadDir(filepath.Join(dir, ".chunks"))
	if err != nil || len(fans) != 65536 {
		t.Errorf("there are %d directories of chunks, %v", len(fans), err)
	}
	if _, err := os.Stat(filepath.Join(dir, tempDir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("files in the making were left: %v", err)
	}
}

func TestExportGivesFilesToTheOwnerOfTheTarget(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 34, 35); err != nil {
		t.Skip("this file system has no owners: ", err)
	}
	m, err := newMachine(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := disk.MkdirAll(m, path.Join(dir, "a/b"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := disk.WriteFileAtomic(m, path.Join(dir, "a/b/c"), []byte("x"), 0o640); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "a/b", "a/b/c"} {
		info, err := os.Lstat(path.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if uid, gid, _ := ownerOf(info); uid != 34 || gid != 35 {
			t.Errorf("%s belongs to %d:%d, want 34:35", name, uid, gid)
		}
	}
}

func TestExportSelects(t *testing.T) {
	s := full(t)
	s.imports(ImportOptions{})
	out := fan(t)
	r := s.exported(out, ExportOptions{Selection: Selection{From: "customers/acme", To: "restored"}})
	s.want(r, "groups 2 copied 3 present 0 unfinished 0 vanished 0 refused 0; chunks 5 known 2 bad 0")
	if _, ok := dumpPBS(t, out, outDir)["restored:vm/100/2026-01-02T00:00:00Z"]; !ok {
		t.Error("the snapshot is not below the namespace")
	}
}

func TestExportRefusesOtherDirectories(t *testing.T) {
	for _, c := range []struct {
		name, file, want string
	}{
		{"somebody's files", "/out/thesis.doc", "it has thesis.doc"},
		{"a datastore of ours", "/out/packs/x", "it has packs"},
		{"a datastore of ours with chunks", "/out/packs/x /out/.chunks/x", "neither empty nor a PBS datastore"},
		{"a disk that was just formatted", "/out/lost+found/x", ""},
		{"what a killed export left", "/out/.lock /out/.holdfast-export/7", ""},
		{"nothing", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := disktest.NewMem()
			if err := out.Mkdir(outDir, 0o755); err != nil {
				t.Fatal(err)
			}
			for file := range strings.FieldsSeq(c.file) {
				putFile(t, out, file, nil)
			}
			err := mayBecome(out, outDir)
			if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, ErrNotPBS) || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("the directory is refused with %v, want %q", err, c.want)
			}
		})
	}
}

func TestTwoExportsDoNotMeet(t *testing.T) {
	s := newSite(t)
	out := fan(t)
	lock, err := out.Lock(path.Join(outDir, lockName))
	s.must(err)
	defer lock.Close()
	if _, err := s.exports(out, ExportOptions{}); !errors.Is(err, disk.ErrLocked) {
		t.Errorf("a second export fails with %v, want %v", err, disk.ErrLocked)
	}
}

func TestExportOverAPBSDatastore(t *testing.T) {
	s := newSite(t)
	s.backup("", "vm/1/2026-01-01T00:00:00Z", 1, 2, 3)
	s.backup("", "vm/2/2026-01-01T00:00:00Z", 1)
	s.backup("", "vm/3/2026-01-01T00:00:00Z", 4)
	s.imports(ImportOptions{})
	pbs, out := newSite(t), fan(t)
	pbs.backup("", "vm/2/2026-01-01T00:00:00Z", 9) // another one of that name
	for _, name := range pbs.pbs.Names() {
		if _, err := pbs.pbs.ReadDir(name); err != nil && strings.HasPrefix(name, pbsDir) {
			putFile(t, out, outDir+strings.TrimPrefix(name, pbsDir), pbs.pbs.Bytes(name))
		}
	}
	putFile(t, out, "/out/vm/3/owner", []byte("other@pbs\n"))
	empty, cut := chunktest.Blob(1, slot), chunktest.Blob(2, slot)
	putFile(t, out, path.Join(outDir, ".chunks", chunkPath(empty.Digest)), nil)
	putFile(t, out, path.Join(outDir, ".chunks", chunkPath(cut.Digest)), cut.Blob[:100])

	r := s.exported(out, ExportOptions{})
	s.want(r, "groups 1 copied 1 present 0 unfinished 0 vanished 0 refused 2; chunks 2 known 1 bad 0")
	if !errors.Is(r.Refusals[0].Err, errDiffers) || !errors.Is(r.Refusals[1].Err, catalog.ErrOwner) {
		t.Errorf("refused are %q", reasons(r))
	}
	r = s.exported(out, ExportOptions{Compare: true})
	s.want(r, "groups 1 copied 0 present 1 unfinished 0 vanished 0 refused 2; chunks 0 known 0 bad 0")
	if err := out.Remove("/out/vm/1/2026-01-01T00:00:00Z/" + manifestName); err != nil {
		t.Fatal(err)
	}
	r = s.exported(out, ExportOptions{Compare: true})
	s.want(r, "groups 1 copied 1 present 0 unfinished 0 vanished 0 refused 2; chunks 1 known 2 bad 0")
	p, err := OpenPBS(out, outDir)
	s.must(err)
	if b, err := p.Chunks().Get(t.Context(), cut.Digest, nil); err != nil || string(b) != string(cut.Blob) {
		t.Errorf("the chunk that was cut is %d bytes, %v", len(b), err)
	}
}

// A chunk counted as written once its batch was asked for. Another snapshot
// with the same chunks, after one that could not be read, was then exported
// without them.
func TestExportForgetsNoChunkOfARefusedSnapshot(t *testing.T) {
	s := newSite(t)
	s.backup("", "vm/1/2026-01-01T00:00:00Z", 1, 2, 3)
	s.backup("", "vm/2/2026-01-01T00:00:00Z", 2, 3)
	s.imports(ImportOptions{})
	s.damage(chunktest.Blob(1, slot).Blob)
	d := s.open()
	defer d.Close()
	out := fan(t)
	r, err := ExportPBS(t.Context(), d, outDir, ExportOptions{FS: out, Workers: 1})
	s.must(err)
	if r.Refused != 1 || r.Snapshots != 1 {
		t.Errorf("%s, refused %q", figures(r), reasons(r))
	}
	p, err := OpenPBS(out, outDir)
	s.must(err)
	missing, err := p.Chunks().Missing(t.Context(), []chunks.Digest{chunktest.Blob(2, slot).Digest, chunktest.Blob(3, slot).Digest})
	if err != nil || len(missing) != 0 {
		t.Errorf("the snapshot lacks %v, %v", missing, err)
	}
}

func TestExportStopsAndGoesOn(t *testing.T) {
	s := full(t)
	s.imports(ImportOptions{})
	want := dump(t, s.pbsStock())
	out := fan(t)
	rnd := rand.New(rand.NewPCG(3, 4))
	d := s.open()
	defer d.Close()
	stops := 0
	for try := 0; ; try++ {
		if try > 200 {
			t.Fatal("the export does not get on")
		}
		ctx, cancel := context.WithCancel(context.Background())
		left := int64(rnd.IntN(40) + try*8)
		var n atomic.Int64
		out.SetHook(func(op disktest.Op) error {
			if op.Kind.Changes() && n.Add(1) > left {
				cancel()
			}
			return nil
		})
		_, err := ExportPBS(ctx, d, outDir, ExportOptions{FS: out})
		cancel()
		if err == nil {
			break
		}
		if stops++; !errors.Is(err, context.Canceled) {
			t.Fatalf("stopped with %v", err)
		}
	}
	if stops < 5 {
		t.Errorf("stopped %d times only", stops)
	}
	out.SetHook(nil)
	equal(t, dumpPBS(t, out, outDir), want)
}

// Whatever a power cut leaves of an export, a snapshot with a manifest is whole.
func TestExportSurvivesPowerCuts(t *testing.T) {
	s := full(t)
	s.imports(ImportOptions{})
	want := dump(t, s.pbsStock())
	whole := fan(t)
	before := whole.Ops()
	s.exported(whole, ExportOptions{Workers: 2})
	total := whole.Ops() - before
	const cuts = 5
	for seed := range uint64(cuts) {
		out := fan(t)
		out.FailAt(out.Ops()+1+int(seed)*total/cuts, disktest.ErrCrashed)
		if _, err := s.exports(out, ExportOptions{Workers: 2}); err == nil {
			t.Fatalf("seed %d: the export was done before the power was cut", seed)
		}
		out = out.Crash(seed)
		p, err := OpenPBS(out, outDir)
		s.must(err)
		list, err := p.List(t.Context(), catalog.ListOptions{Depth: -1})
		s.must(err)
		for _, i := range list {
			if i.Finished() {
				all := map[string]string{}
				dumpSnapshot(t, stock{p.Tree, p.Chunks()}, i.Namespace, i.Snapshot(), all)
				for what, content := range all {
					if want[what] != content && !strings.Contains(content, "protected") {
						t.Errorf("seed %d: %s is %.100q, want %.100q", seed, what, content, want[what])
					}
				}
			}
		}
		s.exported(out, ExportOptions{})
		equal(t, dumpPBS(t, out, outDir), want)
	}
}
