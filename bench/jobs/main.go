// Command jobs measures what jobs promise: how much of a processor a scheduler takes
// on each of many nodes, and how fast a push is beside a pull of the same data.
//
//	go run ./bench/jobs [-run scheduler,push] [-bin bin/holdfast] [-size 512] [-dir DIR]
//
// Two more figures need no measuring, since they are of virtual time:
//
//	HOLDFAST_SOAK=1 go test ./simulations/jobs -run TestOwnerLost -v   an owner is lost
//	go test ./notify -run TestTenThousandEventsInAMinute -v            events and mails
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
)

// bench is what a row works with.
type bench struct {
	bin, dir string
	size     int // MiB
	fails    int
}

var rows = []struct {
	name string
	run  func(context.Context, *bench) error
}{
	{"scheduler", scheduler},
	{"push", push},
}

func main() {
	b := &bench{}
	only := flag.String("run", "", "comma-separated rows; default: all")
	flag.StringVar(&b.bin, "bin", "bin/holdfast", "the holdfast binary, for the row push")
	flag.IntVar(&b.size, "size", 512, "MiB that are pushed and pulled each time")
	flag.StringVar(&b.dir, "dir", "", "where to work; default: the directory for temporary files")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, b, *only); err != nil {
		fmt.Fprintln(os.Stderr, "jobs:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, b *bench, only string) error {
	dir, err := os.MkdirTemp(b.dir, "holdfast-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b.dir = dir
	names := strings.FieldsFunc(only, func(r rune) bool { return r == ',' })
	for _, r := range rows {
		if len(names) > 0 && !slices.Contains(names, r.name) {
			continue
		}
		if err := r.run(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	if b.fails > 0 {
		return fmt.Errorf("%d figures are not what they should be", b.fails)
	}
	return nil
}

// say prints a figure beside its limit.
func (b *bench) say(what string, got float64, unit, want string, good bool) {
	verdict := "ok"
	if !good {
		verdict = "NOT"
		b.fails++
	}
	fmt.Printf("%-60s %8.3f %-10s want %-8s %s\n", what, got, unit, want, verdict)
}
