package verify

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/upid"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
)

func TestSoundSnapshotsAreStoredAsOK(t *testing.T) {
	w := newWorld(t)
	key := chunktest.Key(1)
	plain, secret := snap(t, "vm/100", 1), snap(t, "host/web", 1)
	image := arch{"drive-scsi0.img.fidx", []chunktest.Chunk{chunktest.Blob(1, chunks.SlotSize), chunk(2)}, []int{chunks.SlotSize, 5000}, manifest.SignOnly}
	w.backup(plain, nil, dynamic("root.pxar.didx", chunk(1), chunk(2), chunk(1)), image)
	enc := dynamic("root.pxar.didx", sealed(1, key), sealed(2, key))
	enc.mode = manifest.Encrypt
	w.backup(secret, key, enc)
	r := w.verify(Options{Store: "tank"})
	if r.OK != 2 || r.Failed+r.Busy+r.Skipped != 0 || r.Chunks != 5 || r.SumsOnly != 2 {
		t.Errorf("report %+v, want 2 sound snapshots of 5 different chunks, 2 of them encrypted", r)
	}
	for _, s := range []catalog.Snapshot{plain, secret} {
		if got := w.state(s); got != "ok" {
			t.Errorf("manifest of %s says %s", s, got)
		}
	}
	m, err := w.Manifest("", plain)
	w.must(err)
	v, _ := m.VerifyState()
	if u, err := upid.Parse(v.UPID); err != nil || u.Type != "verify" || u.ID != "tank" || v.UPID != r.UPID {
		t.Errorf("manifest names the task %q (%+v, %v), want the run's", v.UPID, u, err)
	}
	if r := w.verify(Options{Key: key}); r.OK != 2 || r.SumsOnly != 0 {
		t.Errorf("with the key: %+v, want everything decrypted", r)
	}
}

func TestAKeyIsUsedOnlyWhereTheManifestNamesIt(t *testing.T) {
	w := newWorld(t)
	mine, other := chunktest.Key(1), chunktest.Key(2)
	for i, key := range []*chunks.Key{mine, other} {
		a := dynamic("root.pxar.didx", sealed(uint64(i), key))
		a.mode = manifest.Encrypt
		w.backup(snap(t, "host/web", i), key, a)
	}
	if r := w.verify(Options{Key: mine}); r.OK != 2 || r.SumsOnly != 1 {
		t.Errorf("report %+v, want both sound, and one of which only sums were checked", r)
	}
}

