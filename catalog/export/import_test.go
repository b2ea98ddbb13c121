package export

import (
	"context"
	"errors"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
)

// full is a site whose PBS has everything that a PBS can have.
func full(t *testing.T) *site {
	s := newSite(t)
	s.golden()
	s.backup("customers/acme", "vm/100/2026-01-01T00:00:00Z", 1, 2, 3)
	s.backup("customers/acme", "vm/100/2026-01-02T00:00:00Z", 1, 2, 4, 4)
	s.backup("customers/acme", "ct/7/2026-01-01T00:00:00Z", 5)
	s.backup("", "host/web/2026-01-01T00:00:00Z", 6, 3)
	s.put("ns/empty/x", nil)
	s.put("vm/901/notes", []byte("a group's notes\nin two lines"))
	s.put("vm/901/2023-11-14T22:13:20Z/.protected", nil)
	return s
}

func TestImportTakesEverything(t *testing.T) {
	s := full(t)
	s.want(s.imports(ImportOptions{}), "groups 6 copied 8 present 0 unfinished 0 vanished 0 refused 0; chunks 19 known 5 bad 0")
	d := s.open()
	defer d.Close()
	equal(t, dump(t, stock{d.Tree, d.Chunks()}), dump(t, s.pbsStock()))

	snap := naming.Snapshot{Group: naming.Group{Type: "vm", ID: "901"}, Time: 1700000000}
	m, err := d.Manifest("", snap)
	s.must(err)
	if err := m.Check(goldenKey(t)); err != nil {
		t.Errorf("the signature of an imported manifest: %v", err)
	}
}

func TestImportMovesNamespaces(t *testing.T) {
	s := full(t)
	vms, err := naming.ParseFilter("type:vm")
	s.must(err)
	r := s.imports(ImportOptions{Selection: Selection{From: "customers", To: "old/pbs", Filters: catalog.Filters{vms}}})
	s.want(r, "groups 1 copied 2 present 0 unfinished 0 vanished 0 refused 0; chunks 4 known 2 bad 0")
	tree := catalog.Tree{FS: s.own, Dir: ownDir}
	list, err := tree.List(context.Background(), catalog.ListOptions{Depth: -1})
	s.must(err)
	if len(list) != 2 || list[0].Namespace != "old/pbs/acme" || list[0].Owner != "backup@pbs!pve" {
		t.Errorf("the datastore lists %+v", list)
	}
}

func TestImportAgainReadsNoChunk(t *testing.T) {
	s := full(t)
	s.imports(ImportOptions{})
	s.put("host/web/2026-01-01T00:00:00Z/client.log.blob", chunktest.Encode([]byte("late"), chunks.EncodeOptions{}).Blob)
	s.put("host/web/2026-01-01T00:00:00Z/.protected", nil)
	s.backup("", "host/web/2025-01-01T00:00:00Z", 6, 3) // older than what is there
	s.pbs.SetHook(func(op disktest.Op) error {
		if op.Kind == disktest.Read && strings.Contains(op.Name, ".chunks") {
			t.Errorf("%v", op)
		}
		return nil
	})
	s.want(s.imports(ImportOptions{}), "groups 6 copied 1 present 8 unfinished 0 vanished 0 refused 0; chunks 0 known 2 bad 0")
	d := s.open()
	defer d.Close()
	s.pbs.SetHook(nil)
	equal(t, dump(t, stock{d.Tree, d.Chunks()}), dump(t, s.pbsStock()))
}

func TestImportLeavesTheSourceAlone(t *testing.T) {
	s := full(t)
	s.pbs.SetHook(func(op disktest.Op) error {
		if op.Kind.Changes() {
			t.Errorf("the source was written to: %v", op)
		}
		return nil
	})
	s.imports(ImportOptions{})
	p, err := OpenPBS(s.pbs, pbsDir)
	s.must(err)
	if _, err := p.List(context.Background(), catalog.ListOptions{Depth: -1}); err != nil {
		t.Errorf("list a PBS datastore: %v", err)
	}
}

