package tier

import (
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
)

// Another owner deleted packs of snapshots that were in the trash here, and were taken
// back. Their chunks were in the cache, and restored from there, until the bucket was
// taken over: then nobody looked there any more. Of what nobody has an offload said
// that it waits, and no word was to be read of it anywhere.
func TestTakeOverKeepsWhatTheCacheHas(t *testing.T) {
	s := newSite(t)
	cfg := s.config("home")
	recovery := s.create(cfg, true)
	tr, _ := s.open(cfg)
	both := image(1, 4*chunkSize)
	mustBackup(t, tr, day1, both)
	mustBackup(t, tr, day2, image(2, 4*chunkSize))
	offload(t, tr, OffloadOptions{})
	read := func(text string) (missing int) {
		t.Helper()
		d := tr.Datastore()
		for _, f := range indexesOf(t, d, text) {
			x, err := d.ReadIndex("", snapshot(t, text), f)
			if err != nil {
				t.Fatal(err)
			}
			for _, dig := range x.All() {
				if b, err := d.Chunks().Get(t.Context(), dig, nil); err != nil || b.Verify(dig, nil) != nil {
					missing++
				}
			}
		}
		return missing
	}
	if n := read(day1); n > 0 { // this fills the cache
		t.Fatalf("%d chunks cannot be read", n)
	}
	for _, text := range []string{day1, day2} {
		if err := tr.Datastore().Forget(t.Context(), "", snapshot(t, text)); err != nil {
			t.Fatal(err)
		}
	}
	offload(t, tr, OffloadOptions{}) // the bucket does not list them any more
	other := s.taking(recovery)
	other.take(s)

	undo := func(text string) {
		t.Helper()
		if err := tr.Datastore().Undo(t.Context(), "", snapshot(t, text)); err != nil {
			t.Fatal(err)
		}
	}
	undo(day1)
	if err := tr.TakeOver(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if n := read(day1); n > 0 {
		t.Errorf("%d chunks that the cache had are gone after the take-over", n)
	}
	if r := offload(t, tr, OffloadOptions{}); r.Mirror.Added != 1 || r.Mirror.Nowhere != 0 || tr.Stats().Trouble != "" {
		t.Errorf("offload: %+v, status %q", r, tr.Stats().Trouble)
	}

	if _, err := tr.Collect(t.Context(), gc.Options{}); err != nil {
		t.Fatal(err)
	}
	undo(day2)
	const want = 4
	for range 2 { // as long as it is so
		r := offload(t, tr, OffloadOptions{})
		if st := tr.Stats(); r.Mirror.Waiting != 1 || r.Mirror.Nowhere != want || st.Nowhere != want || !strings.Contains(st.Trouble, "nowhere") {
			t.Errorf("offload: %+v, status %d, %q", r, st.Nowhere, st.Trouble)
		}
	}
	if err := tr.Datastore().Forget(t.Context(), "", snapshot(t, day2)); err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Collect(t.Context(), gc.Options{}); err != nil {
		t.Fatal(err)
	}
	if offload(t, tr, OffloadOptions{}); tr.Stats().Trouble != "" {
		t.Errorf("status when it is forgotten: %q", tr.Stats().Trouble)
	}
}

func indexesOf(t *testing.T, d *catalog.Datastore, text string) (names []string) {
	t.Helper()
	list, err := d.List(t.Context(), catalog.ListOptions{Depth: -1})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		for _, f := range i.Files {
			if i.Snapshot() == snapshot(t, text) && strings.HasSuffix(f.Name, "idx") {
				names = append(names, f.Name)
			}
		}
	}
	if len(names) == 0 {
		t.Fatalf("%s has no index", text)
	}
	return names
}
