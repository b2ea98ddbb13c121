package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/doctor"
)

const (
	rootMount = "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro\n"
	mainMount = "22 21 8:17 / /srv/main rw,noatime shared:2 - xfs /dev/sdb1 rw,attr2\n"
)

// A scene is a node and its machine; as it is made, nothing is wrong with them.
type scene struct {
	m     Machine
	files fstest.MapFS
	w     World
	now   time.Time
}

func newScene() *scene {
	now := time.Now()
	s := &scene{now: now, files: fstest.MapFS{
		"proc/self/mountinfo":         {Data: []byte(rootMount + mainMount)},
		"proc/meminfo":                {Data: []byte("MemTotal:        8000000 kB\nMemFree:          100 kB\nMemAvailable:    6000000 kB\n")},
		"proc/sys/net/core/rmem_max":  {Data: []byte("4194304\n")},
		"proc/sys/net/core/wmem_max":  {Data: []byte("4194304\n")},
		"sys/class/net/eth0/speed":    {Data: []byte("1000\n")},
		"sys/class/net/virtual/speed": {Data: []byte("-1\n")},
	}}
	s.m = Machine{
		Root: s.files,
		Room: func(string) (Room, error) {
			return Room{Total: 1 << 40, Free: 1 << 39, Reserved: 1 << 33, Inodes: 1000, FreeInodes: 900}, nil
		},
		Sync:  func(string) (time.Duration, error) { return 5 * time.Millisecond, nil },
		Mode:  func(file string) (fs.FileMode, error) { return 0o600, present(file) },
		Clock: func() (set, known bool) { return true, true },
		Files: func() (uint64, error) { return 65536, nil },
		Via:   func(netip.Addr) string { return "eth0" },
	}
	s.w = World{
		Name: "home", Version: "1.2", Places: []Place{{"the node", "/var/lib/holdfast"}, {"datastore main", "/srv/main/backups"}},
		Secret: []string{"/var/lib/holdfast/identity.key"}, Operator: "/var/lib/holdfast/operator.key", Sessions: 1 << 30,
		Certificate: &x509.Certificate{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(365 * 24 * time.Hour)}, Listen: ":51820",
		Peers: []Peer{{Name: "dc", Path: "direct", Address: netip.MustParseAddr("192.0.2.7"), RTT: 20 * time.Millisecond, Version: "1.2", Heard: now}},
	}
	return s
}

// present says that all files are there but the operator's key.
func present(file string) error {
	if strings.HasSuffix(file, "operator.key") {
		return fs.ErrNotExist
	}
	return nil
}