func TestImportRefusesWhatIsDamaged(t *testing.T) {
	const good, hit = "vm/1/2026-01-01T00:00:00Z", "vm/1/2026-01-02T00:00:00Z"
	of := func(n int) string {
		d := chunktest.Blob(uint64(n), slot).Digest
		return path.Join(pbsDir, ".chunks", chunkPath(d))
	}
	for _, c := range []struct {
		name   string
		damage func(s *site)
		want   string // in the reason; "" if the snapshot is not refused
	}{
		{"a chunk is missing", func(s *site) { s.must(s.pbs.Remove(of(3))) }, "chunk is missing"},
		{"a chunk was set aside", func(s *site) { s.must(s.pbs.Rename(of(3), of(3)+".0.bad")) }, "PBS found it damaged and renamed it to " + path.Base(of(3)) + ".0.bad"},
		{"a chunk has a wrong bit", func(s *site) { s.pbs.FlipBit(of(3), 100) }, "chunk is damaged"},
		{"a chunk was cut", func(s *site) { s.pbs.TruncateFile(of(3), 50) }, "chunk is damaged"},
		{"a chunk is empty", func(s *site) { s.pbs.TruncateFile(of(3), 0) }, "its file has 0 bytes"},
		{"a chunk is another one", func(s *site) { s.must(s.pbs.Rename(of(1), of(3))); s.backup("", good, 1) }, "verify chunk"},
		{"a chunk is longer than any", func(s *site) { s.pbs.TruncateFile(of(3), chunks.MaxBlob+1) }, "a chunk has 12 to"},
		{"an index has a wrong bit", func(s *site) { s.pbs.FlipBit(path.Join(pbsDir, hit, "disk.img.fidx"), 4100) }, "the manifest says"},
		{"an index was cut", func(s *site) { s.pbs.TruncateFile(path.Join(pbsDir, hit, "disk.img.fidx"), 4100) }, "index is damaged"},
		{"an index is missing", func(s *site) { s.must(s.pbs.Remove(path.Join(pbsDir, hit, "disk.img.fidx"))) }, "read disk.img.fidx"},
		{"a blob has a wrong bit", func(s *site) { s.pbs.FlipBit(path.Join(pbsDir, hit, "vm.conf.blob"), 14) }, "read vm.conf.blob"},
		{"a blob is another one", func(s *site) {
			s.put(path.Join(hit, "vm.conf.blob"), chunktest.Encode([]byte("other"), chunks.EncodeOptions{}).Blob)
		}, "vm.conf.blob has 17 bytes"},
		{"a log has a wrong bit", func(s *site) { s.put(path.Join(hit, "client.log.blob"), []byte("no blob at all")) }, "client.log.blob"},
		{"a manifest has a wrong bit", func(s *site) { s.pbs.FlipBit(path.Join(pbsDir, hit, manifestName), 20) }, "read index.json.blob"},
		{"a manifest is another snapshot's", func(s *site) {
			files, _ := made(s.t, good, 1)
			s.put(path.Join(hit, manifestName), files[manifestName])
		}, "it is that of"},
		{"the disk fails below a chunk", func(s *site) {
			s.pbs.SetHook(func(op disktest.Op) error {
				if op.Kind == disktest.Read && op.Name == of(3) {
					return errors.New("the disk clicks")
				}
				return nil
			})
		}, "the disk clicks"},
		{"files nobody needs are damaged", func(s *site) {
			s.put(path.Join(hit, "disk.img.tmp_fidx"), []byte("half"))
			s.put(path.Join(hit, "other.fidx"), []byte("half"))
			s.put(".chunks/0000/"+strings.Repeat("0", 64)+".3.bad", nil)
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			s.backup("", good, 1, 2)
			s.backup("", hit, 2, 3)
			s.backup("", "vm/2/2026-01-01T00:00:00Z", 1, 4)
			c.damage(s)
			r := s.imports(ImportOptions{})
			if c.want == "" {
				s.want(r, "groups 2 copied 3 present 0 unfinished 0 vanished 0 refused 0; chunks 4 known 2 bad 1")
				return
			}
			if r.Refused != 1 || r.Snapshots != 2 || len(r.Refusals) != 1 || r.Refusals[0].What != hit || !strings.Contains(r.Refusals[0].Reason, c.want) {
				t.Errorf("%s; refused are %q, want %s because of %q", figures(r), reasons(r), hit, c.want)
			}
			list, err := (catalog.Tree{FS: s.own, Dir: ownDir}).List(context.Background(), catalog.ListOptions{})
			if err != nil || len(list) != 2 {
				t.Errorf("the datastore lists %v, %v, want what was not damaged", list, err)
			}
		})
	}
}

func TestImportLeavesOutWhatIsNoBackup(t *testing.T) {
	s := newSite(t)
	s.backup("", "vm/1/2026-01-01T00:00:00Z", 1)
	s.put("vm/1/2026-01-02T00:00:00Z/disk.img.tmp_fidx", []byte("a backup runs"))
	s.put("vm/1/yesterday/index.json.blob", nil)
	s.put("vm/b a d/2026-01-02T00:00:00Z/index.json.blob", nil)
	s.put("ns/b a d/vm/1/owner", nil)
	s.put("ns/.hidden/vm/1/owner", nil)
	s.backup("", "vm/3/2026-01-01T00:00:00Z", 1)
	s.put("vm/3/owner", []byte("nobody knows\n"))
	r := s.imports(ImportOptions{})
	s.want(r, "groups 1 copied 1 present 0 unfinished 1 vanished 0 refused 4; chunks 1 known 0 bad 0")
	for i, want := range []string{"/pbs/ns/b a d: ", "/pbs/vm/1/yesterday: ", "/pbs/vm/b a d: ", "vm/3: read owner"} {
		if got := reasons(r)[i]; !strings.HasPrefix(got, want) {
			t.Errorf("refused is %q, want %q", got, want)
		}
	}
	r = s.imports(ImportOptions{Owner: "root@pam"})
	s.want(r, "groups 2 copied 1 present 1 unfinished 1 vanished 0 refused 3; chunks 0 known 1 bad 0")
}

