// Command bench measures what the project claims, each figure as a ratio
// against a named peer or limit in the same run, and prints a table.
//
//	go run ./bench [-run ingest,gc] [-dir DIR] [-quick]
//
// Every figure is the median of several rounds in which both sides take
// turns, so that a disk or a neighbour that has a slow minute slows both. The
// page cache and the kernel's file names are dropped where the row says cold,
// which takes root; without it such rows say so.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// A suite measures one part.
type suite struct {
	name, what string
	run        func(context.Context, *bench) error
}

var suites = []suite{
	{"ingest", "storing chunks against a file for each chunk", ingestSuite},
	{"pipeline", "split + SHA-256 + zstd + CRC with a store against the same without", pipelineSuite},
	{"gc", "mark and plan against touching and looking at files; reclaim", gcSuite},
	{"index", "lookups, memory, open, rebuild", indexSuite},
	{"scrub", "scrub against the disk, deep verify against the processor", scrubSuite},
}

// bench is what a suite works with.
type bench struct {
	dir   string // on the disk to be measured
	quick bool
	out   *tabwriter.Writer
	fails int
}

func main() {
	only := flag.String("run", "", "comma-separated suites; default: all")
	dir := flag.String("dir", "", "directory on the disk to measure; default: a temporary one")
	quick := flag.Bool("quick", false, "a tenth of the data, one round: to see that it works")
	profile := flag.String("cpuprofile", "", "write a profile of the processor here")
	flag.Parse()
	if *profile != "" {
		f, err := os.Create(*profile)
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		defer pprof.StopCPUProfile()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := runSuites(ctx, *only, *dir, *quick); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func runSuites(ctx context.Context, only, dir string, quick bool) error {
	work, err := os.MkdirTemp(dir, "holdfast-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	b := &bench{dir: work, quick: quick, out: tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)}
	fmt.Printf("%s, %d processors, %s, %s\n", runtime.Version(), runtime.NumCPU(), machine(), time.Now().Format("2006-01-02"))
	for _, s := range suites {
		if only != "" && !slices.Contains(strings.Split(only, ","), s.name) {
			continue
		}
		fmt.Printf("\n%s: %s\n", s.name, s.what)
		fmt.Fprintln(b.out, "  what\tours\tagainst\tratio\twanted\t")
		if err := s.run(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		b.out.Flush()
	}
	if b.fails > 0 {
		fmt.Printf("\n%d figures miss what is wanted\n", b.fails)
	}
	return nil
}

// row prints one figure. ok is whether it is what is wanted.
func (b *bench) row(what, ours, against, ratio, wanted string, ok bool) {
	mark := ""
	if !ok {
		mark = "MISSED"
		b.fails++
	}
	fmt.Fprintf(b.out, "  %s\t%s\t%s\t%s\t%s\t%s\n", what, ours, against, ratio, wanted, mark)
	b.out.Flush()
}

// atLeast prints a speed against another of the same unit.
func (b *bench) atLeast(what string, ours, theirs float64, unit, peer string, want float64) {
	r := ours / theirs
	b.row(what, fmt.Sprintf("%.4g %s", ours, unit), fmt.Sprintf("%.4g %s (%s)", theirs, unit, peer),
		fmt.Sprintf("%.2f", r), fmt.Sprintf(">= %g", want), r >= want)
}

// atMost prints a figure against a limit.
func (b *bench) atMost(what string, got float64, unit string, limit float64) {
	b.row(what, fmt.Sprintf("%.4g %s", got, unit), "", "", fmt.Sprintf("<= %g %s", limit, unit), got <= limit)
}

// limit prints what the machine can do at most, where a figure was missed, and
// the ratio to the same peer (0: none).
func (b *bench) limit(what string, got, theirs float64, unit string) {
	ratio := ""
	if theirs > 0 {
		ratio = fmt.Sprintf("%.2f", got/theirs)
	}
	b.row("  "+what, fmt.Sprintf("%.4g %s", got, unit), "", ratio, "", true)
}

// rounds is how often a pair is measured.
func (b *bench) rounds(n int) int {
	if b.quick {
		return 1
	}
	return n
}

// scaled is a number of things, fewer of them with -quick.
func (b *bench) scaled(n int) int {
	if b.quick {
		return max(n/10, 1)
	}
	return n
}

// sub makes an empty directory.
func (b *bench) sub(name string) (string, error) {
	dir := filepath.Join(b.dir, name)
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o700)
}

// paired runs the two sides in turns and returns the median of each.
func paired(rounds int, ours, theirs func() (float64, error)) (a, b float64, err error) {
	var as, bs []float64
	for range rounds {
		x, err := ours()
		if err != nil {
			return 0, 0, err
		}
		y, err := theirs()
		if err != nil {
			return 0, 0, err
		}
		as, bs = append(as, x), append(bs, y)
	}
	return median(as), median(bs), nil
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

// dropCaches empties the page cache and forgets the kernel's file names. It
// reports whether it could.
func dropCaches() bool {
	unix.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0) == nil
}

// settle lets the disk finish what the last measurement left behind.
func settle() {
	unix.Sync()
	runtime.GC()
	time.Sleep(300 * time.Millisecond)
}

// machine names the processor.
func machine() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.Trim(name, "\t :\n")
		}
	}
	return runtime.GOARCH
}
