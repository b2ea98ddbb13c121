package tunnel

import (
	"bufio"
	"encoding/json"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/simulations/netns"
	"github.com/holdfast-mesh/holdfast/simulations/wan"
	"github.com/holdfast-mesh/holdfast/tunnel"
)

const (
	nobody   = 65534            // who the node processes run as
	patience = 40 * time.Second // for what takes some seconds on an idle machine
)

// A mesh is two homes and a datacentre, which has a relay and a third node
// that shows the others how they are seen.
type mesh struct {
	t          *testing.T
	lab        *netns.Lab
	home, away *netns.Site
	dc         *netns.Site
	talker     *netns.Host
	program    string

	mu  sync.Mutex
	now line
}

func newMesh(t *testing.T, kind netns.NAT) *mesh {
	t.Helper()
	m := &mesh{t: t, lab: netns.New(t, netns.Config{Seed: 1, Path: wan.Link{Delay: 10 * time.Millisecond, Rate: 100e6}})}
	m.program = readable(t)
	m.home, m.away, m.dc = m.lab.Site("home", kind), m.lab.Site("away", kind), m.lab.Site("dc", netns.Public)
	relay := m.dc.Host("relay")
	l, err := relay.Listen("tcp", ":9000")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go serveRelay(l)
	third := m.dc.Host("third")
	known := map[string][]netip.AddrPort{"third": {netip.AddrPortFrom(third.Addr, port)}}
	at := netip.AddrPortFrom(relay.Addr, 9000)
	m.start(third, part{Name: "third", Relay: at, Peers: map[string][]netip.AddrPort{"alpha": nil, "bravo": nil}})
	m.start(m.away.Host("bravo"), part{Name: "bravo", Relay: at, Peers: map[string][]netip.AddrPort{"alpha": nil, "third": known["third"]}})
	m.talker = m.home.Host("alpha")
	out := m.start(m.talker, part{Name: "alpha", Relay: at, Peers: map[string][]netip.AddrPort{"bravo": nil, "third": known["third"]}, Talk: "bravo"})
	go m.listen(out)
	return m
}

// readable returns a copy of this program that everybody may run.
func readable(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "node")
	if err := os.WriteFile(name, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

// start runs a node without privileges and returns what it says.
func (m *mesh) start(h *netns.Host, p part) io.Reader {
	m.t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		m.t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		m.t.Fatal(err)
	}
	in, hold, err := os.Pipe()
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { hold.Close(); read.Close() })
	cmd := exec.Command(m.program)
	cmd.Env = append(os.Environ(), role+"="+string(text))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, write, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	h.Start(cmd)
	in.Close()
	write.Close()
	return read
}

func (m *mesh) listen(out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var l line
		if json.Unmarshal(lines.Bytes(), &l) == nil {
			m.mu.Lock()
			m.now = l
			m.mu.Unlock()
		}
	}
}

func (m *mesh) last() line {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// until waits for cond, and for an answer over the one connection after it.
func (m *mesh) until(what string, cond func(line) bool) {
	m.t.Helper()
	begun := time.Now()
	deadline := begun.Add(patience)
	for !cond(m.last()) {
		if m.last().Failed != "" || time.Now().After(deadline) {
			m.t.Fatalf("%s: it did not happen; last: %+v", what, m.last())
		}
		time.Sleep(20 * time.Millisecond)
	}
	m.flows()
	m.t.Logf("%s: %v", what, time.Since(begun).Round(10*time.Millisecond))
}

func (m *mesh) flows() {
	m.t.Helper()
	for before, deadline := m.last().Echoes, time.Now().Add(patience); m.last().Echoes < before+3; time.Sleep(20 * time.Millisecond) {
		if m.last().Failed != "" || time.Now().After(deadline) {
			m.t.Fatalf("the connection does not go on: %+v", m.last())
		}
	}
}

func direct(l line) bool { return l.Path == tunnel.PathDirect && l.Echoes > 0 }
func relay(l line) bool  { return l.Path == tunnel.PathRelay && l.Echoes > 0 }

// Two homes whose routers keep ports: a direct link, without privileges, that
// survives when UDP is blocked, and when the address of a home changes.
func TestHomesBehindRoutersThatKeepPorts(t *testing.T) {
	m := newMesh(t, netns.PortPreserving)
	m.until("direct", direct)
	if l := m.last(); l.Endpoint.Addr() != m.away.Addr() || l.UID != nobody {
		t.Errorf("packets of user %d go to %v, want user %d and %v", l.UID, l.Endpoint, nobody, m.away.Addr())
	}
	m.talker.BlockUDP(true)
	m.until("relay while UDP is blocked", relay)
	m.talker.BlockUDP(false)
	m.until("direct when it is not", direct)
	m.away.Renumber()
	m.until("direct to the new address", func(l line) bool { return direct(l) && l.Endpoint.Addr() == m.away.Addr() })
}

// Behind two symmetric NATs there is the relay only, and it stays so.
func TestHomesBehindSymmetricNATs(t *testing.T) {
	m := newMesh(t, netns.Symmetric)
	m.until("relay", relay)
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if l := m.last(); !relay(l) || l.Failed != "" {
			t.Fatalf("packets go by %q, want relay: %+v", l.Path, l)
		}
	}
	m.flows()
}

// One home behind its provider's NAT can reach the other that has a real one
// of its own only by the relay; with a public address it is direct.
func TestCarrierGradeNAT(t *testing.T) {
	m := newMesh(t, netns.CarrierGrade)
	m.until("relay", relay)
}
