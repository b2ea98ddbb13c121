package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// A repository is where one of the programs keeps its backups.
func (b *bench) repository(of string) string { return filepath.Join(b.dir, "repo-"+of) }

// peerEnv gives restic and borg what they need to run without questions.
func (b *bench) peerEnv() []string {
	return []string{
		"RESTIC_REPOSITORY=" + b.repository("restic"), "RESTIC_PASSWORD=bench",
		"BORG_REPO=" + b.repository("borg"), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes", "BORG_RELOCATED_REPO_ACCESS_IS_OK=yes",
		"BORG_BASE_DIR=" + filepath.Join(b.dir, "borg"),
	}
}

func (b *bench) peer(ctx context.Context, name string, args ...string) (timing, error) {
	return b.time(ctx, b.peerEnv(), name, args...)
}

// have reports whether a peer is installed.
func have(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}

// backupTree backs the tree up with holdfast, as a snapshot of its own.
func (b *bench) backupTree(ctx context.Context) (timing, error) {
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) // snapshots have whole seconds
	return b.holdfast(ctx, b.repository("holdfast"), "backup", "-q", "tree.pxar:"+b.tree(), "--backup-id", "tree", "--output-format", "json")
}

// peers are the programs that are compared with ours, and how each backs up.
var peers = []struct{ name, backup string }{{"restic", "restic"}, {"borg", "borg"}}

func (b *bench) backupPeer(ctx context.Context, name string, n int) (timing, error) {
	if name == "restic" {
		return b.peer(ctx, "restic", "backup", "-q", b.tree())
	}
	return b.peer(ctx, "borg", "create", "-C", "zstd,1", fmt.Sprintf("::snap%d", n), b.tree())
}

// first is the first backup of the tree by everyone, warm.
func (b *bench) first(ctx context.Context) error {
	if _, err := b.holdfast(ctx, b.repository("holdfast"), "datastore", "init", b.repository("holdfast")); err != nil {
		return err
	}
	b.gen = 1
	warm(b.tree())
	settle()
	ours, err := b.backupTree(ctx)
	if err != nil {
		return err
	}
	best, who := time.Duration(0), ""
	for _, p := range peers {
		if !have(p.name) {
			fmt.Fprintf(b.out, "first backup of the tree\t\t%s is not installed\t\t\t\n", p.name)
			continue
		}
		if p.name == "restic" {
			_, err = b.peer(ctx, "restic", "init", "-q")
		} else {
			_, err = b.peer(ctx, "borg", "init", "-e", "none")
		}
		if err != nil {
			return err
		}
		settle()
		t, err := b.backupPeer(ctx, p.name, 1)
		if err != nil {
			return err
		}
		if who == "" || t.took < best {
			best, who = t.took, p.name
		}
	}
	if who != "" {
		b.faster("first backup of the tree", ours.took, best, who, 1.5)
	}
	b.atMost("peak memory of that backup", float64(ours.rss)/(1<<20), 300, "MiB")
	if have("restic") {
		ourSize, theirs := diskUse(b.repository("holdfast")), diskUse(b.repository("restic"))
		r := float64(ourSize) / float64(theirs)
		b.row("size of the repository", float64(ourSize)/(1<<20), float64(theirs)/(1<<20), "MiB", "restic", r, "<= 1.03", r <= 1.03)
	}
	return nil
}

// diskUse returns the bytes that the files below dir occupy.
func diskUse(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil {
				n += allocated(info)
			}
		}
		return nil
	})
	return n
}

// second is the backup of the unchanged tree, then of the second generation,
// against reading, splitting and naming the chunks alone.
func (b *bench) second(ctx context.Context) error {
	for _, what := range []string{"nothing", "3 % of the files"} {
		if what != "nothing" {
			if err := b.nextGeneration(); err != nil {
				return err
			}
		}
		warm(b.tree())
		settle()
		limit, err := b.readLimit(ctx)
		if err != nil {
			return err
		}
		t, err := b.backupTree(ctx)
		if err != nil {
			return err
		}
		r := limit.Seconds() / t.took.Seconds()
		b.row("second backup, changed: "+what, t.took.Seconds(), limit.Seconds(), "s", "read + split + SHA-256", r, ">= 0.8", r >= 0.8)
	}
	b.gen = 2
	for _, p := range peers {
		if have(p.name) {
			if _, err := b.backupPeer(ctx, p.name, 2); err != nil {
				return err
			}
		}
	}
	return nil
}

