package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// collect forgets half of the backups, which hold half of the data, and gives
// their space back. Every directory of the tree is a backup of its own.
func (b *bench) collect(ctx context.Context) error {
	dirs, err := filepath.Glob(filepath.Join(b.tree(), "*", "*"))
	if err != nil {
		return err
	}
	ours, err := b.collectOurs(ctx, dirs)
	if err != nil {
		return err
	}
	best, who := time.Duration(0), ""
	for _, p := range peers {
		if !have(p.name) {
			continue
		}
		took, err := b.collectPeer(ctx, p.name, dirs)
		if err != nil {
			return err
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

func (b *bench) collectOurs(ctx context.Context, dirs []string) (time.Duration, error) {
	store := b.repository("collect-holdfast")
	if _, err := b.holdfast(ctx, store, "datastore", "init", store); err != nil {
		return 0, err
	}
	forget := []string{"snapshot", "forget"}
	for i, dir := range dirs {
		at := 1_700_000_000 + i
		if _, err := b.holdfast(ctx, store, "backup", "-q", "part.pxar:"+dir, "--backup-id", fmt.Sprint(i), "--backup-time", fmt.Sprint(at)); err != nil {
			return 0, err
		}
		if i%2 == 1 {
			forget = append(forget, fmt.Sprintf("host/%d/%s", i, time.Unix(int64(at), 0).UTC().Format(time.RFC3339)))
		}
	}
	settle()
	return b.timeAll(func(args ...string) (timing, error) { return b.holdfast(ctx, store, args...) },
		[][]string{forget, {"datastore", "gc", "--empty-trash"}})
}

func (b *bench) timeAll(run func(...string) (timing, error), commands [][]string) (total time.Duration, err error) {
	for _, args := range commands {
		t, err := run(args...)
		if err != nil {
			return 0, err
		}
		total += t.took
	}
	return total, nil
}

func (b *bench) collectPeer(ctx context.Context, name string, dirs []string) (time.Duration, error) {
	env := append(b.peerEnv(), "RESTIC_REPOSITORY="+b.repository("collect-restic"), "BORG_REPO="+b.repository("collect-borg"))
	run := func(args ...string) (timing, error) { return b.time(ctx, env, name, args...) }
	begin := []string{"init", "-q"}
	if name == "borg" {
		begin = []string{"init", "-e", "none"}
	}
	if _, err := run(begin...); err != nil {
		return 0, err
	}
	forget := []string{"forget", "-q", "--prune"}
	if name == "borg" {
		forget = []string{"delete", "::"}
	}
	for i, dir := range dirs {
		args := []string{"backup", "-q", "--json", dir}
		if name == "borg" {
			args = []string{"create", "-C", "zstd,1", fmt.Sprintf("::part%d", i), dir}
		}
		t, err := run(args...)
		if err != nil {
			return 0, err
		}
		if i%2 == 0 {
			continue
		}
		if name == "borg" {
			forget = append(forget, fmt.Sprintf("part%d", i))
			continue
		}
		var sum struct {
			ID string `json:"snapshot_id"`
		}
		for line := range strings.Lines(t.out) {
			_ = json.Unmarshal([]byte(line), &sum) // the summary is the line that has it
		}
		forget = append(forget, sum.ID)
	}
	settle()
	commands := [][]string{forget}
	if name == "borg" {
		commands = append(commands, []string{"compact", "--threshold", "0"})
	}
	return b.timeAll(run, commands)
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