// Each row damages one snapshot in its own way.
func TestDamageFailsASnapshot(t *testing.T) {
	key, other := chunktest.Key(1), chunktest.Key(2)
	good := chunk(1)
	rows := []struct {
		name   string
		make   func(w *world, s catalog.Snapshot)
		key    *chunks.Key
		want   string // in the first error
		failed int    // chunks damaged or missing
	}{
		{"a bit of a chunk has turned", func(w *world, s catalog.Snapshot) {
			w.backup(s, nil, dynamic("a.pxar.didx", good, chunk(2)))
			w.damage(chunk(2))
		}, nil, "a.pxar.didx: chunk " + chunk(2).Digest.Short() + " at offset 5000 is damaged", 1},
		{"a chunk holds what another one is named after", func(w *world, s catalog.Snapshot) {
			w.backup(s, nil, dynamic("a.pxar.didx", chunktest.Chunk{Digest: chunk(3).Digest, Blob: good.Blob}))
		}, nil, "is damaged", 1},
		{"the packs are gone", func(w *world, s catalog.Snapshot) {
			w.backup(s, nil, dynamic("a.pxar.didx", good))
			w.shut()
			for _, name := range w.packs() {
				w.must(os.Remove(name))
			}
			w.open()
		}, nil, "is missing", 1},
		{"an encrypted chunk is in an archive that is not", func(w *world, s catalog.Snapshot) {
			w.backup(s, nil, dynamic("a.pxar.didx", sealed(1, key)))
		}, nil, "is encrypted, the manifest says it is not", 0},
		{"a chunk that anybody can read is in an encrypted archive", func(w *world, s catalog.Snapshot) {
			a := dynamic("a.pxar.didx", good)
			a.mode = manifest.Encrypt
			w.backup(s, nil, a)
		}, nil, "is not encrypted, the manifest says it is", 0},
		{"an encrypted chunk holds something else", func(w *world, s catalog.Snapshot) {
			a := dynamic("a.pxar.didx", chunktest.Chunk{Digest: sealed(1, key).Digest, Blob: sealed(2, key).Blob})
			a.mode = manifest.Encrypt
			w.backup(s, key, a)
		}, key, "is damaged", 1},
		{"an encrypted chunk was made with another key", func(w *world, s catalog.Snapshot) {
			a := dynamic("a.pxar.didx", sealed(1, other))
			a.mode = manifest.Encrypt
			w.backup(s, key, a)
		}, key, "is damaged", 1},
		{"the index gives a chunk another length", func(w *world, s catalog.Snapshot) {
			a := dynamic("a.pxar.didx", good)
			a.sizes[0] = 5001
			w.backup(s, nil, a)
		}, nil, "holds 5000 bytes, the index says 5001", 0},
		{"the index was changed", func(w *world, s catalog.Snapshot) {
			w.backup(s, nil, dynamic("a.pxar.didx", good))
			w.must(os.WriteFile(w.file(s, "a.pxar.didx"), dynamic("a.pxar.didx", chunk(2)).index(w.t).Bytes(), 0o600))
		}, nil, "the manifest says", 0},
		{"the index is of the other kind", func(w *world, s catalog.Snapshot) {
			w.backup(s, nil, dynamic("a.pxar.didx", good))
			w.must(os.WriteFile(w.file(s, "a.pxar.didx"), dynamic("a.fidx", good).index(w.t).Bytes(), 0o600))
		}, nil, "it is of the other kind", 0},
		{"the index is cut short", func(w *world, s catalog.Snapshot) {
			w.backup(s, nil, dynamic("a.pxar.didx", good))
			w.must(os.Truncate(w.file(s, "a.pxar.didx"), 4100))
		}, nil, "a.pxar.didx", 0},
		{"the index is gone", func(w *world, s catalog.Snapshot) {
			w.backup(s, nil, dynamic("a.pxar.didx", good))
			w.must(os.Remove(w.file(s, "a.pxar.didx")))
		}, nil, "a.pxar.didx", 0},
		{"a blob was changed to another one", func(w *world, s catalog.Snapshot) {
			w.backup(s, nil, dynamic("a.pxar.didx", good))
			w.must(os.WriteFile(w.file(s, "qemu-server.conf.blob"), chunktest.Encode([]byte("cores: 3\n"), chunks.EncodeOptions{}).Blob, 0o600))
		}, nil, "qemu-server.conf.blob: sum is", 0},
		{"a bit of a blob has turned", func(w *world, s catalog.Snapshot) {
			w.backup(s, nil, dynamic("a.pxar.didx", good))
			b, err := os.ReadFile(w.file(s, "qemu-server.conf.blob"))
			w.must(err)
			b[len(b)-1] ^= 1
			w.must(os.WriteFile(w.file(s, "qemu-server.conf.blob"), b, 0o600))
		}, nil, "qemu-server.conf.blob: read", 0},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			s := snap(t, "vm/100", 1)
			row.make(w, s)
			r := w.verify(Options{Key: row.key})
			if r.Failed != 1 || len(r.Results) != 1 || len(r.Results[0].Errors) == 0 {
				t.Fatalf("report %+v, want one snapshot that failed", r)
			}
			if got := r.Results[0].Errors[0]; !strings.Contains(got, row.want) {
				t.Errorf("error %q, want %q in it", got, row.want)
			}
			if n := r.Damaged + r.Missing; n != row.failed {
				t.Errorf("%d chunks damaged or missing, want %d: %+v", n, row.failed, r.Damage)
			}
			if got := w.state(s); got != "failed" {
				t.Errorf("the manifest says %q, want failed", got)
			}
		})
	}
}

