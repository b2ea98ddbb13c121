package facts

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/feed"
)

var (
	began = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	guest = Group{Type: "vm", ID: "101"}
)

func nodeKey(i int) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i + 1)}, 32))
}

func origin(i int) feed.Origin { return feed.OriginOf(nodeKey(i)) }

func open(t testing.TB) *feed.Store {
	t.Helper()
	s, err := feed.Open(filepath.Join(t.TempDir(), "feeds.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func say(t testing.TB, s *feed.Store, node int, at time.Time, facts ...Fact) {
	t.Helper()
	for _, f := range facts {
		st, err := Encode(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Append(nodeKey(node), at, st); err != nil {
			t.Fatal(err)
		}
	}
}

func load(t testing.TB, s *feed.Store) *Model {
	t.Helper()
	m := NewModel()
	if err := m.Load(s); err != nil {
		t.Fatal(err)
	}
	return m
}

func snap(at int64) Snapshot { return Snapshot{"main", guest, at} }

func TestWhoHoldsWhat(t *testing.T) {
	s := open(t)
	say(t, s, 0, began, Added{Snapshot: snap(100), Size: 7, Manifest: [32]byte{1}}, Added{Snapshot: snap(200), Size: 8}, Added{Snapshot: snap(300)})
	say(t, s, 1, began, Added{Snapshot: snap(100), Manifest: [32]byte{1}, From: "alpha"}, Added{Snapshot: snap(200), From: "alpha"})
	m := load(t, s)
	say(t, s, 0, began.Add(time.Hour), Verified{snap(100), true}, Verified{snap(200), false}, Pruned{snap(300), "retention"},
		RunStarted{"UPID:1", "nightly", "verify"}, RunEnded{Run: "UPID:1", Job: "nightly", Of: "verify", OK: true, Bytes: 15}, RunStarted{"UPID:2", "", "backup"})
	say(t, s, 1, began.Add(time.Hour), Quarantined{snap(100), "files are missing"}, Added{Snapshot: Snapshot{"cold", guest, 50}})
	if err := m.Load(s); err != nil {
		t.Fatal(err)
	}

	h := m.Holders(guest, 100)
	if len(h) != 2 || h[0].Manifest != h[1].Manifest {
		t.Fatalf("%+v", h)
	}
	for _, x := range h {
		if x.Usable() != (x.Origin == origin(0)) {
			t.Errorf("%+v", x)
		}
		if x.Origin == origin(0) && x.Verified != began.Add(time.Hour).Unix() || x.Origin == origin(1) && (x.From != "alpha" || x.Why == "") {
			t.Errorf("%+v", x)
		}
	}
	if len(m.Holders(guest, 300)) != 0 {
		t.Error("what was pruned is held")
	}
	main := func() []GroupView {
		return slices.SortedFunc(slices.Values(m.Groups()), func(a, b GroupView) int { return cmp.Compare(b.Home.Store, a.Home.Store) })
	}
	groups := main()
	if len(groups) != 2 || groups[0].Count != 2 || groups[0].Newest != 200 || groups[0].Home.Origin != origin(0) || groups[0].Copies() != 2 ||
		len(groups[1].Places) != 1 || groups[1].Home.Store != "cold" {
		t.Fatalf("%+v", groups)
	}
	for _, n := range groups[0].Places {
		want := GroupAt{Origin: n.Origin, Store: "main", Group: guest, Count: 2, Newest: 200, Bad: 1, Checked: began.Add(time.Hour).Unix()}
		if n.Origin == origin(1) {
			want.Checked = 0
		}
		if n != want {
			t.Errorf("%+v, want %+v", n, want)
		}
	}
	say(t, s, 0, began, Added{Snapshot: snap(400)})
	m.Load(s)
	for _, n := range main()[0].Places {
		if want := map[bool]int{true: 0, false: 1}[n.Origin == origin(0)]; n.Behind != want || main()[0].Lag(n) != time.Duration(want)*200*time.Second {
			t.Errorf("behind by %d, want %d", n.Behind, want)
		}
	}
	if n := main()[0].Copies(); n != 1 {
		t.Errorf("%d copies of what only one has", n)
	}
	for _, v := range m.Nodes() {
		if v.Origin != origin(0) {
			continue
		}
		if v.Snapshots != 3 || v.Groups != 1 || v.Bytes != 15 || v.Bad != 1 || len(v.Running) != 1 || v.Running[0].ID != "UPID:2" ||
			len(v.Last) != 1 || !v.Last[0].OK || v.Last[0].Started.IsZero() {
			t.Errorf("%+v", v)
		}
	}
}

func TestUnknownIsSkipped(t *testing.T) {
	s := open(t)
	say(t, s, 0, began, Added{Snapshot: snap(1)})
	if _, err := s.Append(nodeKey(0), began, feed.Statement{Kind: 99, Data: []byte("from the future")}); err != nil {
		t.Fatal(err)
	}
	newer, _ := encoding.Marshal(map[int]any{1: snap(2), 3: [32]byte{}, 77: "more"})
	if _, err := s.Append(nodeKey(0), began, feed.Statement{Kind: KindAdded, Data: newer}); err != nil {
		t.Fatal(err)
	}
	if v := load(t, s).Nodes(); v[0].Snapshots != 2 || v[0].Skipped != 1 {
		t.Errorf("%+v", v)
	}
	if _, err := Parse(99, nil); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
}

func TestTexts(t *testing.T) {
	st, err := Encode(RunEnded{Run: "x", Of: "gc", Text: "line\nnext " + strings.Repeat("é", 300)})
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse(st.Kind, st.Data)
	if text := f.(RunEnded).Text; err != nil || len(text) > maxText || !strings.HasPrefix(text, "line next é") {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := Encode(Added{Snapshot: Snapshot{Store: "a\x1b[31mred"}}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a name that colours the terminal: %v", err)
	}
	bad, _ := encoding.Marshal(Pruned{snap(1), "\x1b[2J"})
	if _, err := Parse(KindPruned, bad); !errors.Is(err, ErrInvalid) {
		t.Errorf("and a reason that clears it: %v", err)
	}
}

// random says things of some snapshots at random.
func random(rng *rand.Rand) Fact {
	n := Snapshot{fmt.Sprint("store ", rng.IntN(2)), Group{Type: "vm", ID: fmt.Sprint(rng.IntN(3))}, int64(rng.IntN(10))}
	switch rng.IntN(10) {
	case 8:
		return Kept{n.Store, 100, uint64(rng.IntN(100)), 0, ""}
	case 9:
		if rng.IntN(4) == 0 {
			return Dropped{n.Store}
		}
	case 0:
		return Verified{n, rng.IntN(2) == 0}
	case 1:
		return Pruned{n, []string{"", "retention"}[rng.IntN(2)]}
	case 2:
		return Quarantined{n, "why"}
	case 3:
		return Released{n}
	case 4:
		return RunEnded{Run: fmt.Sprint(rng.IntN(100)), Of: "gc", Job: fmt.Sprint(rng.IntN(2)), OK: true}
	}
	return Added{Snapshot: n, Size: uint64(rng.IntN(100)), Encrypted: rng.IntN(2) == 0}
}

// A base says the same as all that it replaces, whenever it is made, and to
// who has seen the records before it as to who has not.
func TestBaseSaysTheSame(t *testing.T) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 0))
		s := open(t)
		follower := NewModel()
		for i := range 3 {
			for range 20 + rng.IntN(20) {
				say(t, s, 0, began.Add(time.Duration(i)*time.Hour), random(rng))
			}
			if i == 2 {
				break
			}
			if err := follower.Follow(s, origin(0)); err != nil {
				t.Fatal(err)
			}
			before := load(t, s)
			base, err := before.Base(origin(0))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Rebase(nodeKey(0), began, base); err != nil {
				t.Fatal(err)
			}
			if after := load(t, s); !reflect.DeepEqual(before.nodes[origin(0)].copies, after.nodes[origin(0)].copies) || !reflect.DeepEqual(before.nodes[origin(0)].gone, after.nodes[origin(0)].gone) {
				t.Fatalf("seed %d: the base says something else", seed)
			}
			if n, err := s.Compact(origin(0)); n == 0 || err != nil {
				t.Fatal(n, err)
			}
		}
		if err := follower.Follow(s, origin(0)); err != nil {
			t.Fatal(err)
		}
		fresh := load(t, s)
		if !reflect.DeepEqual(follower.nodes[origin(0)].copies, fresh.nodes[origin(0)].copies) || !reflect.DeepEqual(follower.Groups(), fresh.Groups()) {
			t.Errorf("seed %d: who followed and who came later see different things", seed)
		}
		if follower.nodes[origin(0)].count != fresh.nodes[origin(0)].count {
			t.Errorf("seed %d: %d and %d", seed, follower.nodes[origin(0)].count, fresh.nodes[origin(0)].count)
		}
	}
}

