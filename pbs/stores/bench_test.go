package stores_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
)

// BenchmarkOpen opens and closes a datastore of 1,000,000 chunks and 10,000
// snapshots. The node has two seconds for its start.
func BenchmarkOpen(b *testing.B) {
	w := storestest.New(b)
	dir := b.TempDir()
	fill(b, dir)
	set, err := stores.New(stores.Config{Settings: w.Settings, Tasks: w.Tasks, Scheduler: w.Scheduler})
	must(b, err)
	must(b, w.Settings.Update(b.Context(), func(s *settings.State) error {
		s.Datastores = []settings.Datastore{{Name: "large", Path: dir}}
		return nil
	}))
	for _, how := range []string{"after a stop", "after a kill"} {
		b.Run(how, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				if how == "after a kill" {
					must(b, os.Remove(filepath.Join(dir, identity.CleanFile)))
				}
				b.StartTimer()
				must(b, set.Open(b.Context()))
				b.StopTimer()
				if _, err := set.Get("large"); err != nil {
					b.Fatal(err)
				}
				must(b, set.Close())
				b.StartTimer()
			}
		})
	}
}

func fill(b *testing.B, dir string) {
	_, err := identity.Init(disk.OS{}, dir, 0)
	must(b, err)
	d, err := catalog.Open(b.Context(), catalog.Config{Dir: dir})
	must(b, err)
	defer d.Close()
	for n := range 1_000_000 {
		plain := binary.LittleEndian.AppendUint64(nil, uint64(n))
		blob, err := chunks.Encode(nil, plain, chunks.EncodeOptions{})
		must(b, err)
		_, err = d.Chunks().Put(b.Context(), chunks.Sum(plain), blob)
		must(b, err)
	}
	must(b, d.Chunks().Commit(b.Context()))
	for n := range 10_000 {
		s := naming.Snapshot{Group: naming.Group{Type: naming.VM, ID: fmt.Sprint(100 + n%100)}, Time: 1700000000 + int64(n)}
		blob, err := manifest.New(s).Blob()
		must(b, err)
		at := filepath.Join(dir, s.Path())
		must(b, os.MkdirAll(at, 0o755))
		must(b, os.WriteFile(filepath.Join(at, "index.json.blob"), blob, 0o644))
	}
}
