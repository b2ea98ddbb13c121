package facts

import (
	"fmt"
	"maps"
	"reflect"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/record"
)

// A copy is known by its manifest, though its namespace is another; a guest of
// the same number at another site is another guest.
func TestGroupsByManifest(t *testing.T) {
	s := open(t)
	there := Group{Namespace: "home", Type: "vm", ID: "101"}
	say(t, s, 2, began, Added{Snapshot: Snapshot{"copies", there, 100}, Manifest: [32]byte{1}}) // its key sorts anywhere
	say(t, s, 0, began.Add(-time.Hour), Added{Snapshot: snap(100), Manifest: [32]byte{1}}, Added{Snapshot: snap(200), Manifest: [32]byte{2}})
	say(t, s, 1, began, Added{Snapshot: snap(100), Manifest: [32]byte{9}})
	m := load(t, s)
	groups := m.Groups()
	if len(groups) != 2 {
		t.Fatalf("%+v", groups)
	}
	for _, g := range groups {
		if len(g.Places) == 1 {
			if g.Home.Origin != origin(1) {
				t.Errorf("%+v", g)
			}
			continue
		}
		if g.Home.Origin != origin(0) || g.Newest != 200 || g.Count != 2 || g.Copies() != 1 {
			t.Errorf("%+v", g)
		}
		for _, p := range g.Places {
			if behind := map[bool]int{true: 1}[p.Origin == origin(2)]; p.Behind != behind || p.Origin == origin(2) && p.Group != there {
				t.Errorf("%+v", p)
			}
		}
	}
	if c := m.Copies([32]byte{1}); len(c) != 2 {
		t.Errorf("%+v", c)
	}
	if held := m.Snapshots(origin(0), "main"); len(held) != 1 || len(held[0].Copies) != 2 || m.Snapshots(origin(0), "other") != nil {
		t.Errorf("%+v", held)
	}
	for _, n := range m.Nodes() {
		if late := n.Origin == origin(2); (n.Behind == 1) != late || (n.Lag == 100*time.Second) != late {
			t.Errorf("%+v", n)
		}
	}
}

