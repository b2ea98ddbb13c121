package content

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
)

// BenchmarkSnapshots lists 10,000 snapshots in 100 groups over the API. The
// time of one list has to stay below 150 ms, but for the first, which reads
// every manifest.
func BenchmarkSnapshots(b *testing.B) {
	w := newWorld(b)
	dir := b.TempDir()
	_, err := identity.Init(disk.OS{}, dir, 0)
	must(b, err)
	for g := range 100 {
		for n := range 100 {
			layOut(b, dir, naming.Snapshot{Group: naming.Group{Type: naming.VM, ID: fmt.Sprint(100 + g)}, Time: 1700000000 + int64(n)*3600})
		}
	}
	set, err := stores.New(stores.Config{Settings: w.Settings, Tasks: w.Tasks, Scheduler: w.Scheduler})
	must(b, err)
	must(b, w.Settings.Update(b.Context(), func(s *settings.State) error {
		s.Datastores = []settings.Datastore{{Name: "large", Path: dir}}
		return nil
	}))
	must(b, set.Open(b.Context()))
	defer set.Close()
	w.Serve(b, Endpoints(Config{Stores: set, Accounts: w.Accounts})...)
	w.Ask("admin@pbs", "GET", "/admin/datastore/large/groups", "", "") // the first list reads every manifest
	for _, list := range []string{"snapshots", "groups", "status?verbose=1"} {
		b.Run(list, func(b *testing.B) {
			for b.Loop() {
				if status, answer := w.Ask("admin@pbs", "GET", "/admin/datastore/large/"+list, "", ""); status != 200 || len(answer) < 100 {
					b.Fatalf("%d %.200s", status, answer)
				}
			}
		})
	}
}

// layOut writes a snapshot as a finished one lies on the disk.
func layOut(t testing.TB, dir string, s naming.Snapshot) {
	m := manifest.New(s)
	for _, name := range []string{"drive-scsi0.img.fidx", "drive-scsi1.img.fidx", "qemu-server.conf.blob"} {
		must(t, m.Add(manifest.File{Name: name, Size: 34359738368, Csum: chunks.Sum([]byte(name)), CryptMode: manifest.None}))
	}
	must(t, m.SetNotes("web01\nnightly"))
	must(t, m.SetVerifyState(manifest.VerifyState{State: "ok", UPID: jobs.UPID{Node: "pbs", Type: "verify", ID: "large", AuthID: "root@pam", Start: 1700000000}.String()}))
	blob, err := m.Blob()
	must(t, err)
	at := filepath.Join(dir, s.Path())
	must(t, os.MkdirAll(at, 0o755))
	must(t, os.WriteFile(filepath.Join(at, "index.json.blob"), blob, 0o644))
	for _, f := range m.Files {
		must(t, os.WriteFile(filepath.Join(at, f.Name), nil, 0o644))
	}
	must(t, os.WriteFile(filepath.Join(filepath.Dir(at), "owner"), []byte("root@pam!pve\n"), 0o644))
}
