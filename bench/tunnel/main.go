// Command tunnel measures what the tunnel promises, each figure against a named
// peer or limit in the same run.
//
//	go run ./bench/tunnel [-run speed,wan,loss,relay,rotate,idle] [-seconds 3] [-rounds 3]
//
// The rows "speed" and "idle" use two processes that share the machine; the
// others run both ends in one process over a simulated network, whose price is
// in their figures. Sides that are compared take turns.
package main

import (
	"context"
	"errors"
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
	{"speed", speed},
	{"wan", wan},
	{"loss", loss},
	{"relay", blackhole},
	{"rotate", rotate},
	{"idle", idle},
}

// bench is what a row works with.
type bench struct {
	seconds time.Duration
	rounds  int
	profile string
	fails   int
}

func main() {
	child := flag.String("child", "", "for this program only: the part of a second process")
	only := flag.String("run", "", "comma-separated rows; default: all")
	b := &bench{}
	flag.DurationVar(&b.seconds, "seconds", 3*time.Second, "time of each measurement")
	flag.IntVar(&b.rounds, "rounds", 3, "rounds of rows that compare")
	flag.StringVar(&b.profile, "cpuprofile", "", "write profiles of the processor to files of this prefix")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := error(nil)
	if *child != "" {
		err = runChild(ctx, *child, b)
	} else {
		err = runRows(ctx, *only, b)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/tunnel:", err)
		os.Exit(1)
	}
}

func runRows(ctx context.Context, only string, b *bench) error {
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
	fmt.Printf("%-62s %10.2f %-10s want %-10s %s\n", what, got, unit, mark, verdict)
}

func median(v []float64) float64 {
	s := slices.Clone(v)
	slices.Sort(s)
	return s[len(s)/2]
}

// profiled runs f with a profile of the processor, if one is asked for.
func (b *bench) profiled(name string, f func() error) error {
	if b.profile == "" {
		return f()
	}
	out, err := os.Create(b.profile + name)
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(out); err != nil {
		return err
	}
	err = f()
	pprof.StopCPUProfile()
	return errors.Join(err, out.Close())
}
