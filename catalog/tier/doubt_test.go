package tier

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
)

// Nothing but the bucket is left, and one object of it is gone or damaged: whoever
// attaches it is warned, has every snapshot that is whole, and deletes nothing in the
// bucket until told by a take-over by force.
func TestOneObjectIsDamaged(t *testing.T) {
	for what, want := range map[string]string{
		"format": day2 + " " + day1,
		"bundle": day1, // with the files of day2
		"index":  day2 + " " + day1,
		"root":   day1,
	} {
		t.Run(what, func(t *testing.T) { oneObjectIsDamaged(t, what, want) })
	}
}

func oneObjectIsDamaged(t *testing.T, what, want string) {
	s := newSite(t)
	cfg := s.config("home")
	recovery := s.create(cfg, true)
	tr, done := s.open(cfg)
	first, second := image(1, 4*chunkSize), image(2, 4*chunkSize)
	mustBackup(t, tr, day1, first)
	offload(t, tr, OffloadOptions{})
	mustBackup(t, tr, day2, second)
	offload(t, tr, OffloadOptions{})
	h := tr.store.Newest()
	key := map[string]string{"format": layout.FormatKey, "bundle": h.Bundles[len(h.Bundles)-1].Key, "index": h.Index[len(h.Index)-1].Key, "root": layout.RootKey(h.Seq)}[what]
	name := filepath.Join(s.server.Dir, layout.Root+tr.store.ID(), key)
	done()
	body, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	body[len(body)/2] ^= 1
	if err := os.WriteFile(name, body, 0o640); err != nil {
		t.Fatal(err)
	}
	var said, log bytes.Buffer
	again := s.config("new")
	again.Warn = func(format string, args ...any) { fmt.Fprintf(&said, format+"\n", args...) }
	again.Log = slog.New(slog.NewTextHandler(&log, nil))
	if err := Attach(t.Context(), again, recovery, true); err != nil {
		t.Fatalf("attach: %v", err)
	}
	if !strings.Contains(said.String(), filepath.Base(key)) || !strings.Contains(log.String(), filepath.Base(key)) {
		t.Errorf("it is said %q, and in the log %q", &said, &log)
	}
	nt, _ := s.open(again)
	if got := names(t, nt); got != want {
		t.Errorf("the snapshots are %s", got)
	}
	wantImage(t, nt, day1, first)
	if what == "index" {
		wantImage(t, nt, day2, second)
	}
	if what == "format" {
		wantImage(t, nt, day2, second)
		if r, _, err := nt.Audit(t.Context()); err != nil || !slices.Equal(r.Restored, []string{key}) {
			t.Errorf("audit: %+v, %v", r, err)
		}
		return
	}
	if trouble := nt.Stats().Trouble; !strings.Contains(trouble, filepath.Base(key)) {
		t.Errorf("status says %q", trouble)
	}
	if err := nt.Datastore().Forget(t.Context(), "", snapshot(t, day1)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if r, err := nt.Collect(t.Context(), gc.Options{}); err != nil || r.Deleted > 0 || nt.Stats().Buried > 0 {
			t.Errorf("collection: %+v, %v, %d buried", r, err, nt.Stats().Buried)
		}
	}
	if err := nt.TakeOver(t.Context(), true); err != nil || nt.Stats().Doubt != "" {
		t.Errorf("told to go on: %v, %q", err, nt.Stats().Doubt)
	}
	for range 2 {
		if _, err := nt.Collect(t.Context(), gc.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	if nt.Stats().Packs+nt.Stats().Buried == 0 || nt.Stats().Packs > len(strings.Fields(want)) {
		t.Errorf("garbage is collected again: %+v", nt.Stats())
	}
}

// With nothing but the bucket left and an index object damaged, nobody found the chunks of
// its packs, and their snapshots were lost though every pack was whole. The packs say
// themselves what is in them; the next audit of the owner writes it down again.
func TestIndexIsReadFromPacks(t *testing.T) {
	for _, encrypt := range []bool{false, true} {
		s := newSite(t)
		cfg := s.config("home")
		recovery := s.create(cfg, encrypt)
		tr, done := s.open(cfg)
		images := map[string][]byte{day1: image(1, 4*chunkSize), day2: image(2, 40*chunkSize), day3: image(3, 4*chunkSize)}
		for _, day := range []string{day1, day2, day3} {
			mustBackup(t, tr, day, images[day])
			offload(t, tr, OffloadOptions{})
		}
		h := tr.store.Newest()
		done()
		for _, o := range h.Index {
			if err := os.Remove(filepath.Join(s.server.Dir, layout.Root+tr.store.ID(), o.Key)); err != nil {
				t.Fatal(err)
			}
		}
		again := s.config("new")
		if err := Attach(t.Context(), again, recovery, true); err != nil {
			t.Fatal(err)
		}
		nt, done := s.open(again)
		whole := func(nt *Tier) {
			t.Helper()
			if got := names(t, nt); got != day3+" "+day2+" "+day1 {
				t.Fatalf("the snapshots are %s", got)
			}
			for day, content := range images {
				wantImage(t, nt, day, content)
			}
		}
		whole(nt)
		if said := nt.Stats().Doubt; !strings.Contains(said, "3 packs say of themselves was read instead, with 4 requests") {
			t.Errorf("it is said %q", said)
		}
		done()
		s.proxy.Reset()
		if nt, done = s.open(again); s.proxy.Total() > 0 {
			t.Errorf("the next start took %v", s.proxy.Counts())
		}
		whole(nt)
		if _, _, err := nt.Audit(t.Context()); err != nil || nt.Stats().Doubt != "" {
			t.Errorf("audit: %v, %q", err, nt.Stats().Doubt)
		}
		whole(nt)
		done()
		third := s.config("third")
		if err := Attach(t.Context(), third, recovery, true); err != nil {
			t.Fatal(err)
		}
		if nt, _ = s.open(third); nt.Stats().Doubt != "" {
			t.Errorf("after that a new machine says %q", nt.Stats().Doubt)
		}
		whole(nt)
	}
}