// Only what was removed on purpose counts as removed, for as long as it is not
// there again and its datastore is; and a base goes on saying so.
func TestRemoved(t *testing.T) {
	s := open(t)
	say(t, s, 0, began, Added{Snapshot: snap(1), Manifest: [32]byte{7}}, Added{Snapshot: snap(2)}, Added{Snapshot: snap(3)}, Added{Snapshot: Snapshot{"cold", guest, 1}},
		Pruned{snap(1), "retention"}, Pruned{snap(2), ""}, Pruned{snap(3), "retention"}, Added{Snapshot: snap(3)}, Pruned{Snapshot{"cold", guest, 1}, "by hand"}, Dropped{"cold"})
	for _, when := range []string{"in records", "in a base"} {
		m := load(t, s)
		for n, want := range map[Snapshot]bool{snap(1): true, snap(2): false, snap(3): false, {"cold", guest, 1}: false} {
			if r, is := m.Removed(origin(0), n); is != want || is && (r.Manifest != [32]byte{7} || r.At != began.Unix() || r.Why != "retention") {
				t.Errorf("%s: %v was removed: %v, %+v", when, n, is, r)
			}
		}
		base, err := m.Base(origin(0))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Rebase(nodeKey(0), began.Add(time.Hour), base); err != nil {
			t.Fatal(err)
		}
	}
}

