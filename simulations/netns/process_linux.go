package netns

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// mark is the variable in the environment of every process of a lab. It says
// which process the lab belongs to, and when that one began.
const mark = "HOLDFAST_NETNS_LAB"

// A Process runs on a host.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // how it ended; valid once done is closed
}

// Start starts cmd on the host. It is killed when the lab closes, or when this
// process ends.
func (h *Host) Start(cmd *exec.Cmd) *Process {
	h.lab.t.Helper()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.Env = append(cmd.Environ(), mark+"="+lifeOf(os.Getpid()))
	if cmd.WaitDelay == 0 {
		cmd.WaitDelay = time.Second // or a grandchild that keeps its output open delays Wait for ever
	}
	if err := h.lab.starter.do(func() error { return h.space.do(cmd.Start) }); err != nil {
		h.lab.t.Fatalf("start %s on host %s: %v", cmd.Path, h.Name, err)
	}
	p := &Process{cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	h.lab.mu.Lock()
	h.lab.processes = append(h.lab.processes, p)
	h.lab.mu.Unlock()
	return p
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits until the process has ended and returns how, as exec.Cmd.Wait does.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// Signal sends a signal: SIGSTOP and SIGCONT suspend and resume the process.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Kill ends the process as a power cut would, and waits until it is gone.
func (p *Process) Kill() {
	p.cmd.Process.Kill() // fails only if it has ended
	<-p.done
}

// A starter starts processes on a thread that lives as long as the lab. The
// kernel kills them when the thread that started them ends, and any other
// thread of a Go program may.
type starter struct{ jobs chan func() }

func newStarter() starter {
	s := starter{make(chan func())}
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for job := range s.jobs {
			job()
		}
	}()
	return s
}

func (s starter) do(f func() error) error {
	result := make(chan error)
	s.jobs <- func() { result <- f() }
	return <-result
}

func (s starter) close() { close(s.jobs) }

// killInside kills every process that is in one of the namespaces and not this
// one: children of what Start started.
func killInside(spaces []*namespace) {
	ids := map[uint64]bool{}
	for _, s := range spaces {
		ids[s.id] = true
	}
	killIf(func(pid int) bool { return inside(pid, ids) })
}

// sweep kills what labs of processes that have ended left running.
func sweep() {
	killIf(func(pid int) bool {
		env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
		if err != nil {
			return false // it has ended
		}
		for v := range bytes.SplitSeq(env, []byte{0}) {
			if life, ok := bytes.CutPrefix(v, []byte(mark+"=")); ok {
				return !alive(string(life))
			}
		}
		return false
	})
}

// killIf kills every process that it applies to, except this one, and waits
// until they are gone, at most a second.
func killIf(applies func(pid int) bool) {
	for range 100 {
		found := false
		entries, _ := os.ReadDir("/proc")
		for _, e := range entries {
			pid, err := strconv.Atoi(e.Name())
			if err == nil && pid != os.Getpid() && applies(pid) {
				found = true
				unix.Kill(pid, unix.SIGKILL)
			}
		}
		if !found {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// lifeOf names one life of a process: its number and when it began, or "" if
// none of that number runs.
func lifeOf(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The second field is the program's name in parentheses, which may hold
	// anything; the third is its state, the 22nd when it began.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return "" // ended, and nobody has asked how
	}
	return fmt.Sprintf("%d-%s", pid, fields[19])
}

// alive reports whether the process of a life still runs.
func alive(life string) bool {
	pid, err := strconv.Atoi(life[:max(strings.IndexByte(life, '-'), 0)])
	return err == nil && lifeOf(pid) == life
}
