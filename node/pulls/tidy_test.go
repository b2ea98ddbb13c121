package pulls_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// What a job has left goes with the job, and nothing of others does.
func TestRemovedJobLeavesNothing(t *testing.T) {
	t.Parallel()
	m := newMesh()
	dc := m.node(t, "dc")
	for _, id := range []string{"goes", "stays"} {
		dc.set(settings.SyncJob{ID: id, Store: "main", Remote: "home", RemoteStore: "main", RemoveVanished: yes()})
	}
	dir := dc.main().Dir
	for _, id := range []string{"goes", "stays"} {
		for _, name := range []string{"/partial/" + id + "/0.part", "/vanished/" + id + ".json"} {
			at := dir + name[:strings.LastIndex(name, "/")]
			if err := disk.MkdirAll(dc.FS, at, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := disk.WriteFileAtomic(dc.FS, dir+name, []byte("{}"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	err := dc.Settings.Update(t.Context(), func(s *settings.State) error {
		s.SyncJobs = slices.DeleteFunc(s.SyncJobs, func(j settings.SyncJob) bool { return j.ID == "goes" })
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := dc.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := func() (names []string) {
		for _, d := range []string{"/partial", "/vanished"} {
			entries, err := dc.FS.ReadDir(dir + d)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				names = append(names, e.Name())
			}
		}
		return names
	}
	until(t, "only the other job has left something", func() bool { return slices.Equal(left(), []string{"stays", "stays.json"}) })
}

// What a node got from clients before it had others is signed without waiting for
// who pulls it, and once; a node that is alone signs nothing.
func TestOldBackupsAreSigned(t *testing.T) {
	t.Parallel()
	for members, want := range map[int]int{1: 0, 5: 2} {
		m := newMesh()
		m.members = m.members[:members]
		m.keyed()
		l := newLedger()
		home := m.node(t, "home", m.signer("home", l))
		home.encrypted(l, m.id("home"), "vm/1/1", bytesOf(9<<20))
		home.encrypted(l, m.id("home"), "vm/1/2", bytesOf(5<<20))
		home.encrypted(l, "id-of-another", "vm/2/2", bytesOf(5<<20))
		home.back(1000, "vm/3/1")
		for range 2 {
			home.SignOld(t.Context())
			if entries, _ := home.FS.ReadDir(home.main().Dir + "/sums"); len(entries) != want { // none is not there
				t.Errorf("of %d members: %d indexes are signed, want %d, which are encrypted and came from clients", members, len(entries), want)
			}
		}
	}
}