// A replication that stands still is late also when the retention of the source has
// removed all that the copy has: it once became a group of its own, and was late no more.
func TestLateBehindRetention(t *testing.T) {
	s := open(t)
	say(t, s, 0, began, Added{Snapshot: snap(100), Manifest: [32]byte{1}}, Added{Snapshot: snap(200), Manifest: [32]byte{2}})
	say(t, s, 1, began, Added{Snapshot: snap(100), Manifest: [32]byte{1}, From: "0"})
	say(t, s, 2, began, Added{Snapshot: snap(100), Manifest: [32]byte{9}}) // of another guest
	say(t, s, 0, began.Add(time.Hour), Pruned{Snapshot: snap(100), Why: "keep-last"})
	late := func(when string) {
		t.Helper()
		groups := load(t, s).Groups()
		if len(groups) != 2 {
			t.Fatalf("%s: %+v", when, groups)
		}
		for _, g := range groups {
			for _, p := range g.Places {
				if behind := map[bool]int{true: 1}[p.Origin == origin(1)]; p.Behind != behind || g.Home.Origin == origin(1) {
					t.Errorf("%s: %+v", when, g)
				}
			}
		}
	}
	late("pruned")
	base, err := load(t, s).Base(origin(0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Rebase(nodeKey(0), began.Add(2*time.Hour), base); err != nil {
		t.Fatal(err)
	}
	late("after a base")
}

// A copy that was pulled is no home, though its clock says that it came first.
func TestHomeIsNotWherePulled(t *testing.T) {
	s := open(t)
	say(t, s, 0, began, Added{Snapshot: snap(100), Manifest: [32]byte{1}})
	say(t, s, 1, began.Add(-time.Hour), Added{Snapshot: snap(100), Manifest: [32]byte{1}, From: "0"})
	if g := load(t, s).Groups(); len(g) != 1 || g[0].Home.Origin != origin(0) || g[0].Copies() != 2 {
		t.Errorf("%+v", g)
	}
}

// In a ring of pulls each node has an old copy of its own snapshots that came back by
// another, and was shown as late for itself. One that it made within itself is late.
func TestRingIsNotLateForItself(t *testing.T) {
	s := open(t)
	id := func(i int) string { return record.Key(origin(i)).NodeID() }
	back := func(store string) Snapshot {
		return Snapshot{store, Group{Namespace: "n1/n0", Type: guest.Type, ID: guest.ID}, 100}
	}
	say(t, s, 0, began, Added{Snapshot: snap(100), Manifest: [32]byte{1}}, Added{Snapshot: snap(200), Manifest: [32]byte{2}},
		Added{Snapshot: back("main"), Manifest: [32]byte{1}, From: id(1)}, Added{Snapshot: back("disk"), Manifest: [32]byte{1}, From: id(0)})
	say(t, s, 1, began, Added{Snapshot: snap(100), Manifest: [32]byte{1}, From: id(0)}, Added{Snapshot: snap(200), Manifest: [32]byte{2}, From: id(0)},
		Added{Snapshot: back("main"), Manifest: [32]byte{1}, From: id(0)})
	m := load(t, s)
	groups := m.Groups()
	if len(groups) != 1 || len(groups[0].Places) != 5 {
		t.Fatalf("%+v", groups)
	}
	late := map[string]int{}
	for _, p := range groups[0].Places {
		late[fmt.Sprintf("%t %s %s", p.Origin == origin(0), p.Store, p.Group.Namespace)] += p.Behind
	}
	want := map[string]int{"true main ": 0, "true main n1/n0": 0, "true disk n1/n0": 1, "false main ": 0, "false main n1/n0": 1}
	if !maps.Equal(late, want) {
		t.Errorf("%v, want %v", late, want)
	}
}

func TestStores(t *testing.T) {
	s := open(t)
	say(t, s, 0, began, Kept{Store: "main", Size: 100, Free: 50}, Kept{Store: "cold", Size: 10, Free: 1}, Added{Snapshot: snap(1)}, Added{Snapshot: snap(2)})
	m := load(t, s)
	want := []StoreView{{Kept{"cold", 10, 1, 0, ""}, began.Local(), 0}, {Kept{"main", 100, 50, 0, ""}, began.Local(), 2}}
	if got := m.Stores(origin(0)); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	base, err := m.Base(origin(0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Rebase(nodeKey(0), began, base); err != nil {
		t.Fatal(err)
	}
	if got := load(t, s).Stores(origin(0)); !reflect.DeepEqual(got, want) {
		t.Errorf("after a base: %+v", got)
	}
	say(t, s, 0, began, Dropped{"main"})
	if m.Load(s); len(m.Stores(origin(0))) != 1 || m.Nodes()[0].Snapshots != 0 || len(m.Groups()) != 0 {
		t.Errorf("%+v", m.Nodes())
	}
}

func TestNews(t *testing.T) {
	s := open(t)
	m := NewModel()
	var told []News
	cancel := m.Subscribe(func(n News) {
		if len(m.Snapshots(n.Origin, n.Store)) == 0 {
			t.Error("it is told before the model knows")
		}
		told = append(told, n)
	})
	follow := func(want ...News) {
		t.Helper()
		if err := m.Load(s); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(told, want) {
			t.Errorf("%+v, want %+v", told, want)
		}
		told = nil
	}
	say(t, s, 0, began, Added{Snapshot: snap(1)}, Added{Snapshot: snap(2)})
	follow(News{origin(0), "main"})
	say(t, s, 0, began, Verified{snap(1), true}, Kept{Store: "main"})
	follow()
	say(t, s, 0, began, Pruned{snap(1), ""}, Added{Snapshot: Snapshot{"cold", guest, 3}})
	follow(News{origin(0), "cold"})
	cancel()
	say(t, s, 0, began, Added{Snapshot: snap(4)})
	follow()
}