func (s *scene) examine(t *testing.T) *Report {
	t.Helper()
	d, err := New(Config{Machine: s.m, World: func() World { return s.w }})
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.Examine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAHealthyNodePassesAllChecks(t *testing.T) {
	r := newScene().examine(t)
	if len(r.Findings) > 0 || len(r.Skipped) > 0 || !slices.Equal(r.Passed, Names()) {
		t.Errorf("found %+v, skipped %+v, passed %v", r.Findings, r.Skipped, r.Passed)
	}
	if len(r.Paths) != 1 || r.Paths[0].Interface != "eth0" {
		t.Errorf("paths are %+v", r.Paths)
	}
}

func (s *scene) file(name, text string)  { s.files[name] = &fstest.MapFile{Data: []byte(text)} }
func (s *scene) mount(line string)       { s.file("proc/self/mountinfo", rootMount+line+"\n") }
func (s *scene) peer(change func(*Peer)) { change(&s.w.Peers[0]) }
func (s *scene) room(change func(*Room)) {
	was := s.m.Room
	s.m.Room = func(dir string) (Room, error) {
		r, err := was(dir)
		if strings.HasPrefix(dir, "/srv/main") {
			change(&r)
		}
		return r, err
	}
}
func (s *scene) sync(took time.Duration, err error) {
	s.m.Sync = func(dir string) (time.Duration, error) {
		if strings.HasPrefix(dir, "/srv/main") {
			return took, err
		}
		return 0, nil
	}
}

// sick are scenes with one thing wrong: what is found, and how bad it is.
var sick = []struct {
	check    string
	severity doctor.Severity
	text     string
	make     func(*scene)
}{
	{"clock", doctor.Warning, "nothing keeps the clock", func(s *scene) { s.m.Clock = func() (bool, bool) { return false, true } }},
	{"permissions", doctor.Critical, "mode 0644", func(s *scene) {
		s.m.Mode = func(file string) (fs.FileMode, error) {
			if strings.HasSuffix(file, "identity.key") {
				return 0o644, nil
			}
			return 0o700, present(file)
		}
	}},
	{"filesystem", doctor.Critical, "in memory (tmpfs", func(s *scene) { s.mount("22 21 0:5 / /srv/main rw,relatime - tmpfs tmpfs rw") }},
	{"filesystem", doctor.Warning, "(nfs4", func(s *scene) { s.mount("22 21 0:5 / /srv/main rw,relatime - nfs4 nas:/x rw") }},
	{"filesystem", doctor.Warning, "(fuse.sshfs", func(s *scene) { s.mount("22 21 0:5 / /srv/main rw,relatime - fuse.sshfs nas:/x rw") }},
	{"filesystem", doctor.Warning, "layers of a container", func(s *scene) { s.mount("22 21 0:5 / /srv/main rw,relatime - overlay overlay rw") }},
	{"mount-options", doctor.Critical, "cannot be written", func(s *scene) { s.mount("22 21 8:17 / /srv/main ro,relatime - ext4 /dev/sdb1 ro") }},
	{"mount-options", doctor.Critical, "nobarrier", func(s *scene) { s.mount("22 21 8:17 / /srv/main rw,relatime - ext4 /dev/sdb1 rw,nobarrier") }},
	{"mount-options", doctor.Warning, "with sync", func(s *scene) { s.mount("22 21 8:17 / /srv/main rw,sync,relatime - ext4 /dev/sdb1 rw") }},
	{"mount-options", doctor.Note, "noatime nor relatime", func(s *scene) { s.mount("22 21 8:17 / /srv/main rw - ext4 /dev/sdb1 rw") }},
	{"fsync", doctor.Warning, "it takes 200ms", func(s *scene) { s.sync(200*time.Millisecond, nil) }},
	{"fsync", doctor.Critical, "it takes 3s", func(s *scene) { s.sync(3*time.Second, nil) }},
	{"fsync", doctor.Critical, "nothing can be written", func(s *scene) { s.sync(0, errors.New("no space left")) }},
	{"space", doctor.Warning, "left of", func(s *scene) { s.room(func(r *Room) { r.Free = r.Total / 20 }) }},
	{"space", doctor.Critical, "left of", func(s *scene) { s.room(func(r *Room) { r.Free = r.Total / 200 }) }},
	{"inodes", doctor.Warning, "40 more files", func(s *scene) { s.room(func(r *Room) { r.FreeInodes = 40 }) }},
	{"reserved", doctor.Note, "reserved for root", func(s *scene) { s.room(func(r *Room) { r.Reserved = r.Total / 20 }) }},
	{"memory", doctor.Warning, "this node may have 256.0 MiB", func(s *scene) {
		s.file("proc/meminfo", "MemTotal: 262144 kB\nMemAvailable: 200000 kB\n")
		s.w.Sessions = 1 << 20
	}},
	{"memory", doctor.Warning, "are free", func(s *scene) { s.file("proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable: 50000 kB\n") }},
	{"memory", doctor.Warning, "sessions may take", func(s *scene) { s.w.Sessions = 7 << 30 }},
	{"descriptors", doctor.Warning, "1024 files", func(s *scene) { s.m.Files = func() (uint64, error) { return 1024, nil } }},
	{"mesh-port", doctor.Warning, "no node reaches", func(s *scene) { s.peer(func(p *Peer) { p.Path = "relay" }) }},
	{"mesh-port", doctor.Critical, "no other node is reached", func(s *scene) { s.peer(func(p *Peer) { p.Path = "none" }) }},
	{"paths", doctor.Warning, "dc is not reached: no route", func(s *scene) {
		s.w.Peers = append(s.w.Peers, Peer{Name: "lab", Path: "direct"})
		s.peer(func(p *Peer) { p.Path, p.Heard, p.Why = "none", s.now.Add(-time.Hour), "no route" })
	}},
	{"paths", doctor.Note, "through another node", func(s *scene) { s.peer(func(p *Peer) { p.Path = "relay" }) }},
	{"buffers", doctor.Warning, "needs 1.0 MiB for a burst", func(s *scene) {
		s.file("proc/sys/net/core/rmem_max", "212992\n")
		s.m.Via = func(netip.Addr) string { return "virtual" }
	}},
	{"buffers", doctor.Warning, "1000 Mbit/s and 60ms to dc", func(s *scene) { s.peer(func(p *Peer) { p.RTT = 60 * time.Millisecond }) }},
	{"version", doctor.Note, "dc has 1.1", func(s *scene) { s.peer(func(p *Peer) { p.Version = "1.1" }) }},
	{"quorum", doctor.Warning, "no leader", func(s *scene) { s.w.Quorum = "no leader is known" }},
	{"quorum", doctor.Note, "two sites", func(s *scene) { s.w.Advice = "two sites only" }},
	{"certificate", doctor.Warning, "ends in 9 days", func(s *scene) { s.w.Certificate.NotAfter = s.now.Add(10*24*time.Hour - time.Minute) }},
	{"certificate", doctor.Critical, "certificate ended", func(s *scene) { s.w.Certificate.NotAfter = s.now.Add(-time.Hour) }},
	{"certificate", doctor.Critical, "valid from", func(s *scene) { s.w.Certificate.NotBefore = s.now.Add(time.Hour) }},
	{"guard", doctor.Critical, "breaker of the guard is open: much", func(s *scene) { s.w.Breaker, s.w.Guard = "much", []string{"the breaker is open: much"} }},
	{"guard", doctor.Warning, "ledger was not heard of", func(s *scene) { s.w.Guard = []string{"the ledger was not heard of for 30h"} }},
	{"operator-key", doctor.Note, "lies on this node", func(s *scene) { s.m.Mode = func(string) (fs.FileMode, error) { return 0o600, nil } }},
}

func TestEveryCheckFindsWhatItIsFor(t *testing.T) {
	tried := map[string]bool{}
	for _, tt := range sick {
		t.Run(fmt.Sprint(tt.check, " ", tt.text), func(t *testing.T) {
			tried[tt.check] = true
			s := newScene()
			tt.make(s)
			r := s.examine(t)
			var of []doctor.Finding
			for _, f := range r.Findings {
				if f.Check == tt.check {
					of = append(of, f)
				}
			}
			if len(of) != 1 || of[0].Severity != tt.severity || !strings.Contains(of[0].Text, tt.text) || of[0].Consequence == "" || of[0].Cure == "" {
				t.Errorf("found %+v, want one that is %s and says %q, with consequence and cure", of, tt.severity, tt.text)
			}
		})
	}
	for _, name := range Names() {
		if !tried[name] {
			t.Errorf("nothing makes the check %s fail", name)
		}
	}
}

func TestWhatIsNotKnownIsSkipped(t *testing.T) {
	s := newScene()
	s.w.Listen, s.w.Certificate = "", nil
	s.m.Clock = func() (bool, bool) { return false, false }
	s.m.Files = func() (uint64, error) { return 0, errors.ErrUnsupported }
	s.m.Room = func(string) (Room, error) { return Room{}, errors.ErrUnsupported }
	s.m.Root = fstest.MapFS{}
	r := s.examine(t)
	if len(r.Findings) > 0 {
		t.Errorf("found %+v", r.Findings)
	}
	for _, name := range []string{"clock", "filesystem", "mount-options", "space", "inodes", "reserved", "descriptors", "mesh-port", "paths", "buffers", "version", "certificate"} {
		if !slices.ContainsFunc(r.Skipped, func(k doctor.Skipped) bool { return k.Check == name }) || slices.Contains(r.Passed, name) {
			t.Errorf("%s is not skipped", name)
		}
	}
}

// What gets worse is told once, and what is known or only a note is not.
func TestOnlyNewFindingsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		var told []string
		d, err := New(Config{Machine: s.m, World: func() World { return s.w }, Found: func(f doctor.Finding) { told = append(told, f.Check+" "+f.Severity.String()) }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- d.Run(ctx) }()
		time.Sleep(firstAfter + time.Second)
		if r := d.Last(); r == nil || len(r.Findings) > 0 {
			t.Errorf("the first examination found %+v", r)
		}
		s.w.Advice, s.w.Quorum = "two sites", "no leader"
		time.Sleep(every)
		s.w.Certificate.NotAfter = time.Now().Add(24 * time.Hour)
		time.Sleep(every)
		s.w.Certificate.NotAfter = time.Now()
		time.Sleep(every)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got, want := strings.Join(told, ", "), "quorum warning, certificate warning, certificate critical"; got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	})
}

