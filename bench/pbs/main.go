// Command pbs measures what the protocol costs: backups, restores and uploads
// over TLS on this machine against the same done without a server, in the same
// run, one after the other in turn. A node and its client are two processes of
// the built binary and share the processors; without a server it is one process.
//
//	go run ./bench/pbs [-bin bin/holdfast] [-dir DIR] [-tree 500] [-image 300] [-rounds 3] [-run tls,backup,restore,many,far]
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
)

// bench is one run.
type bench struct {
	dir, bin    string
	treeN, imgN int // MiB
	rounds      int
	out         *tabwriter.Writer
	missed      int
	node        *node
	tlsCost     float64 // seconds of processor for each byte through TLS, both ends
}

func main() {
	bin := flag.String("bin", "", "the program to measure; default: built from the source")
	dir := flag.String("dir", "", "directory on the disk to measure; default: a temporary one")
	tree := flag.Int("tree", 500, "MiB of the tree")
	image := flag.Int("image", 300, "MiB of the image")
	rounds := flag.Int("rounds", 3, "how often everything is done; the best of each counts")
	only := flag.String("run", "", "comma-separated parts: tls, backup, restore, many, far; default: all")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	b := &bench{bin: *bin, treeN: *tree, imgN: *image, rounds: *rounds}
	if err := b.run(ctx, *dir, *only); err != nil {
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
	if b.bin == "" {
		b.bin = b.path("holdfast")
		if text, err := exec.CommandContext(ctx, "go", "build", "-o", b.bin, "./cmd/holdfast").CombinedOutput(); err != nil {
			return fmt.Errorf("build: %w: %s", err, text)
		}
	}
	if err := b.makeData(); err != nil {
		return fmt.Errorf("make data: %w", err)
	}
	if b.node, err = b.startNode(ctx); err != nil {
		return fmt.Errorf("start the node: %w", err)
	}
	defer b.node.stop()
	fmt.Fprintln(b.out, "what\tours\tagainst\tratio\twanted\t")
	if err := b.parts(ctx, only); err != nil {
		return err
	}
	if b.missed > 0 {
		fmt.Printf("\n%d figures miss what is wanted\n", b.missed)
	}
	return nil
}

func (b *bench) parts(ctx context.Context, only string) error {
	var err error
	if b.tlsCost, err = b.rawTLS(b.rounds); err != nil {
		return err
	}
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
// without one, the processor time of both for so many MiB, and what it would
// be if the protocol cost no more than least, in seconds of processor.
func (b *bench) compare(what string, ours, theirs costs, mib int, least float64) {
	o, t := ours.best(), theirs.best()
	b.row(what, o, t, "s", t/o, ">= 0.75", t/o >= 0.75)
	total, server := ours.processors(mib)
	direct, _ := theirs.processors(mib)
	limit := direct + least*1000/(float64(mib)*1.048576)
	fmt.Fprintf(b.out, "  processors\t%.2f ms/MB (server %.2f)\t%.2f ms/MB\t%.2f\tat most %.2f\t\n", total, server, direct, direct/total, direct/limit)
	b.out.Flush()
}

func (b *bench) path(name ...string) string {
	return filepath.Join(append([]string{b.dir}, name...)...)
}
