package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A cost is what something took: time, and processors at both ends.
type cost struct{ wall, client, server time.Duration }

// costs are those of the same thing, done over and over.
type costs []cost

// best returns the least time in seconds.
func (c costs) best() float64 { return slices.MinFunc(c, byWall).wall.Seconds() }

func byWall(a, b cost) int { return int(a.wall - b.wall) }

// processors returns the least processor time of both ends in milliseconds per
// MB, and how much of it was the server's.
func (c costs) processors(mib int) (total, server float64) {
	least := slices.MinFunc(c, func(a, b cost) int { return int(a.client + a.server - b.client - b.server) })
	per := float64(mib) * 1.048576
	return float64((least.client + least.server).Microseconds()) / 1000 / per, float64(least.server.Microseconds()) / 1000 / per
}

// timed notes what a command costs, and a node meanwhile, after the disk has
// settled. The node may be nil.
func timed(into *costs, n *node, cmd *exec.Cmd) error {
	unix.Sync()
	there, began := n.used(), time.Now()
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("holdfast %v: %w: %s", cmd.Args[1:], err, text)
	}
	wall := time.Since(began)
	*into = append(*into, cost{wall, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), n.used() - there})
	return nil
}

// used returns the processor time of this process.
func used() time.Duration {
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// used returns the processor time of a node, to a hundredth of a second.
func (n *node) used() time.Duration {
	if n == nil {
		return 0
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// memory returns a figure of the node's memory in bytes: VmRSS or VmHWM.
func (n *node) memory(figure string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, figure+":"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("no %s", figure)
}