// Half a base changes nothing.
func TestHalfABase(t *testing.T) {
	s, peer := open(t), open(t)
	say(t, s, 0, began, Added{Snapshot: snap(1)}, Added{Snapshot: Snapshot{"cold", guest, 1}})
	base, err := load(t, s).Base(origin(0))
	if err != nil || len(base) != 2 {
		t.Fatal(len(base), err)
	}
	if _, err := s.Rebase(nodeKey(0), began, base); err != nil {
		t.Fatal(err)
	}
	records, _ := s.After(origin(0), 0, 0, 100, 1<<20)
	if _, err := peer.Take(origin(0), records[:4]); err != nil {
		t.Fatal(err)
	}
	m := load(t, peer)
	if v := m.Nodes(); v[0].Snapshots != 2 {
		t.Errorf("%+v", v)
	}
	if _, err := m.Base(origin(0)); err == nil {
		t.Error("a base of half a base")
	}
	if _, err := peer.Take(origin(0), records); err != nil {
		t.Fatal(err)
	}
	m.Load(peer)
	if v := m.Nodes(); v[0].Snapshots != 2 || m.nodes[origin(0)].records != 2 {
		t.Errorf("%+v, %d records", v, m.nodes[origin(0)].records)
	}
}

func FuzzParse(f *testing.F) {
	for _, fact := range []Fact{
		Kept{"main", 10, 5, 1, "offline"}, Dropped{"main"}, Added{Snapshot: snap(1), Size: 1, From: "x"}, Verified{snap(1), true}, Pruned{snap(1), "why"}, Quarantined{snap(1), "why"}, Released{snap(1)},
		RunStarted{"a", "b", "c"}, RunEnded{Run: "a", Of: "b", Text: "c"}, Gone{"main", guest, []Removal{{1, 2, [32]byte{3}, "why"}}}, Held{"main", guest, []Copy{{Time: 1, Why: "x"}}},
	} {
		st, _ := Encode(fact)
		f.Add(st.Kind, st.Data)
	}
	f.Fuzz(func(t *testing.T, kind uint16, b []byte) {
		fact, err := Parse(kind, b)
		if err != nil {
			return
		}
		st, err := Encode(fact)
		if err != nil {
			t.Fatalf("%+v was read and cannot be written: %v", fact, err)
		}
		if again, err := Parse(st.Kind, st.Data); err != nil || !reflect.DeepEqual(fact, again) {
			t.Errorf("%+v becomes %+v, %v", fact, again, err)
		}
		newState().apply(feed.Origin{}, feed.Record{Epoch: 1, Seq: 1, Kind: kind}, fact)
	})
}

// fill gives each of nodes a feed of n snapshots in groups of 50.
func fill(b testing.TB, s *feed.Store, nodes, n int) {
	b.Helper()
	for node := range nodes {
		var all []feed.Statement
		for i := range n {
			g := Group{Type: "vm", ID: fmt.Sprint(100 + i/50)}
			st, err := Encode(Added{Snapshot: Snapshot{"main", g, int64(i % 50 * 86400)}, Size: 1 << 35, Manifest: [32]byte{byte(i)}})
			if err != nil {
				b.Fatal(err)
			}
			all = append(all, st)
		}
		if _, err := s.Rebase(nodeKey(node), began, all); err != nil { // one commit
			b.Fatal(err)
		}
	}
}

// BenchmarkLoad is what a node does at its start: 10,000 snapshots on each of
// five nodes.
func BenchmarkLoad(b *testing.B) {
	s := open(b)
	fill(b, s, 5, 10_000)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var m *Model
	for b.Loop() {
		m = load(b, s)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
	if n := m.Nodes(); len(n) != 5 || n[4].Snapshots != 10_000 {
		b.Fatalf("%+v", n)
	}
}

// BenchmarkGroups is what status asks.
func BenchmarkGroups(b *testing.B) {
	s := open(b)
	fill(b, s, 5, 10_000)
	m := load(b, s)
	for b.Loop() {
		m.Groups()
	}
}
