package removable

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
)

const uuid = "0b1e4ac9-6a4b-4d7e-9c3a-5f0d1e2f3a4b"

// A machine is what a Table sees: a tree of files in the place of /proc and /dev,
// and a disk, which is a directory that is moved to where it is mounted.
type machine struct {
	t     *testing.T
	root  string
	disk  string // the content of the disk while it is not mounted
	point string
	may   bool // the node may mount and unmount
	ran   []string
	*Table
}

func newMachine(t *testing.T) *machine {
	dir := t.TempDir()
	m := &machine{t: t, root: filepath.Join(dir, "root"), disk: filepath.Join(dir, "disk"), point: filepath.Join(dir, "a point")}
	m.Table = &Table{root: m.root, run: m.command, out: map[string]bool{}}
	for _, d := range []string{"dev/disk/by-uuid", "proc/self", "sys/class/block/sdz1", "run/udev/data", "sys/dev/block"} {
		m.must(os.MkdirAll(filepath.Join(m.root, d), 0o755))
	}
	m.must(os.Mkdir(m.disk, 0o755))
	m.must(os.Mkdir(m.point, 0o755))
	m.must(os.WriteFile(filepath.Join(m.root, "sys/class/block/sdz1/dev"), []byte("8:401\n"), 0o644))
	m.table()
	return m
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// table writes what is mounted: the root of the system, and what is given.
func (m *machine) table(lines ...string) {
	lines = append([]string{"21 26 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw"}, lines...)
	m.must(os.WriteFile(filepath.Join(m.root, "proc/self/mountinfo"), []byte(strings.Join(lines, "\n")+"\n"), 0o644))
}

func (m *machine) plug() {
	m.must(os.Symlink("../../sdz1", filepath.Join(m.root, "dev/disk/by-uuid", uuid)))
}

func (m *machine) mount() error {
	if err := errors.Join(os.Remove(m.point), os.Rename(m.disk, m.point)); err != nil {
		return err
	}
	m.table("90 21 8:401 / " + strings.ReplaceAll(m.point, " ", `\040`) + " rw shared:9 - ext4 /dev/sdz1 rw")
	return nil
}

// umount fails while this process uses anything on the disk, as the kernel does.
func (m *machine) umount() error {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	uses := string(maps)
	open, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range open {
		to, _ := os.Readlink(fd)
		uses += to + "\n"
	}
	for line := range strings.Lines(uses) {
		if strings.Contains(line, m.point+"/") {
			return fmt.Errorf("target is busy: %s", line)
		}
	}
	m.table()
	return errors.Join(os.Rename(m.point, m.disk), os.Mkdir(m.point, 0o755))
}

func (m *machine) command(_ context.Context, name string, args ...string) error {
	m.ran = append(m.ran, strings.Join(append([]string{name}, args...), " "))
	switch {
	case !m.may:
		return errors.New("not permitted")
	case name == "mount" && slices.Equal(args, []string{"/dev/sdz1", m.point}):
		return m.mount()
	case name == "umount" && slices.Equal(args, []string{m.point}):
		return m.umount()
	}
	return errors.New("no such command")
}

// A site has a set of datastores and disks.
type site struct {
	*Disks
	set   *stores.Set
	tasks *jobs.Manager
	state settings.Store
}

func newSite(t *testing.T, table *Table) *site {
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	state, err := settings.OpenFile(filepath.Join(dir, "settings.json"))
	must(err)
	tasks, err := jobs.New(jobs.Config{Dir: filepath.Join(dir, "tasks"), Node: "dc"})
	must(err)
	schedules, err := jobs.NewScheduler(jobs.SchedulerConfig{Manager: tasks, File: filepath.Join(dir, "schedules.json")})
	must(err)
	set, err := stores.New(stores.Config{Settings: state, Tasks: tasks, Scheduler: schedules, Away: table.Away})
	must(err)
	disks, err := New(Config{Settings: state, Stores: set, Tasks: tasks, Table: table})
	must(err)
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- disks.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		must(<-ran)
		must(tasks.Close(context.Background()))
		must(set.Close())
	})
	return &site{disks, set, tasks, state}
}

// create makes a datastore on the disk, in the directory backups of it.
func (s *site) create(t *testing.T, point string) {
	t.Helper()
	d := settings.Datastore{Name: "usb", Path: filepath.Join(point, "backups"), BackingDevice: uuid}
	if err := s.Place(t.Context(), &d); err != nil {
		t.Fatal(err)
	}
	u, err := s.set.StartCreate(t.Context(), "root@pam", stores.Create{Datastore: d})
	if err != nil {
		t.Fatal(err)
	}
	if i, err := s.tasks.Wait(t.Context(), u); err != nil || i.Status() != "OK" {
		t.Fatal(i.Status(), err)
	}
}

