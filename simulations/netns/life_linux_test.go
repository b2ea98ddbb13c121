package netns

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/simulations/wan"
)

// A fakeT is a test of its own, to see how a lab treats one that skips or fails.
type fakeT struct {
	*testing.T
	cleanups []func()
	failed   bool
	said     []string
}

func (f *fakeT) Cleanup(c func()) { f.cleanups = append(f.cleanups, c) }
func (f *fakeT) Failed() bool     { return f.failed }
func (f *fakeT) Logf(format string, args ...any) {
	f.said = append(f.said, fmt.Sprintf(format, args...))
}
func (f *fakeT) Errorf(format string, args ...any) {
	f.failed = true
	f.Logf("error: "+format, args...)
}

func (f *fakeT) Fatalf(format string, args ...any) {
	f.failed = true
	f.Logf("fatal: "+format, args...)
	runtime.Goexit()
}

func (f *fakeT) Skipf(format string, args ...any) {
	f.Logf("skip: "+format, args...)
	runtime.Goexit()
}

// run runs a test to its end as package testing does, and returns what it said.
func run(t *testing.T, test func(t *fakeT)) string {
	t.Helper()
	f := &fakeT{T: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			f.failed = recover() != nil || f.failed
			for _, c := range slices.Backward(f.cleanups) {
				c()
			}
		}()
		test(f)
	}()
	<-done
	return strings.Join(f.said, "\n")
}

// foreign returns the network namespaces that threads or files of this process
// hold open, besides its own.
func foreign(t *testing.T) map[string]bool {
	t.Helper()
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, dir := range []string{"/proc/self/fd", "/proc/self/task"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			name := dir + "/" + e.Name()
			if dir == "/proc/self/task" {
				name += "/ns/net"
			}
			if link, _ := os.Readlink(name); strings.HasPrefix(link, "net:") && link != own {
				found[link] = true
			}
		}
	}
	return found
}

// full builds the lab of the mesh's tests: five hosts, two behind different
// NATs, two that only a relay can connect.
func full(t TB, start time.Time) (hosts []*Host, took time.Duration) {
	lab := New(t, Config{Path: wan.Link{Delay: 20 * ms}})
	for i, nat := range []NAT{Public, PortPreserving, Symmetric, CarrierGrade, CarrierGrade} {
		hosts = append(hosts, lab.Site(fmt.Sprint("site", i), nat).Host(fmt.Sprint("host", i)))
	}
	return hosts, time.Since(start)
}

// A lab with five hosts goes up and down in under a second on an idle machine,
// and leaves nothing, however its test ends.
func TestNothingIsLeft(t *testing.T) {
	if missing := Missing(); missing != "" {
		t.Skip("needs network namespaces: " + missing)
	}
	tests := []struct {
		name string
		end  func(t *fakeT)
	}{
		{"passes", func(*fakeT) {}},
		{"fails", func(t *fakeT) { t.Fatalf("on purpose") }},
		{"panics", func(*fakeT) { panic("on purpose") }},
	}
	goroutines := runtime.NumGoroutine()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var built time.Duration
			var pid int
			start := time.Now()
			run(t, func(f *fakeT) {
				hosts, took := full(f, start)
				built = took
				pid = child(t, hosts[3], "sleep 1000 & echo $!; wait")
				tt.end(f)
			})
			all := time.Since(start)
			t.Logf("up in %v, with a process and down in %v", built.Round(ms), all.Round(ms))
			if all > 10*time.Second {
				t.Errorf("up and down took %v", all)
			}
			if running(pid) {
				t.Errorf("process %d, a child of one on a host, still runs", pid)
			}
			if left := foreign(t); len(left) > 0 {
				t.Errorf("namespaces %v are still open", left)
			}
		})
	}
	for range 100 {
		if runtime.NumGoroutine() <= goroutines {
			return
		}
		time.Sleep(10 * ms)
	}
	buf := make([]byte, 1<<20)
	t.Errorf("%d goroutines before, %d after:\n%s", goroutines, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
}