func TestABadChunkFailsEverySnapshotThatNamesIt(t *testing.T) {
	w := newWorld(t)
	bad, sound := chunk(1), chunk(2)
	want := map[string]string{}
	for n, list := range [][]chunktest.Chunk{{bad, sound}, {sound}, {sound, bad, bad}} {
		s := snap(t, "vm/100", n)
		w.backup(s, nil, dynamic("a.pxar.didx", list...))
		want[s.String()] = map[bool]string{true: "failed", false: "ok"}[slices.ContainsFunc(list, func(c chunktest.Chunk) bool { return c.Digest == bad.Digest })]
	}
	elsewhere := snap(t, "host/web", 0)
	w.backup(elsewhere, nil, dynamic("root.pxar.didx", sound), dynamic("etc.pxar.didx", sound, bad))
	want[elsewhere.String()] = "failed"
	w.damage(bad)
	for _, round := range []int{1, roundChunks} { // states stored after each snapshot, and all at once
		v, err := New(w.Datastore, Options{})
		w.must(err)
		v.round = round
		r, err := v.Run(t.Context())
		w.must(err)
		if r.Chunks != 2 || r.Damaged != 1 || r.Failed != 3 || r.OK != 1 {
			t.Errorf("report %+v, want 2 chunks read, 1 damaged, 3 snapshots failed and 1 sound", r)
		}
		for _, result := range r.Results {
			if got := string(result.State); got != want[result.Snapshot.String()] || w.state(result.Snapshot) != got {
				t.Errorf("%s is %s and %s in its manifest, want %s", result.Snapshot, got, w.state(result.Snapshot), want[result.Snapshot.String()])
			}
		}
	}
}

func TestADamagedChunkIsStoredAnewByTheNextBackup(t *testing.T) {
	w := newWorld(t)
	s := snap(t, "vm/100", 1)
	w.backup(s, nil, dynamic("a.pxar.didx", chunk(1)))
	w.damage(chunk(1))
	if r := w.verify(Options{}); r.Failed != 1 {
		t.Fatalf("report %+v, want a failure", r)
	}
	if w.Chunks().Known(chunk(1).Digest) {
		t.Error("the store still claims to have the chunk")
	}
	w.backup(snap(t, "vm/100", 2), nil, dynamic("a.pxar.didx", chunk(1)))
	if r := w.verify(Options{}); r.OK != 2 {
		t.Errorf("report %+v, want both snapshots healed", r)
	}
}

func TestWhatIsVerifiedAgain(t *testing.T) {
	days := func(n float64) time.Duration { return time.Duration(n * 24 * float64(time.Hour)) }
	for _, row := range []struct {
		name  string
		state string // in the manifest
		age   time.Duration
		opt   Options
		want  State
	}{
		{"all, unless told to ignore what is verified", "ok", days(1), Options{}, OK},
		{"nothing that is verified, however long ago", "ok", days(4000), Options{IgnoreVerified: true}, Skipped},
		{"nothing that failed either", "failed", days(1), Options{IgnoreVerified: true}, Skipped},
		{"nothing on the last day before it is outdated", "ok", days(30.9), Options{IgnoreVerified: true, OutdatedAfter: 30}, Skipped},
		{"what is outdated", "ok", days(31), Options{IgnoreVerified: true, OutdatedAfter: 30}, OK},
		{"what failed and is outdated", "failed", days(31), Options{IgnoreVerified: true, OutdatedAfter: 30}, OK},
		{"what has never been verified", "", 0, Options{IgnoreVerified: true, OutdatedAfter: 30}, OK},
		{"what a task verified that nobody can name", "ok", -1, Options{IgnoreVerified: true}, OK},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			s, now := snap(t, "vm/100", 1), time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)
			w.backup(s, nil, dynamic("a.pxar.didx", chunk(1)))
			if row.state != "" {
				run, err := upid.New("here", "verify", "tank", "root@pam", now.Add(-row.age))
				if err != nil {
					t.Fatal(err)
				}
				name := run.String()
				if row.age < 0 {
					name = "UPID:?"
				}
				w.must(w.UpdateManifest("", s, func(m *catalog.Manifest) error {
					return m.SetVerifyState(manifest.VerifyState{State: row.state, UPID: name})
				}))
			}
			row.opt.Now = func() time.Time { return now }
			r := w.verify(row.opt)
			if got := map[State]int{OK: r.OK, Failed: r.Failed, Skipped: r.Skipped}; got[row.want] != 1 {
				t.Errorf("report %+v, want %s", r, row.want)
			}
		})
	}
}

