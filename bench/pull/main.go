// Command pull measures what pulls promise: the real engine, over real tunnels,
// over a simulated network or on loopback, each figure against a named limit in
// the same run.
//
//	go run ./bench/pull [-run line,loss,sources,rate,idle,small,changed,local,killed] [-size 1024] [-dir DIR] [-cpuprofile PREFIX]
//
// The rows "local" and "killed" use processes of their own, on loopback; the
// others run all nodes and the network between them in this one, whose price is
// in their figures. Rates of a line count the headers of packets, of which one
// byte in ten is: the largest share of it that content can have is printed.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"time"
)

// A row measures one line, or a few, of the table.
type row struct {
	name string
	run  func(context.Context, *bench) error
}

var rows = []row{
	{"line", line},
	{"loss", loss},
	{"sources", sources},
	{"rate", limited},
	{"idle", idle},
	{"small", small},
	{"changed", changed},
	{"local", local},
	{"killed", killed},
}

// bench is what a row works with.
type bench struct {
	size  int // MiB to be pulled
	dir   string
	fails int
}

func main() {
	child := flag.String("child", "", "for this program only: the part of a second process")
	only := flag.String("run", "", "comma-separated rows; default: all")
	b := &bench{}
	flag.IntVar(&b.size, "size", 1024, "MiB that rows pull over a line")
	flag.StringVar(&b.dir, "dir", "", "where datastores are made; default: the directory for temporary files")
	profile := flag.String("cpuprofile", "", "write profiles of the processor to files of this prefix, one for each process")
	flag.Parse()
	if *profile != "" {
		os.Setenv(profiles, *profile)
	}
	end, err := profiled(*child)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/pull:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *child != "" {
		err = runChild(ctx, strings.Fields(*child))
	} else {
		err = runRows(ctx, *only, b)
	}
	end()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/pull:", err)
		os.Exit(1)
	}
}

// profiles is a variable with the prefix of files for profiles.
const profiles = "HOLDFAST_BENCH_PULL_PROFILE"

// profiled takes a profile of this process, if that is wanted, until end is called.
func profiled(part string) (end func(), err error) {
	prefix := os.Getenv(profiles)
	if prefix == "" {
		return func() {}, nil
	}
	name, _, _ := strings.Cut(part, " ")
	f, err := os.Create(fmt.Sprintf("%s-%s-%d.pprof", prefix, cmp.Or(name, "all"), os.Getpid()))
	if err != nil {
		return nil, err
	}
	return func() { pprof.StopCPUProfile(); f.Close() }, pprof.StartCPUProfile(f)
}

func runRows(ctx context.Context, only string, b *bench) error {
	dir, err := os.MkdirTemp(b.dir, "holdfast-bench-pull-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b.dir = dir
	fmt.Printf("%s, %d processors, %s\n\n", runtime.Version(), runtime.NumCPU(), time.Now().Format(time.DateTime))
	for _, r := range rows {
		if only != "" && !slices.Contains(strings.Split(only, ","), r.name) {
			continue
		}
		if err := r.run(ctx, b); err != nil {
			return fmt.Errorf("row %s: %w", r.name, err)
		}
	}
	if b.fails > 0 {
		return fmt.Errorf("%d figures miss their mark", b.fails)
	}
	return nil
}

// show prints a figure beside its mark.
func (b *bench) show(what string, got float64, unit, mark string, ok bool) {
	verdict := "ok"
	if !ok {
		verdict = "MISSED"
		b.fails++
	}
	fmt.Printf("%-66s %10.3f %-8s want %-10s %s\n", what, got, unit, mark, verdict)
}
