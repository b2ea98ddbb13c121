// Command backup measures what a person with a disk does: back up a tree and
// an image, again after changes, restore, forget and collect. Every figure
// stands beside that of restic and borg (Debian's packages) or of the
// processor alone, taken in the same run.
//
//	go run ./bench/backup -bin bin/holdfast [-dir DIR] [-scale 1] [-run first,second]
//
// The data are made on the spot: a tree of 20,000 files and 3 GiB (text like
// source code, binaries, noise, duplicates) with a second generation in which
// 2 % of the files are others and 1 % have bytes inserted; and a disk image of
// 2 GiB with an ext4 file system in it, in two generations. With -scale 0.1
// there is a tenth of it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// bench is one run.
type bench struct {
	bin, dir string
	scale    float64
	out      *tabwriter.Writer
	missed   int
	later    []change // of the second generation
	gen      int      // of the last backups
}

func main() {
	bin := flag.String("bin", "bin/holdfast", "the holdfast binary")
	dir := flag.String("dir", "", "directory on the disk to measure; default: a temporary one")
	only := flag.String("run", "", "comma-separated parts: first, limits, second, restore, one, collect, list; default: all")
	keep := flag.Bool("keep", false, "leave data and repositories where they are")
	scale := flag.Float64("scale", 1, "how much of the data to use")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *bin, *dir, *only, *scale, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin, dir, only string, scale float64, keep bool) error {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp(dir, "holdfast-bench-")
	if err != nil {
		return err
	}
	if !keep {
		defer os.RemoveAll(work)
	}
	b := &bench{bin: bin, dir: work, scale: scale, out: tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)}
	fmt.Printf("%s, %d processors, %s\n", runtime.Version(), runtime.NumCPU(), time.Now().Format("2006-01-02"))
	began := time.Now()
	if err := b.makeData(ctx); err != nil {
		return fmt.Errorf("make data: %w", err)
	}
	fmt.Printf("data made in %.0f s: a tree of %s in %d files, an image of %s\n\n", time.Since(began).Seconds(), mib(b.treeBytes()), b.files(), mib(b.imageBytes()))
	fmt.Fprintln(b.out, "what\tours\tagainst\tratio\twanted\t")
	for _, part := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"first", b.first}, {"limits", b.limits}, {"second", b.second}, {"restore", b.restore},
		{"one", b.oneFile}, {"collect", b.collect}, {"list", b.list},
	} {
		if only != "" && !slices.Contains(strings.Split(only, ","), part.name) {
			continue
		}
		if err := part.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		b.out.Flush()
	}
	if b.missed > 0 {
		fmt.Printf("\n%d figures miss what is wanted\n", b.missed)
	}
	return nil
}

// row prints a figure: ours, that of a peer, and what is wanted of their ratio.
func (b *bench) row(what string, ours, theirs float64, unit, peer string, ratio float64, wanted string, ok bool) {
	mark := ""
	if !ok {
		mark = "MISSED"
		b.missed++
	}
	against := ""
	if peer != "" {
		against = fmt.Sprintf("%.3g %s (%s)", theirs, unit, peer)
	}
	fmt.Fprintf(b.out, "%s\t%.3g %s\t%s\t%.2f\t%s\t%s\n", what, ours, unit, against, ratio, wanted, mark)
	b.out.Flush()
}

// faster compares durations: how many times as fast as the peer we are.
func (b *bench) faster(what string, ours, theirs time.Duration, peer string, want float64) {
	r := theirs.Seconds() / ours.Seconds()
	b.row(what, ours.Seconds(), theirs.Seconds(), "s", peer, r, fmt.Sprintf(">= %g x", want), r >= want)
}

// atMost compares a figure with a limit.
func (b *bench) atMost(what string, got, limit float64, unit string) {
	b.row(what, got, limit, unit, "limit", got/limit, fmt.Sprintf("<= %g %s", limit, unit), got <= limit)
}

// A timing is what a process took.
type timing struct {
	took time.Duration
	rss  int64 // bytes at the most
	out  string
}

// time runs a program and returns what it took. Its status must be 0.
func (b *bench) time(ctx context.Context, env []string, name string, args ...string) (timing, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Env = append(cmd.Env, "XDG_CONFIG_HOME="+filepath.Join(b.dir, "config"), "XDG_CACHE_HOME="+filepath.Join(b.dir, "cache"))
	var errs strings.Builder
	cmd.Stderr = &errs
	var out strings.Builder
	cmd.Stdout = &out
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return timing{}, err
	}
	rss := make(chan int64)
	ended := make(chan struct{})
	go func() { rss <- watchMemory(cmd.Process.Pid, ended) }()
	err := cmd.Wait()
	t := timing{took: time.Since(began), out: out.String()}
	close(ended)
	t.rss = <-rss
	if err != nil {
		return t, fmt.Errorf("%s %s: %w: %s", filepath.Base(name), args[0], err, errs.String())
	}
	return t, nil
}

// holdfast runs the binary on a store.
func (b *bench) holdfast(ctx context.Context, store string, args ...string) (timing, error) {
	return b.time(ctx, []string{"PBS_REPOSITORY=" + store}, b.bin, args...)
}

func mib(n int64) string { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }

// warm reads a tree, so that it is in the page cache; cold throws the cache
// away, and reports whether it could.
func warm(dir string) {
	_ = exec.Command("sh", "-c", "find '"+dir+"' -type f -print0 | xargs -0 cat >/dev/null").Run()
}

func cold() bool {
	unix.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0) == nil
}

// settle lets the disk finish what the last measurement left behind.
func settle() {
	unix.Sync()
	time.Sleep(500 * time.Millisecond)
}