func TestWhichSnapshotsAreChosen(t *testing.T) {
	w := newWorld(t)
	w.must(w.CreateNamespace("a"))
	for _, group := range []string{"vm/100", "vm/101", "ct/100", "host/benchmark"} {
		w.backup(snap(t, group, 1), nil, dynamic("a.pxar.didx", chunk(1)))
		w.backup(snap(t, group, 2), nil, dynamic("a.pxar.didx", chunk(1)))
	}
	group, one, none := snap(t, "vm/101", 1).Group, snap(t, "vm/100", 2), snap(t, "vm/999", 1)
	var only catalog.Filter
	w.must(only.UnmarshalText([]byte("type:ct")))
	for _, row := range []struct {
		name string
		opt  Options
		want int
	}{
		{"all but the benchmark", Options{Depth: -1}, 6},
		{"one group", Options{Group: &group}, 2},
		{"one snapshot", Options{Snapshot: &one}, 1},
		{"those of a filter", Options{Filters: catalog.Filters{only}}, 2},
		{"another namespace", Options{Namespace: "a"}, 0},
	} {
		if r := w.verify(row.opt); r.OK != row.want || len(r.Results) != row.want {
			t.Errorf("%s: %d verified, want %d", row.name, r.OK, row.want)
		}
	}
	for _, opt := range []Options{{Group: &none.Group}, {Snapshot: &none}, {Namespace: "b"}} {
		if r, err := Run(t.Context(), w.Datastore, opt); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("verifying what is not there: %+v, %v, want fs.ErrNotExist", r, err)
		}
	}
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	w := newWorld(t)
	s := snap(t, "vm/1", 1)
	for _, opt := range []Options{
		{Workers: -1}, {Workers: 1000}, {OutdatedAfter: -1}, {RateBytes: -1}, {UPID: "x"}, {Group: &s.Group, Snapshot: &s},
	} {
		if _, err := New(w.Datastore, opt); err == nil {
			t.Errorf("%+v is accepted", opt)
		}
	}
}

func TestABusySnapshotIsSkipped(t *testing.T) {
	w := newWorld(t)
	w.backup(snap(t, "vm/100", 1), nil, dynamic("a.pxar.didx", chunk(1)))
	writer, err := w.Begin(t.Context(), "", snap(t, "vm/100", 2), "root@pam")
	w.must(err)
	r := w.verify(Options{})
	if r.Busy != 1 || r.OK != 1 || r.Failed != 0 {
		t.Errorf("report %+v, want the running backup busy and the other sound", r)
	}
	w.must(writer.Abort())
}

func TestASnapshotWithoutAManifestFails(t *testing.T) {
	w := newWorld(t)
	s := snap(t, "vm/100", 1)
	w.backup(s, nil, dynamic("a.pxar.didx", chunk(1)))
	w.must(os.Truncate(w.file(s, "index.json.blob"), 20))
	r := w.verify(Options{})
	if r.Failed != 1 || len(r.Results) != 1 || r.Results[0].Unstored == "" {
		t.Errorf("report %+v, want a failure whose state is not stored", r)
	}
}

func TestMessagesAreBounded(t *testing.T) {
	w := newWorld(t)
	var list []chunktest.Chunk
	for i := range 3 * maxErrors {
		list = append(list, chunktest.Chunk{Digest: chunk(uint64(i + 1)).Digest, Blob: chunk(0).Blob})
	}
	w.backup(snap(t, "vm/100", 1), nil, dynamic("a.pxar.didx", list...))
	r := w.verify(Options{})
	if got := r.Results[0]; len(got.Errors) != maxErrors || got.ErrorCount != len(list) || r.Damaged != len(list) {
		t.Errorf("%d of %d errors named, %d chunks damaged; want %d of %d", len(got.Errors), got.ErrorCount, r.Damaged, maxErrors, len(list))
	}
}

