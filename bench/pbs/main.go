// Command pbs measures what the protocol costs: backups, restores and uploads
// over TLS on this machine against the same done without a server, in the same
// run, one after the other in turn. Client and server share the processors.
//
//	go run ./bench/pbs [-dir DIR] [-tree 500] [-image 300] [-rounds 3] [-run tls,backup,restore,many,far]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// bench is one run.
type bench struct {
	dir, profile string
	treeN, imgN  int // MiB
	rounds       int
	out          *tabwriter.Writer
	missed       int
	lastSnapshot int64
}

func main() {
	dir := flag.String("dir", "", "directory on the disk to measure; default: a temporary one")
	tree := flag.Int("tree", 500, "MiB of the tree")
	image := flag.Int("image", 300, "MiB of the image")
	rounds := flag.Int("rounds", 3, "how often everything is done; the best of each counts")
	only := flag.String("run", "", "comma-separated parts: tls, backup, restore, many, far; default: all")
	profile := flag.String("profile", "", "write CPU profiles of both ends into this directory")
	serve := flag.String("serve", "", "be the server of another such process, on stores below this directory")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := error(nil)
	if *serve != "" {
		err = serveUntilEOF(ctx, *serve, *profile)
	} else {
		b := &bench{profile: *profile, treeN: *tree, imgN: *image, rounds: *rounds, lastSnapshot: 1_700_000_000}
		err = b.run(ctx, *dir, *only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run does the parts of the measurement that only names, or all.
func (b *bench) run(ctx context.Context, dir, only string) error {
	work, err := os.MkdirTemp(dir, "holdfast-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	b.dir, b.out = work, tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Printf("%s, %d processors, %s\n", runtime.Version(), runtime.NumCPU(), time.Now().Format("2006-01-02"))
	if err := b.makeData(); err != nil {
		return fmt.Errorf("make data: %w", err)
	}
	fmt.Fprintln(b.out, "what\tours\tagainst\tratio\twanted\t")
	stop, err := profiled(b.profile, "client")
	if err != nil {
		return err
	}
	defer stop()
	for _, part := range []struct {
		name string
		do   func(context.Context) error
	}{{"tls", b.tls}, {"backup", b.backup}, {"restore", b.restore}, {"many", b.many}, {"far", b.far}} {
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

// row prints a figure beside another one, and what is wanted of their ratio.
func (b *bench) row(what string, ours, against float64, unit string, ratio float64, wanted string, ok bool) {
	mark := ""
	if !ok {
		mark = "MISSED"
		b.missed++
	}
	fmt.Fprintf(b.out, "%s\t%.3g %s\t%.3g %s\t%.2f\t%s\t%s\n", what, ours, unit, against, unit, ratio, wanted, mark)
	b.out.Flush()
}

// compare prints what something took through a server beside what it took
// without one, and the processor time of both, for so many MiB.
func (b *bench) compare(what string, ours, theirs costs, mib int) {
	o, t := ours.best(), theirs.best()
	total, server := ours.processors(mib)
	direct, _ := theirs.processors(mib)
	b.row(what, o, t, "s", t/o, ">= 0.75", t/o >= 0.75)
	fmt.Fprintf(b.out, "  processors\t%.2f ms/MB (server %.2f)\t%.2f ms/MB\t%.2f\t\t\n", total, server, direct, direct/total)
	b.out.Flush()
}

func (b *bench) path(name ...string) string {
	return filepath.Join(append([]string{b.dir}, name...)...)
}
