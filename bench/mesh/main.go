// Command mesh measures meshes that have nothing to do but to be one.
//
//	go run ./bench/mesh [-run idle] [-nodes 3] [-settle 2m] [-for 1m] [-profile DIR]
//	go run ./bench/mesh -run crowd [-nodes 50]
//	go run ./bench/mesh -run eject [-nodes 10] [-times 10]
//
// idle has a few daemons on this machine become one cluster and rest, and prints
// the share of one core of each, how often a second its threads woke up, which a
// busy machine changes little, its memory, and, where we may see packets, what it
// sends and receives. With -profile, each leaves a profile
// of its processor in DIR. crowd has many nodes in this one process, over a network
// in memory, and prints how long they take to be one after they have started, and
// after a partition. eject prints how long it takes until all others have cut off a
// node that operators remove at one of them. On a machine that does something else
// times and shares say little.
package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-mesh/holdfast/node"
)

func main() {
	only := flag.String("run", "idle", "what to measure: idle, crowd or eject")
	nodes := flag.Int("nodes", 0, "nodes; 0: 3, or 50 in a crowd, or 10 of which one is ejected")
	times := flag.Int("times", 10, "how many times a node is ejected")
	settle := flag.Duration("settle", 2*time.Minute, "rest before it is measured")
	long := flag.Duration("for", time.Minute, "how long it is measured")
	profile := flag.String("profile", "", "directory for profiles of the processor")
	daemon := flag.String("daemon", "", "directory of a node: run it (for this program itself)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := fmt.Errorf("nothing is called %q", *only)
	switch {
	case *daemon != "":
		err = run(ctx, *daemon, *profile)
	case *only == "idle":
		err = idle(ctx, cmp.Or(*nodes, 3), *settle, *long, *profile)
	case *only == "crowd":
		err = crowd(ctx, cmp.Or(*nodes, 50))
	case *only == "eject":
		err = ejections(ctx, cmp.Or(*nodes, 10), *times)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench mesh:", err)
		os.Exit(1)
	}
}

// run is a daemon, until it is told to end.
func run(ctx context.Context, dir, profile string) error {
	cfg, err := node.ReadConfig(dir)
	if err != nil {
		return err
	}
	n, err := node.New(cfg)
	if err != nil {
		return err
	}
	if profile == "" {
		return n.Run(ctx)
	}
	f, err := os.Create(filepath.Join(profile, cfg.Name+".pprof"))
	if err != nil {
		return errors.Join(err, n.Close())
	}
	defer f.Close()
	if err := pprof.StartCPUProfile(f); err != nil {
		return errors.Join(err, n.Close())
	}
	defer pprof.StopCPUProfile()
	return n.Run(ctx)
}

// idle makes a cluster, lets it rest, and prints what each node costs.
func idle(ctx context.Context, nodes int, settle, long time.Duration, profile string) error {
	dir, err := os.MkdirTemp("", "hf")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "holdfast")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", bin, "./cmd/holdfast").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, out)
	}
	seen, err := listen()
	if err != nil {
		fmt.Println("traffic is not measured:", err)
	} else {
		counts, stop := context.WithCancel(ctx)
		seen.done.Go(func() { seen.run(counts) })
		defer seen.done.Wait()
		defer stop()
	}
	var pids []int
	for i := range nodes {
		at := filepath.Join(dir, strconv.Itoa(i))
		if err := admit(ctx, bin, dir, at, i); err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, os.Args[0], "-daemon", at, "-profile", profile)
		cmd.Stderr = os.Stderr
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		if err := cmd.Start(); err != nil {
			return err
		}
		defer func() {
			cmd.Process.Signal(syscall.SIGTERM)
			cmd.Wait()
		}()
		pids = append(pids, cmd.Process.Pid)
	}
	if err := sleep(ctx, settle); err != nil {
		return err
	}
	return measure(ctx, pids, seen, long)
}

// admit makes a node: the first founds the cluster, and the others join it.
func admit(ctx context.Context, bin, dir, at string, i int) error {
	flags := []string{"--name", "n" + strconv.Itoa(i), "--site", "s" + strconv.Itoa(i), "--listen", "127.0.0.1:0", "--mesh-listen", freePort(loopback(i))}
	call := func(stdin string, args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, bin, args...)
		cmd.Stdin = strings.NewReader(stdin)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, errs.String())
		}
		return string(out), err
	}
	if i == 0 {
		_, err := call("", append([]string{"--data", at, "node", "init"}, flags...)...)
		return err
	}
	var token string
	err := errors.New("not tried")
	for range 100 {
		if token, err = call("", "--data", filepath.Join(dir, "0"), "invite", "create", "-q"); err == nil || sleep(ctx, 100*time.Millisecond) != nil {
			break
		}
	}
	if err != nil {
		return err
	}
	_, err = call(token, append([]string{"--data", at, "node", "join", "-"}, flags...)...)
	return err
}

// freePort is a port of an address that is free for TCP and UDP just now.
func freePort(on netip.Addr) string {
	for {
		l, err := net.Listen("tcp", netip.AddrPortFrom(on, 0).String())
		if err != nil {
			continue
		}
		at := l.Addr().String()
		u, err := net.ListenPacket("udp", at)
		l.Close()
		if err == nil {
			u.Close()
			return at
		}
	}
}

func measure(ctx context.Context, pids []int, seen *traffic, long time.Duration) error {
	sent := make([]int64, len(pids))
	before, began := make([]time.Duration, len(pids)), time.Now()
	woken := make([]int, len(pids))
	for i, pid := range pids {
		woken[i] = wakeups(pid)
		var err error
		if before[i], err = used(pid); err != nil {
			return err
		}
		if seen != nil {
			sent[i] = seen.of(loopback(i))
		}
	}
	if err := sleep(ctx, long); err != nil {
		return err
	}
	var shares []float64
	for i, pid := range pids {
		now, err := used(pid)
		if err != nil {
			return err
		}
		share := 100 * float64(now-before[i]) / float64(time.Since(began))
		shares = append(shares, share)
		often := float64(wakeups(pid)-woken[i]) / time.Since(began).Seconds()
		fmt.Printf("node %d: %.2f %% of a core, %.0f wake-ups a second, %d MiB resident", i, share, often, resident(pid)>>10)
		if seen != nil {
			fmt.Printf(", %.2f KiB/s sent and received", float64(seen.of(loopback(i))-sent[i])/1024/time.Since(began).Seconds())
		}
		fmt.Println()
	}
	slices.Sort(shares)
	fmt.Printf("median %.2f %%, most %.2f %% of a core; at most 1 %% is promised\n", shares[len(shares)/2], shares[len(shares)-1])
	return nil
}

// used is the time that a process has had on a processor.
func used(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	user, err1 := strconv.Atoi(f[11])
	system, err2 := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2)
}

// wakeups is how often threads of a process went on after they had waited.
func wakeups(pid int) (all int) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid)) // the pattern is good
	for _, t := range threads {
		b, _ := os.ReadFile(t) // it may have ended
		_, rest, _ := strings.Cut(string(b), "\nvoluntary_ctxt_switches:")
		n := 0
		fmt.Sscan(rest, &n)
		all += n
	}
	return all
}

// resident is the memory of a process in KiB.
func resident(pid int) (kib int) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	fmt.Sscan(rest, &kib)
	return kib
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
