package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
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

// timed notes what do costs, after the disk has settled. The server may be nil.
func timed(into *costs, s *server, do func() error) error {
	unix.Sync()
	client, there := used(), s.used()
	began := time.Now()
	if err := do(); err != nil {
		return err
	}
	*into = append(*into, cost{time.Since(began), used() - client, s.used() - there})
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

// used returns the processor time of a server, to a hundredth of a second.
func (s *server) used() time.Duration {
	if s == nil {
		return 0
	}
	return usedBy(s.cmd)
}

func usedBy(cmd *exec.Cmd) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
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

// profiled writes a CPU profile of this process into dir, if there is one,
// until the result is called.
func profiled(dir, name string) (stop func(), err error) {
	if dir == "" {
		return func() {}, nil
	}
	f, err := os.Create(filepath.Join(dir, name+".cpu"))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close()
	}, nil
}
