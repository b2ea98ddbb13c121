package join_test

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/invite"
)

// BenchmarkIdle reports what the hosts and rosters of a cluster of five cost
// when nothing happens. Bytes are those of the loopback interface, so it wants
// a network namespace of its own:
//
//	go test -c -o /tmp/join.test ./mesh/join
//	unshare -n sh -c 'ip link set lo up; /tmp/join.test -test.run - -test.bench Idle -test.benchtime 1x'
func BenchmarkIdle(b *testing.B) {
	const nodes, settle, quiet = 5, 3 * time.Minute, time.Minute // QUIC looks for the MTU at first
	for b.Loop() {
		heap := heapInUse()
		chain := founded(b, 1, 2, 3, 4, 5)
		in := &invites{chain: chain, left: map[[8]byte]invite.Token{}}
		var all []*node
		for n := range byte(nodes) {
			all = append(all, start(b, 1+n, chain, in, func(*node) {}))
		}
		meet(b, all)
		time.Sleep(settle)
		bytes, cpu := loopbackBytes(b), processTime()
		time.Sleep(quiet)
		// Each byte is sent by one node and received by another.
		b.ReportMetric(2*float64(loopbackBytes(b)-bytes)/quiet.Seconds()/nodes, "B/s/node")
		b.ReportMetric(float64(heapInUse()-heap)/nodes/(1<<20), "MiB/node")
		b.ReportMetric(100*float64(processTime()-cpu)/float64(quiet)/nodes, "%cpu/node")
	}
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

func processTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func loopbackBytes(b *testing.B) uint64 {
	b.Helper()
	text, err := os.ReadFile("/proc/self/net/dev")
	if err != nil {
		b.Skip("the counters of interfaces are not to be had: ", err)
	}
	for line := range strings.Lines(string(text)) {
		if name, rest, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "lo" {
			n, err := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return n
		}
	}
	b.Skip("there is no loopback interface")
	return 0
}