// restore brings the last tree back.
func (b *bench) restore(ctx context.Context) error {
	out := func(of string) string { return filepath.Join(b.dir, "restored-"+of) }
	settle()
	ours, err := b.holdfast(ctx, b.repository("holdfast"), "restore", "-q", "host/tree", "tree.pxar", out("holdfast"))
	if err != nil {
		return err
	}
	if msg, err := exec.CommandContext(ctx, "diff", "-r", b.tree(), out("holdfast")).CombinedOutput(); err != nil {
		return fmt.Errorf("what was restored differs: %w: %.500s", err, msg)
	}
	b.atMost("peak memory of that restore", float64(ours.rss)/(1<<20), 300, "MiB")
	best, who := time.Duration(0), ""
	for _, p := range peers {
		if !have(p.name) {
			continue
		}
		if err := os.MkdirAll(out(p.name), 0o700); err != nil {
			return err
		}
		settle()
		var t timing
		if p.name == "restic" {
			t, err = b.peer(ctx, "restic", "restore", "-q", "latest", "--target", out("restic"))
		} else {
			t, err = b.peer(ctx, "sh", "-c", fmt.Sprintf("cd '%s' && borg extract ::snap%d", out("borg"), b.gen))
		}
		if err != nil {
			return err
		}
		if who == "" || t.took < best {
			best, who = t.took, p.name
		}
		if err := os.RemoveAll(out(p.name)); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(out("holdfast")); err != nil {
		return err
	}
	if who != "" {
		b.faster("restore of the tree", ours.took, best, who, 1.5)
	}
	return nil
}

// oneFile restores one small file, with nothing cached.
func (b *bench) oneFile(ctx context.Context) error {
	what := "one file of 10 KiB out of the archive, cold"
	if !cold() {
		what += " (caches could not be dropped: warm)"
	}
	t, err := b.holdfast(ctx, b.repository("holdfast"), "restore", "host/tree", "tree.pxar", "-", "--path", "small")
	if err != nil {
		return err
	}
	if len(t.out) != 10<<10 {
		return fmt.Errorf("the file has %d bytes", len(t.out))
	}
	b.atMost(what, float64(t.took.Milliseconds()), 100, "ms")
	return nil
}

// collect forgets half of the backups and gives their space back.
func (b *bench) collect(ctx context.Context) error {
	store := b.repository("holdfast")
	if _, err := b.holdfast(ctx, store, "datastore", "update", "--trash-delay", "0s"); err != nil {
		return err
	}
	settle()
	ours := time.Duration(0)
	for _, args := range [][]string{{"prune", "--keep-last", "1"}, {"datastore", "gc"}} {
		t, err := b.holdfast(ctx, store, args...)
		if err != nil {
			return err
		}
		ours += t.took
	}
	best, who := time.Duration(0), ""
	for _, p := range peers {
		if !have(p.name) {
			continue
		}
		settle()
		commands := [][]string{{"forget", "-q", "--keep-last", "1", "--prune"}}
		if p.name == "borg" {
			commands = [][]string{{"delete", "::snap1"}, {"compact"}}
		}
		took := time.Duration(0)
		for _, args := range commands {
			t, err := b.peer(ctx, p.name, args...)
			if err != nil {
				return err
			}
			took += t.took
		}
		if who == "" || took < best {
			best, who = took, p.name
		}
	}
	if who != "" {
		b.faster("forget half, prune and collect", ours, best, who, 10)
	}
	return nil
}

// list lists a hundred thousand snapshots in a thousand groups.
func (b *bench) list(ctx context.Context) error {
	store := b.repository("many")
	if _, err := b.holdfast(ctx, store, "datastore", "init", store); err != nil {
		return err
	}
	n, err := b.makeSnapshots(store)
	if err != nil {
		return err
	}
	time.Sleep(2 * time.Second) // what was made this second is not cached
	for _, state := range []struct {
		name  string
		limit float64
		cold  bool
	}{{"cold, first", 2, true}, {"cold", 2, true}, {"warm", 0.3, false}} {
		name := state.name
		if state.cold && !cold() {
			name += " (caches could not be dropped)"
		}
		t, err := b.holdfast(ctx, store, "snapshot", "list", "--output-format", "json")
		if err != nil {
			return err
		}
		var list []json.RawMessage
		if err := json.Unmarshal([]byte(t.out), &list); err != nil || len(list) != n {
			return fmt.Errorf("%d of %d snapshots are listed: %w", len(list), n, err)
		}
		b.atMost(fmt.Sprintf("list %d snapshots, %s", n, name), t.took.Seconds(), state.limit, "s")
	}
	return nil
}