// The machine that runs the test is one.
func TestThisMachine(t *testing.T) {
	dir := t.TempDir()
	d, err := New(Config{World: func() World { return World{Name: "here", Places: []Place{{"the node", dir}}} }})
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.Examine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool { return strings.HasPrefix(f.Text, "nothing can be written") }) {
		t.Errorf("found %+v", r.Findings)
	}
	if left, err := fs.Glob(d.cfg.Machine.Root, strings.TrimPrefix(dir, "/")+"/.doctor-*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestMountOf(t *testing.T) {
	table := rootMount + mainMount + `23 21 8:33 / /srv/main\040two rw - btrfs /dev/sdc1 rw` + "\n24 22 0:9 / /srv/main rw - zfs tank/main rw\nnonsense\n"
	for _, tt := range []struct{ dir, kind string }{
		{"/var", "ext4"}, {"/srv/main", "zfs"}, {"/srv/main/a/b", "zfs"}, {"/srv/mainly", "ext4"}, {"/srv/main two/x", "btrfs"},
	} {
		if m, ok := mountOf(table, tt.dir); !ok || m.kind != tt.kind {
			t.Errorf("%s is on %+v, want %s", tt.dir, m, tt.kind)
		}
	}
}

func FuzzParseMount(f *testing.F) {
	f.Add(rootMount)
	f.Add(`1 2 0:1 / /a\04 rw - x y z`)
	f.Fuzz(func(t *testing.T, line string) {
		if m, ok := parseMount(line); ok && (m.at == "" || m.at[0] != '/' || m.kind == "") {
			t.Errorf("%q became %+v", line, m)
		}
	})
}
