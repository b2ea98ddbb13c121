package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
)

// asHoldfast makes the test binary run as the program.
const asHoldfast = "HOLDFAST_TEST_AS_PROGRAM"

// program is the binary with arguments, as a process of its own.
func program(t *testing.T, store string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), asHoldfast+"=1", "PBS_REPOSITORY="+store, "XDG_CONFIG_HOME="+t.TempDir())
	return cmd
}

// kills is how many processes the test kills.
func kills() int {
	if n, err := strconv.Atoi(os.Getenv("HOLDFAST_SOAK_KILLS")); err == nil {
		return n
	}
	if os.Getenv("HOLDFAST_SOAK") != "" {
		return 300
	}
	return 15
}

// Whatever a process was doing when it was killed, every snapshot that one
// said it had made is there and whole, and nobody has to help.
func TestKilledProcessesLoseNoSnapshot(t *testing.T) {
	dir := t.TempDir()
	store, source := filepath.Join(dir, "store"), filepath.Join(dir, "source")
	must(t, program(t, store, "datastore", "init", "--pack-size", "16", store))
	must(t, program(t, store, "datastore", "update", "--trash-delay", "0s"))
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	made := map[string]map[string][]byte{} // what each acknowledged snapshot holds
	at := int64(1_700_000_000)
	longest := time.Minute // the first is not killed, and tells how long one takes
	for i := range kills() + 1 {
		content := change(t, source, rng)
		at += 3600
		args := []string{"backup", "tree.pxar:" + source, "--backup-id", "k", "--backup-time", fmt.Sprint(at), "--output-format", "json", "-q"}
		if i%5 == 4 {
			args = [][]string{{"prune", "--keep-last", "3"}, {"datastore", "gc"}, {"datastore", "verify", "--ignore-verified=false"}}[rng.IntN(3)]
		}
		began, after := time.Now(), longest
		if i > 0 {
			after = time.Duration(rng.Int64N(int64(longest)))
		}
		out, finished := killed(t, program(t, store, args...), after)
		if i == 0 {
			longest = time.Since(began) * 3 / 2
		}
		var said struct{ Snapshot string }
		if args[0] == "backup" && json.Unmarshal(out, &said) == nil && said.Snapshot != "" {
			made[said.Snapshot] = content
		}
		if args[0] == "backup" && finished && said.Snapshot == "" {
			t.Fatalf("a backup that nobody killed said %q", out)
		}
	}
	check(t, store, made)
}

// change writes some files anew and returns what all of them contain.
func change(t *testing.T, source string, rng *rand.Rand) map[string][]byte {
	t.Helper()
	content := map[string][]byte{}
	if err := os.MkdirAll(source, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 12 {
		name := filepath.Join(source, fmt.Sprint("file-", i))
		b, err := os.ReadFile(name)
		if err != nil || rng.IntN(4) == 0 {
			b = chunktest.Random(rng.Uint64(), rng.IntN(1<<20))
			if err := os.WriteFile(name, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		content[filepath.Base(name)] = b
	}
	return content
}

// killed runs a program for a time and kills it. It returns what was printed,
// and whether it had ended before.
func killed(t *testing.T, cmd *exec.Cmd, after time.Duration) (out []byte, finished bool) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	finished = timer.Stop()
	if finished && err != nil {
		t.Fatalf("%v: %v: %s", cmd.Args, err, stderr.Bytes())
	}
	return stdout.Bytes(), finished
}

// check restores every snapshot that is there and compares; those that were
// pruned may be gone.
func check(t *testing.T, store string, made map[string]map[string][]byte) {
	t.Helper()
	must(t, program(t, store, "datastore", "verify", "--ignore-verified=false"))
	list, err := catalog.Tree{FS: disk.OS{}, Dir: store}.List(t.Context(), catalog.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, i := range list {
		s := i.Snapshot().String()
		there[s] = true
		if !i.Finished() {
			t.Errorf("%s is left unfinished", s)
			continue
		}
		if made[s] == nil {
			continue // it was finished, and killed before it said so
		}
		out := filepath.Join(t.TempDir(), "out")
		must(t, program(t, store, "restore", s, "tree.pxar", out))
		for name, want := range made[s] {
			if got, err := os.ReadFile(filepath.Join(out, name)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: file %s is not what it was: %v", s, name, err)
			}
		}
	}
	newest := ""
	for s := range made {
		newest = max(newest, s)
	}
	if newest != "" && !there[newest] {
		t.Errorf("the last snapshot that was made, %s, is not there", newest)
	}
	if left, err := os.ReadDir(filepath.Join(store, "running")); err == nil && len(left) > 0 {
		t.Errorf("%d notes of running backups are left", len(left))
	}
	t.Logf("%d snapshots acknowledged, %d there", len(made), len(list))
}

func must(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(cmd.Args[1:], " "), err, out)
	}
}

// While one process works on a store, another is told so, and what only reads
// directories works all the same.
func TestLockedStoreSaysSo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	var out bytes.Buffer
	run := func(args ...string) int {
		out.Reset()
		return run(t.Context(), cli.Env{Out: &out, Err: &out, Getenv: func(string) string { return "" }}, append(args, "--repository", dir))
	}
	if code := run("datastore", "init", dir); code != 0 {
		t.Fatal(out.String())
	}
	d, err := catalog.Open(t.Context(), catalog.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if code := run("backup", "hosts.conf:/etc/hosts", "--backup-id", "x"); code != 1 || !strings.Contains(out.String(), "in use by another process") {
		t.Errorf("status %d: %s", code, &out)
	}
	if code := run("snapshot", "list"); code != 0 {
		t.Errorf("snapshot list ends with %d: %s", code, &out)
	}
	if err := errors.Join(d.Close()); err != nil {
		t.Fatal(err)
	}
	if code := run("backup", "hosts.conf:/etc/hosts", "--backup-id", "x"); code != 0 {
		t.Errorf("afterwards status %d: %s", code, &out)
	}
}