func (s *site) until(t *testing.T, status string) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		_, err := s.set.Get("usb")
		if s.set.MountStatus("usb") == status && (err == nil) == (status == "mounted") {
			return
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("it is %s (%v), want %s", s.set.MountStatus("usb"), err, status)
		}
	}
}

func (s *site) back(t *testing.T, hour int) {
	t.Helper()
	d, err := s.set.Get("usb")
	if err == nil {
		err = storestest.Make(t.Context(), d, storestest.Backup{
			Snapshot: fmt.Sprintf("vm/100/2026-01-01T%02d:00:00Z", hour), Owner: "root@pam",
			Files: []storestest.File{{Name: "disk.img.fidx", Content: make([]byte, 100_000)}},
		})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A datastore is open while its disk is mounted, whoever mounts it; it is taken out
// with all files closed, and comes back with all that was in it.
func TestDatastoreFollowsItsDisk(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	s := newSite(t, m.Table)
	d := settings.Datastore{Name: "usb", Path: filepath.Join(m.point, "backups"), BackingDevice: uuid}
	if err := s.Place(t.Context(), &d); err == nil {
		t.Fatal("a datastore has a place on a disk that is not there")
	}
	m.plug()
	m.must(m.mount())
	s.create(t, m.point)
	s.back(t, 1)

	// Somebody works on it: it is not taken out before that ends.
	_, done, err := s.set.Use("usb", true)
	m.must(err)
	out := make(chan error, 1)
	m.may = true
	go func() { out <- s.Unmount(t.Context(), "usb", "root@pam") }()
	for {
		_, read, err := s.set.Use("usb", false)
		if err == nil {
			read()
		} else {
			if !strings.Contains(err.Error(), "being taken out") {
				t.Error(err)
			}
			break
		}
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-out:
		t.Fatalf("it was taken out while it was used: %v", err)
	default:
		done()
	}
	m.must(<-out)
	s.until(t, "notmounted")
	if _, err := os.Stat(filepath.Join(m.point, "backups")); err == nil {
		t.Error("the disk is still mounted")
	}

	// It is mounted by hand, by somebody else, and by the node.
	m.must(m.mount())
	s.until(t, "mounted")
	s.back(t, 2)
	m.must(s.Unmount(t.Context(), "usb", "root@pam"))
	u, err := s.StartMount(t.Context(), "usb", "root@pam")
	m.must(err)
	if i, err := s.tasks.Wait(t.Context(), u); err != nil || i.Status() != "OK" {
		t.Fatal(i.Status(), err)
	}
	s.until(t, "mounted")
	store, err := s.set.Get("usb")
	m.must(err)
	if list, err := store.Snapshots(t.Context(), "", group(t)); err != nil || len(list) != 2 {
		t.Errorf("it has %v, %v", list, err)
	}
}

func group(t *testing.T) naming.Group {
	t.Helper()
	g, err := naming.ParseGroup("vm/100")
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// A node that may not unmount lets go of the disk, says what is to be done, and
// does not open the datastore again before that was done.
func TestNodeMayNotUnmount(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.plug()
	m.must(m.mount())
	s := newSite(t, m.Table)
	s.create(t, m.point)
	err := s.Unmount(t.Context(), "usb", "root@pam")
	var cure interface{ Hint() string }
	if !errors.As(err, &cure) || !strings.Contains(cure.Hint(), "umount "+m.point) || len(m.ran) != 2 {
		t.Errorf("it says %v after %q", err, m.ran)
	}
	m.must(s.set.Sync(t.Context()))
	if _, err := s.set.Get("usb"); err == nil {
		t.Error("it is open again, and the disk could not be unmounted")
	}
	m.must(m.umount()) // as the operator does; nothing of it is open
	s.until(t, "notmounted")
	m.must(m.mount())
	s.until(t, "mounted")
}

// What else is mounted there, or over it, is not the disk; nor is the directory
// without it.
func TestMounted(t *testing.T) {
	m := newMachine(t)
	m.plug()
	d := settings.Datastore{Name: "usb", BackingDevice: uuid, MountPoint: "/mnt/a b"}
	line := func(number, point, source string) string {
		return fmt.Sprintf("90 21 %s / %s rw shared:9 master:2 - ext4 %s rw", number, point, source)
	}
	for _, tt := range []struct {
		name  string
		lines []string
		want  bool
	}{
		{"nothing", nil, false},
		{"the disk", []string{line("8:401", `/mnt/a\040b`, "/dev/sdz1")}, true},
		{"with a number of its own, as btrfs", []string{line("0:77", `/mnt/a\040b`, "/dev/sdz1")}, true},
		{"elsewhere", []string{line("8:401", `/mnt/a`, "/dev/sdz1")}, false},
		{"another disk", []string{line("8:402", `/mnt/a\040b`, "/dev/sdz2")}, false},
		{"something over it", []string{line("8:401", `/mnt/a\040b`, "/dev/sdz1"), line("0:9", `/mnt/a\040b`, "tmpfs")}, false},
		{"a share of that name", []string{line("0:9", `/mnt/a\040b`, "sdz1")}, false},
		{"broken lines", []string{"90 21", " - ", line("8:401", `/mnt/a\040b`, "/dev/sdz1")}, true},
	} {
		if m.table(tt.lines...); m.mounted(d) != tt.want {
			t.Errorf("%s: mounted is %v", tt.name, !tt.want)
		}
	}
}

// A service that sees no devices knows them by what udev has written.
func TestDeviceWithoutDev(t *testing.T) {
	m := newMachine(t)
	if _, is := m.device(uuid); is {
		t.Fatal("a disk is there that was not plugged in")
	}
	m.must(os.WriteFile(filepath.Join(m.root, "run/udev/data/b8:401"), []byte("I:12\nE:ID_FS_UUID="+uuid+"\nE:X=1\n"), 0o644))
	m.must(os.Symlink("../../devices/pci/block/sdz/sdz1", filepath.Join(m.root, "sys/dev/block/8:401")))
	if d, is := m.device(uuid); !is || d != (device{"sdz1", "8:401"}) {
		t.Errorf("it is %+v, %v", d, is)
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add(`90 21 8:401 / /mnt/a\040b rw shared:9 - ext4 /dev/sdz1 rw`)
	f.Add("\\04 - \n\\999 - \\400 \\")
	f.Fuzz(func(t *testing.T, text string) {
		for _, m := range parseMounts(text) {
			if m.point == "" || m.number == "" {
				t.Errorf("%+v of %q", m, text)
			}
		}
	})
}

// The same with a real file system on a loop device, as root.
func TestRealDisk(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root, to mount a file system")
	}
	m := newMachine(t)
	image := filepath.Join(t.TempDir(), "disk.img")
	m.must(os.WriteFile(image, nil, 0o600))
	m.must(os.Truncate(image, 64<<20))
	if out, err := exec.Command("mkfs.ext4", "-q", "-U", uuid, image).CombinedOutput(); err != nil {
		t.Skipf("needs mkfs.ext4: %v: %s", err, out)
	}
	out, err := exec.Command("losetup", "--show", "-f", image).Output()
	if err != nil {
		t.Skipf("needs loop devices: %v", err)
	}
	dev := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		_ = exec.Command("umount", m.point).Run() // it may not be mounted
		if out, err := exec.Command("losetup", "-d", dev).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	m.must(os.Remove(filepath.Join(m.root, "proc/self/mountinfo")))
	m.must(os.Symlink("/proc/self/mountinfo", filepath.Join(m.root, "proc/self/mountinfo")))
	m.must(os.Symlink(dev, filepath.Join(m.root, "dev/disk/by-uuid", uuid)))
	table := &Table{root: m.root, run: run, out: map[string]bool{}}
	m.must(table.Mount(t.Context(), settings.Datastore{Name: "usb", BackingDevice: uuid, MountPoint: m.point}))
	s := newSite(t, table)
	s.create(t, m.point)
	for hour := range 3 {
		s.back(t, hour)
		if d, err := s.set.Get("usb"); err != nil || d.Dir != filepath.Join(m.point, "backups") {
			t.Fatal(d, err)
		}
		m.must(s.Unmount(t.Context(), "usb", "root@pam"))
		s.until(t, "notmounted")
		m.must(run(t.Context(), "mount", dev, m.point))
		s.until(t, "mounted")
	}
	d, err := s.set.Get("usb")
	m.must(err)
	if list, err := d.Snapshots(t.Context(), "", group(t)); err != nil || len(list) != 3 {
		t.Errorf("it has %v, %v", list, err)
	}
	m.must(s.Unmount(t.Context(), "usb", "root@pam"))
}
