package history

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Machine says how busy this machine is. Where the system does not tell, its
// figures are zero.
type Machine struct {
	mu sync.Mutex

	at   time.Time
	last counters
	busy Load
}

// counters are those that only grow.
type counters struct {
	total, idle, wait uint64 // ticks of the processors
	in, out           uint64 // bytes of the network
}

// Load is how busy a machine is.
type Load struct {
	CPU, Wait     float64 // parts of all processors, 0 to 1
	In, Out       float64 // bytes per second of the network
	Average       [3]float64
	Memory, Swap  Amount
	Uptime        int64 // seconds
	CPUs, Sockets int
	Model         string
	MHz           float64
	Kernel        string
}

// An Amount is bytes of something.
type Amount struct {
	Total int64 `json:"total"`
	Used  int64 `json:"used"`
	Free  int64 `json:"free"`
}

// shortest is how far apart two readings are at least that a rate is made of.
const shortest = time.Second

// Load returns how busy the machine is: rates since the last call, or, if that
// was just now, those of then.
func (m *Machine) Load() Load {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, c := time.Now(), readCounters()
	if seconds := now.Sub(m.at).Seconds(); seconds >= shortest.Seconds() {
		if total := float64(c.total - m.last.total); total > 0 && !m.at.IsZero() {
			m.busy.CPU = 1 - float64(c.idle-m.last.idle+c.wait-m.last.wait)/total
			m.busy.Wait = float64(c.wait-m.last.wait) / total
			m.busy.In, m.busy.Out = float64(c.in-m.last.in)/seconds, float64(c.out-m.last.out)/seconds
		}
		m.at, m.last = now, c
	}
	l := m.busy
	l.readProc()
	return l
}

func proc(name string) string {
	text, err := os.ReadFile("/proc/" + name)
	if err != nil {
		return "" // not on this system
	}
	return string(text)
}

func readCounters() (c counters) {
	line, _, _ := strings.Cut(proc("stat"), "\n")
	for i, f := range strings.Fields(line) {
		n, _ := strconv.ParseUint(f, 10, 64)
		switch {
		case i == 0 || i > 8: // the word; what is counted already
			continue
		case i == 4:
			c.idle = n
		case i == 5:
			c.wait = n
		}
		c.total += n
	}
	for line := range strings.Lines(proc("net/dev")) {
		name, rest, found := strings.Cut(strings.TrimSpace(line), ":")
		f := strings.Fields(rest)
		if !found || name == "lo" || len(f) < 9 {
			continue
		}
		in, _ := strconv.ParseUint(f[0], 10, 64)
		out, _ := strconv.ParseUint(f[8], 10, 64)
		c.in, c.out = c.in+in, c.out+out
	}
	return c
}

// readProc reads what is as it is at the moment.
func (l *Load) readProc() {
	for i, f := range strings.Fields(proc("loadavg")) {
		if i < len(l.Average) {
			l.Average[i], _ = strconv.ParseFloat(f, 64)
		}
	}
	up, _, _ := strings.Cut(proc("uptime"), ".")
	l.Uptime, _ = strconv.ParseInt(up, 10, 64)
	l.Kernel = strings.TrimSpace(proc("sys/kernel/osrelease"))
	mem := map[string]int64{}
	for line := range strings.Lines(proc("meminfo")) {
		if f := strings.Fields(line); len(f) > 1 {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			mem[strings.TrimSuffix(f[0], ":")] = n << 10
		}
	}
	l.Memory = Amount{mem["MemTotal"], mem["MemTotal"] - mem["MemAvailable"], mem["MemAvailable"]}
	l.Swap = Amount{mem["SwapTotal"], mem["SwapTotal"] - mem["SwapFree"], mem["SwapFree"]}
	l.readCPUs()
}

func (l *Load) readCPUs() {
	sockets := map[string]bool{}
	lines := bufio.NewScanner(bytes.NewReader([]byte(proc("cpuinfo"))))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(name) {
		case "processor":
			l.CPUs++
		case "physical id":
			sockets[value] = true
		case "model name":
			l.Model = value
		case "cpu MHz":
			l.MHz, _ = strconv.ParseFloat(value, 64)
		}
	}
	l.Sockets = max(1, len(sockets))
}