// child starts a shell script on a host and returns the number it prints first.
func child(t *testing.T, h *Host, script string) int {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	h.Start(cmd)
	return readPid(t, bufio.NewReader(out))
}

func readPid(t *testing.T, r *bufio.Reader) int {
	t.Helper()
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func running(pid int) bool { return lifeOf(pid) != "" }

// ends reports whether a process ends soon.
func ends(pid int) bool {
	for start := time.Now(); time.Since(start) < soon; time.Sleep(10 * ms) {
		if !running(pid) {
			return true
		}
	}
	return false
}

// When a test is killed, the kernel kills what it started on hosts. A child of
// such a process is killed when the next lab begins; what belongs to a lab that
// lives is not touched.
func TestKilledRun(t *testing.T) {
	lab := New(t, Config{})
	mine := child(t, lab.Site("dc", Public).Host("h"), "echo $$; exec sleep 1000")

	victim := exec.Command(os.Args[0], "-test.run", "^TestVictim$")
	victim.Env = append(os.Environ(), "HOLDFAST_NETNS_VICTIM=1")
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	started, orphan := readPid(t, r), readPid(t, r)
	sweep()
	if !running(started) || !running(orphan) || !running(mine) {
		t.Fatal("a new lab killed processes of labs that live")
	}
	victim.Process.Kill()
	victim.Wait()
	if !ends(started) {
		t.Error("a process on a host outlives the test that started it")
	}
	if !running(orphan) {
		t.Error("the child of that process does not outlive it, so this test shows nothing")
	}
	New(t, Config{})
	if !ends(orphan) {
		t.Error("a new lab does not kill what a killed one left")
	}
	if !running(mine) {
		t.Error("a new lab killed a process of a lab that lives")
	}
}

// TestVictim is the test that TestKilledRun kills.
func TestVictim(t *testing.T) {
	if os.Getenv("HOLDFAST_NETNS_VICTIM") == "" {
		return
	}
	lab := New(t, Config{})
	cmd := exec.Command("sh", "-c", "echo $$; sleep 1000 & echo $!; wait")
	cmd.Stdout = os.Stdout
	lab.Site("dc", Public).Host("h").Start(cmd).Wait()
}

func TestSkips(t *testing.T) {
	t.Setenv("PATH", "")
	t.Setenv("HOLDFAST_NETNS", "")
	want := "skip: TestSkips is skipped, it needs network namespaces: programs are missing; run apt-get install iproute2 nftables"
	if os.Geteuid() != 0 {
		want = "skip: TestSkips is skipped, it needs network namespaces: they need root; run the tests as root"
	}
	needy := func(f *fakeT) {
		New(f, Config{})
		t.Error("there is a lab without what it needs")
	}
	if got := run(t, needy); got != want {
		t.Errorf("said %q, want %q", got, want)
	}
	t.Setenv("HOLDFAST_NETNS", "required")
	if got := run(t, needy); !strings.HasPrefix(got, "fatal: TestSkips needs") {
		t.Errorf("said %q, want a failure", got)
	}
}

// Mistakes in a test end it with a sentence.
func TestMistakes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		do   func(lab *Lab)
		want string
	}{
		{"a name twice", func(lab *Lab) { lab.Site("a", Public); lab.Site("a", Public) }, "build site a: attach a: there is a site of that name"},
		{"a neighbour without a provider", func(lab *Lab) { lab.Site("a", Symmetric).Neighbour("b") }, "it has no provider to share, but symmetric NAT"},
		{"a public site moves", func(lab *Lab) { lab.Site("a", Public).Renumber() }, "renumber site a: it is public"},
		{"a port of a provider", func(lab *Lab) { s := lab.Site("a", CarrierGrade); s.Forward("udp", 1, s.Host("h")) }, "not with carrier-grade NAT"},
		{"a program that is not there", func(lab *Lab) { lab.Site("a", Public).Host("h").Start(exec.Command("/nothing")) }, "start /nothing on host h"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := run(t, func(f *fakeT) { tt.do(New(f, Config{})) })
			if !strings.HasPrefix(got, "fatal: ") && !strings.HasPrefix(got, "skip: ") || !strings.Contains(got, tt.want) && !strings.HasPrefix(got, "skip: ") {
				t.Errorf("said %q, want %q", got, tt.want)
			}
		})
	}
}

