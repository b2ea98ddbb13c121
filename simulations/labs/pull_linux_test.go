package labs

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/simulations/netns"
	"github.com/holdfast-mesh/holdfast/simulations/wan"
)

// tree makes a directory of random files, which anybody may read.
func (m *mesh) tree(name string, files, size int) string {
	m.t.Helper()
	dir := filepath.Join(m.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		m.t.Fatal(err)
	}
	b := make([]byte, size)
	for i := range files {
		_, _ = rand.Read(b)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), b, 0o644); err != nil {
			m.t.Fatal(err)
		}
	}
	return dir
}

// equip gives a node a datastore.
func (d *daemon) equip() {
	d.m.t.Helper()
	d.must("datastore", "create", "main", "--path", d.data+"/store")
}

// stored returns how many bytes the datastore of a node takes on the disk.
func (d *daemon) stored() (n int64) {
	_ = filepath.Walk(d.data+"/store", func(_ string, info os.FileInfo, err error) error {
		if err != nil {
			return nil // what has gone meanwhile does not count
		}
		if st, is := info.Sys().(*syscall.Stat_t); is {
			n += st.Blocks * 512
		}
		return nil
	})
	return n
}

// fetches starts a job, again if it ends early, until the node has so much of what
// is to come.
func (d *daemon) fetches(job string, want int64) {
	d.m.t.Helper()
	began := d.stored()
	var said atomic.Value
	busy := make(chan bool, 1)
	d.m.until(fmt.Sprintf("%s has fetched %d bytes more", d.name, want), func() bool {
		select {
		case busy <- true:
			go func() { // the daemon is what is tested, and may be killed
				out, err := d.do("job", "run", job)
				said.Store(fmt.Sprint(out, err))
				time.Sleep(2 * time.Second)
				<-busy
			}()
		default:
		}
		return d.stored() >= began+want
	}, func() any {
		out, err := d.do("job", "log", job)
		return fmt.Sprintf("it had %d bytes and has %d; %v; log: %s %v", began, d.stored(), said.Load(), out, err)
	})
}

// gives fails unless a backup restores at a node to what was backed up.
func (d *daemon) gives(group, ns, want string) {
	d.m.t.Helper()
	to := d.data + "/back-" + filepath.Base(want)
	d.must("restore", group, "tree.pxar", to, "--ns", ns, "-q")
	if out, err := exec.Command("diff", "-r", want, to).CombinedOutput(); err != nil {
		d.m.t.Errorf("%s at %s is not what was backed up: %v %s", group, d.name, err, out)
	}
}

// Three machines with a line of 40 ms and 40 Mbit/s each. While dc pulls from home,
// the line is cut and healed, home is killed, and dc is; while vps pulls from both,
// home is on the other side of a partition. Every tree that comes back is the one
// that was backed up, and a run after the faults finds nothing to do.
func TestPullThroughFaults(t *testing.T) {
	m := newMesh(t, wan.Link{Delay: 10 * time.Millisecond, Rate: 40e6, Loss: 0.001})
	home, dc, vps := m.add("home", netns.Public), m.add("dc", netns.PortPreserving), m.add("vps", netns.Public)
	m.together()
	for _, d := range m.nodes {
		d.equip()
	}
	const mib = 1 << 20
	first := m.tree("first", 24, 2*mib)
	home.must("backup", "tree.pxar:"+first, "--backup-id", "first", "-q")
	dc.must("job", "create", "pull", "home-to-dc", "--remote", "home", "--remote-store", "main", "--store", "main", "--ns", "home", "--rate-in", "3MiB", "--burst-in", "1MiB")
	vps.must("job", "create", "pull", "dc-to-vps", "--remote", "dc", "--remote-store", "main", "--remote-ns", "home", "--store", "main", "--ns", "copies", "--sources", "any")

	dc.fetches("home-to-dc", 4*mib)
	cut := m.lab.Between(home.host.Site, dc.host.Site)
	cut.Cut()
	time.Sleep(5 * time.Second) // longer than anybody waits for a packet
	cut.Heal()
	dc.fetches("home-to-dc", 6*mib)

	home.kill()
	home.run()
	dc.fetches("home-to-dc", 8*mib)

	dc.kill()
	dc.run()
	m.together()
	dc.must("job", "update", "home-to-dc", "--delete", "rate-in")
	dc.must("job", "run", "home-to-dc")
	said := dc.must("job", "log", "home-to-dc")
	var rest float64 // MiB of 48; it had 18 or more, of which some may count twice on the disk
	if _, after, _ := strings.Cut(said, "Summary: sync job pulled "); !strings.Contains(after, "MiB in") {
		t.Errorf("the last run says\n%s", said)
	} else if _, err := fmt.Sscan(after, &rest); err != nil || rest > 40 {
		t.Errorf("dc fetched %v MiB of 48 again (%v): it lost what it had", rest, err)
	}
	dc.gives("host/first", "home", first)

	second := m.tree("second", 12, 2*mib)
	home.must("backup", "tree.pxar:"+second, "--backup-id", "second", "-q")
	dc.must("job", "run", "home-to-dc")
	vps.fetches("dc-to-vps", 2*mib)
	away := m.lab.Partition(home.host.Site)
	vps.m.until("vps has all, of dc alone", func() bool {
		out, err := vps.do("job", "run", "dc-to-vps")
		return err == nil && strings.Contains(out, "no new data to pull")
	}, func() any { return vps.stored() })
	away.Heal()
	m.together()
	home.kill() // for good
	for name, tree := range map[string]string{"host/first": first, "host/second": second} {
		vps.gives(name, "copies", tree)
	}
	dc.gives("host/second", "home", second)
}