func TestImportDoesNotMixSnapshots(t *testing.T) {
	s := newSite(t)
	s.backup("", "vm/1/2026-01-01T00:00:00Z", 1)
	s.imports(ImportOptions{})
	s.backup("", "vm/1/2026-01-01T00:00:00Z", 2)
	s.backup("", "vm/1/2026-01-02T00:00:00Z", 2)
	r := s.imports(ImportOptions{})
	s.want(r, "groups 1 copied 1 present 0 unfinished 0 vanished 0 refused 1; chunks 1 known 0 bad 0")
	if !errors.Is(r.Refusals[0].Err, errDiffers) {
		t.Errorf("refused because of %v", r.Refusals[0].Err)
	}
	s.put("vm/1/owner", []byte("other@pbs\n"))
	s.backup("", "vm/1/2026-01-03T00:00:00Z", 2)
	s.put("vm/1/owner", []byte("other@pbs\n"))
	r = s.imports(ImportOptions{})
	if r.Refused != 2 || !errors.Is(r.Refusals[1].Err, catalog.ErrOwner) {
		t.Errorf("%s, %v; want the group refused for its owner", figures(r), r.Refusals)
	}
}

func TestImportSeesThatASnapshotWasRemoved(t *testing.T) {
	s := newSite(t)
	s.backup("", "vm/1/2026-01-01T00:00:00Z", 1)
	s.backup("", "vm/1/2026-01-02T00:00:00Z", 2)
	source := disktest.NewFaulty(s.pbs)
	var once sync.Once
	source.SetHook(func(op disktest.Op) error {
		if strings.Contains(op.Name, ".chunks/") { // a prune and a garbage collection at the worst moment
			once.Do(func() {
				removeAll(t, s.pbs, "/pbs/vm/1/2026-01-01T00:00:00Z")
				s.must(s.pbs.Remove(op.Name))
			})
		}
		return nil
	})
	s.want(s.imports(ImportOptions{FS: source}), "groups 1 copied 1 present 0 unfinished 0 vanished 1 refused 0; chunks 1 known 0 bad 0")
}

func removeAll(t *testing.T, fsys disk.FS, dir string) {
	t.Helper()
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := fsys.Remove(path.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	if err := fsys.Remove(dir); err != nil {
		t.Fatal(err)
	}
}

func TestImportStopsAndGoesOn(t *testing.T) {
	s := full(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	stops := 0
	for try := 0; ; try++ {
		if try > 200 {
			t.Fatal("the import does not get on")
		}
		ctx, cancel := context.WithCancel(context.Background())
		left := int64(rnd.IntN(60))
		left += int64(try * 4) // so that it ends
		var n atomic.Int64
		s.pbs.SetHook(func(disktest.Op) error {
			if n.Add(1) > left {
				cancel()
			}
			return nil
		})
		d := s.open()
		_, err := ImportPBS(ctx, d, pbsDir, ImportOptions{FS: s.pbs})
		s.must(d.Close())
		cancel()
		if err == nil {
			break
		}
		if stops++; !errors.Is(err, context.Canceled) {
			t.Fatalf("stopped with %v", err)
		}
	}
	s.pbs.SetHook(nil)
	if stops < 5 {
		t.Errorf("stopped %d times only", stops)
	}
	d := s.open()
	defer d.Close()
	equal(t, dump(t, stock{d.Tree, d.Chunks()}), dump(t, s.pbsStock()))
}

func TestImportSurvivesPowerCuts(t *testing.T) {
	ref := full(t)
	want := dump(t, ref.pbsStock())
	before := ref.own.Ops()
	ref.imports(ImportOptions{})
	total := ref.own.Ops() - before
	const cuts = 16
	for seed := range uint64(cuts) {
		s := full(t)
		s.own.FailAt(s.own.Ops()+1+int(seed)*total/cuts, disktest.ErrCrashed)
		d, err := catalog.Open(context.Background(), catalog.Config{Dir: ownDir, FS: s.own})
		if err == nil {
			var r Report
			r, err = ImportPBS(context.Background(), d, pbsDir, ImportOptions{FS: s.pbs})
			if err == nil && r.Refused > 0 {
				t.Errorf("seed %d: a dead disk is said to be the fault of %d snapshots", seed, r.Refused)
			}
			_ = d.Close() // of a dead disk
		}
		done := err == nil // so all must be there, though the power was cut
		if !s.own.Crashed() {
			t.Errorf("seed %d: the power was not cut", seed)
		}
		s.own = s.own.Crash(seed)
		if !done {
			s.imports(ImportOptions{})
		}
		d = s.open()
		equal(t, dump(t, stock{d.Tree, d.Chunks()}), want)
		s.must(d.Close())
	}
}