// A run of a minute is cut off after ten seconds of virtual time.
func TestCancelledRunKeepsWhatItHasVerified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		const count = 12
		for n := range count {
			w.backup(snap(t, "vm/100", n), nil, dynamic("a.pxar.didx", chunk(uint64(2*n)), chunk(uint64(2*n+1))))
		}
		v, err := New(w.Datastore, Options{RateBytes: int64(len(chunk(1).Blob)) * 2 / 5, Workers: 1})
		w.must(err)
		v.round = 1
		ctx, cancel := context.WithTimeout(t.Context(), 11*time.Second)
		defer cancel()
		began := time.Now()
		r, err := v.Run(ctx)
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took > 12*time.Second {
			t.Fatalf("run returned %v after %v, want the end of its context within a second", err, took)
		}
		stored := 0
		for n := range count {
			if w.state(snap(t, "vm/100", n)) == "ok" {
				stored++
			}
		}
		if r.OK == 0 || r.OK == count || stored != r.OK {
			t.Errorf("%d snapshots verified and %d stored so, want some, and all of them stored", r.OK, stored)
		}
		for n := range count { // nothing is held any more
			w.must(w.Forget(t.Context(), "", snap(t, "vm/100", n)))
		}
		w.shut()
	})
}

func TestProgressGrows(t *testing.T) {
	w := newWorld(t)
	for n := range 3 {
		w.backup(snap(t, "vm/100", n), nil, dynamic("a.pxar.didx", chunk(uint64(n))))
	}
	var last Progress
	w.verify(Options{Progress: func(p Progress) {
		if p.Snapshots < last.Snapshots || p.Chunks < last.Chunks || p.Bytes < last.Bytes {
			t.Errorf("progress went from %+v to %+v", last, p)
		}
		last = p
	}})
	if last.Snapshots != 3 || last.SnapshotsTotal != 3 || last.Chunks != 3 || last.Bytes == 0 {
		t.Errorf("progress ended with %+v, want 3 of 3 snapshots and 3 chunks", last)
	}
}

// A chunk that was found damaged, and is whole when it is read again, is in
// quarantine no more, also after the next start. An encrypted one stays there as
// long as only its sum speaks for it.
func TestAMendedChunkLeavesTheQuarantine(t *testing.T) {
	key := chunktest.Key(1)
	for _, tt := range []struct {
		name        string
		chunk       chunktest.Chunk
		key, opened *chunks.Key
		left        int
	}{
		{"plain", chunk(2), nil, nil, 0},
		{"encrypted, with the key", sealed(2, key), key, key, 0},
		{"encrypted, without the key", sealed(2, key), key, nil, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			a := dynamic("a.pxar.didx", tt.chunk)
			if tt.key != nil {
				a.mode = manifest.Encrypt
			}
			w.backup(snap(t, "vm/100", 0), tt.key, a)
			w.damage(tt.chunk)
			w.verify(Options{Key: tt.opened})
			if n := w.Chunks().Quarantined().Len(); n != 1 {
				t.Fatalf("%d chunks are in quarantine, want the damaged one", n)
			}
			w.shut()
			w.edit(chunktest.Chunk{Digest: tt.chunk.Digest, Blob: tt.chunk.Blob[:len(tt.chunk.Blob)/2]}, func(b []byte, at int) { b[at+len(tt.chunk.Blob)/2] ^= 1 })
			w.open()
			if r := w.verify(Options{Key: tt.opened}); r.Failed != 0 || r.OK != 1 {
				t.Errorf("after mending: %+v", r)
			}
			for range 2 {
				if n := w.Chunks().Quarantined().Len(); n != tt.left || w.Chunks().Known(tt.chunk.Digest) != (tt.left == 0) {
					t.Errorf("%d chunks are left in quarantine, want %d", n, tt.left)
				}
				w.reopen()
			}
		})
	}
}