// Labs of one name do not meet, nor do they touch the machine's own network.
func TestLabsAreApart(t *testing.T) {
	before, err := exec.Command("ip", "addr").CombinedOutput()
	if err != nil {
		t.Skip("ip is missing, so there can be no labs")
	}
	one, two := New(t, Config{}), New(t, Config{})
	var peers []*peer
	for _, lab := range []*Lab{one, two} {
		peers = append(peers, newPeer(t, lab.Site("dc", Public).Host("h")))
	}
	if peers[0].h.Addr != peers[1].h.Addr {
		t.Error("equal labs have different addresses")
	}
	r := newPeer(t, two.Site("home", Symmetric).Host("r"))
	if !r.reaches(peers[1], peers[1].addr(), soon) {
		t.Error("a packet does not arrive in its own lab")
	}
	if r.reaches(peers[0], peers[0].addr(), never) {
		t.Error("a packet arrives in another lab")
	}
	after, err := exec.Command("ip", "addr").CombinedOutput()
	if err != nil || string(before) != string(after) {
		t.Errorf("ip addr of the machine says (%v)\n%sand said before\n%s", err, after, before)
	}
}

// Do comes back to the machine's own network however it ends.
func TestDo(t *testing.T) {
	h := New(t, Config{}).Site("dc", Public).Host("h")
	where := func() string {
		link, err := os.Readlink("/proc/thread-self/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		return link
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own := where()
	err := h.Do(func() error {
		if where() == own {
			t.Error("Do does not leave the machine's network")
		}
		return os.ErrExist
	})
	if err != os.ErrExist || where() != own {
		t.Errorf("Do returned %v in %s, want the error of its function in %s", err, where(), own)
	}
	func() {
		defer func() { recover() }()
		h.Do(func() error { panic("on purpose") })
	}()
	if where() != own {
		t.Error("after a panic the thread is still on the host")
	}
}

func TestProcess(t *testing.T) {
	t.Parallel()
	lab := New(t, Config{})
	h := lab.Site("dc", Public).Host("h")
	out, err := h.Run(t.Context(), "ip", "-br", "addr", "show", "eth0")
	if err != nil || !strings.Contains(out, h.Addr.String()+"/24") {
		t.Errorf("ip addr on the host says %q, %v", out, err)
	}
	if _, err := h.Run(t.Context(), "sh", "-c", "echo broken; exit 3"); err == nil || !strings.Contains(err.Error(), "run sh on host h: exit status 3: broken") {
		t.Errorf("a program that fails: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*ms)
	defer cancel()
	start := time.Now()
	if _, err := h.Run(ctx, "sleep", "1000"); err == nil || time.Since(start) > soon {
		t.Errorf("a program that takes too long: %v after %v", err, time.Since(start))
	}

	p := h.Start(exec.Command("sleep", "1000"))
	pid := p.cmd.Process.Pid
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Error(err)
	}
	select {
	case <-p.Done():
		t.Error("a suspended process has ended")
	case <-time.After(never):
	}
	p.Kill()
	if running(pid) {
		t.Error("a killed process runs")
	}
	if err := p.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("a killed process ended with %v", err)
	}
	p.Kill() // once more is no error
	if err := h.Start(exec.Command("true")).Wait(); err != nil {
		t.Error(err)
	}
	if shown := lab.String(); !strings.Contains(shown, "host h, "+h.Addr.String()+": nsenter --net=/proc/") {
		t.Errorf("String() is %q", shown)
	}
}

func TestDialWantsNumbers(t *testing.T) {
	h := New(t, Config{}).Site("dc", Public).Host("h")
	if _, err := h.Dial(t.Context(), "tcp", "localhost:80"); err == nil || !strings.HasPrefix(err.Error(), "dial localhost:80 from host h: ") {
		t.Errorf("Dial: %v", err)
	}
}
