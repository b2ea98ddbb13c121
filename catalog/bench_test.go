package catalog

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// growTree writes the manifests of snapshots as a node that backs up hundreds
// of guests has them, and nothing else.
func growTree(tb testing.TB, dir string, groups, each int) {
	tb.Helper()
	var work errgroup.Group
	work.SetLimit(4)
	for g := range groups {
		work.Go(func() error {
			name := fmt.Sprintf("vm/%d", 100+g)
			if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, name, ownerName), []byte("root@pam!pve\n"), 0o644); err != nil {
				return err
			}
			for day := range each {
				if err := growSnapshot(dir, snap(name, day)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	must(tb, work.Wait())
}

func growSnapshot(dir string, s Snapshot) error {
	m := manifest.New(s)
	for _, name := range []string{"drive-scsi0.img.fidx", "drive-scsi1.img.fidx", "qemu-server.conf.blob"} {
		if err := m.Add(manifest.File{Name: name, Size: 32 << 30, Csum: sha256.Sum256([]byte(name + s.String()))}); err != nil {
			return err
		}
	}
	if err := m.SetNotes("guest of " + s.ID); err != nil {
		return err
	}
	if err := m.SetVerifyState(manifest.VerifyState{State: "ok", UPID: "UPID:pbs:000003E8:00000FA0:00000001:65537A00:verify:main:root@pam:"}); err != nil {
		return err
	}
	b, err := m.Blob()
	if err != nil {
		return err
	}
	at := filepath.Join(dir, filepath.FromSlash(s.Path()))
	if err := os.Mkdir(at, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(at, manifestName), b, 0o644)
}

// BenchmarkList lists a hundred thousand snapshots and prints them as JSON, as
// the command does. The target is 2 s cold and 0.3 s warm.
func BenchmarkList(b *testing.B) {
	const groups, each = 1000, 100
	dir := b.TempDir()
	growTree(b, dir, groups, each)
	tree := Tree{FS: disk.OS{}, Dir: dir}
	list := func(b *testing.B) {
		all, err := tree.List(b.Context(), ListOptions{Depth: -1})
		if err != nil || len(all) != groups*each {
			b.Fatal(len(all), err)
		}
		var out []byte
		n := 0
		for i := range all {
			out = all[i].AppendJSON(out[:0])
			n += len(out)
		}
		b.ReportMetric(float64(n)/1e6, "MB-JSON")
	}
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			_ = os.Remove(path.Join(dir, listingFile)) // may not be there
			b.StartTimer()
			list(b)
		}
	})
	b.Run("warm", func(b *testing.B) {
		list(b)
		for b.Loop() {
			list(b)
		}
	})
}
