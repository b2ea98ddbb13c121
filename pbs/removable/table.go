package removable

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
)

// A Table knows which file systems are plugged in, and where they are mounted:
// by /proc/self/mountinfo, and by /dev/disk/by-uuid or, for a service that may
// not see devices, by what udev has written of them.
type Table struct {
	root string // in front of all paths of the system
	run  func(ctx context.Context, name string, args ...string) error

	mu  sync.Mutex
	out map[string]bool // datastores that were taken out, until their disk is unmounted
}

// NewTable returns the table of this machine.
func NewTable() *Table { return &Table{root: "/", run: run, out: map[string]bool{}} }

// run runs a program of the system.
func run(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err == nil {
		return nil
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return fmt.Errorf("%s: %w: %s", name, err, line)
}

func (t *Table) at(name string) string { return filepath.Join(t.root, name) }

// A device is a disk, or a part of one, with a file system.
type device struct {
	name   string // sdb1
	number string // 8:17
}

// device returns the one that has a file system, and whether it is plugged in.
func (t *Table) device(uuid string) (device, bool) {
	if to, err := os.Readlink(t.at("/dev/disk/by-uuid/" + uuid)); err == nil {
		name := filepath.Base(to)
		number, _ := os.ReadFile(t.at("/sys/class/block/" + name + "/dev"))
		return device{name, strings.TrimSpace(string(number))}, true
	}
	known, err := os.ReadDir(t.at("/run/udev/data"))
	if err != nil {
		return device{}, false
	}
	for _, e := range known {
		number, is := strings.CutPrefix(e.Name(), "b")
		if !is {
			continue
		}
		text, err := os.ReadFile(t.at("/run/udev/data/" + e.Name()))
		if err != nil || !bytes.Contains(text, []byte("E:ID_FS_UUID="+uuid+"\n")) {
			continue
		}
		name, err := os.Readlink(t.at("/sys/dev/block/" + number))
		return device{filepath.Base(name), number}, err == nil
	}
	return device{}, false
}

// A mount is a file system in the tree.
type mount struct{ point, number, source string }

// mounts are all of them. What lies on top of another comes after it.
func (t *Table) mounts() ([]mount, error) {
	text, err := os.ReadFile(t.at("/proc/self/mountinfo"))
	return parseMounts(string(text)), err
}

// parseMounts reads a table of mounts, and leaves out what it cannot read.
func parseMounts(text string) (all []mount) {
	for line := range strings.Lines(text) {
		left, right, is := strings.Cut(line, " - ")
		before, after := strings.Fields(left), strings.Fields(right)
		if is && len(before) >= 6 && len(after) >= 2 {
			all = append(all, mount{path.Clean(unescape(before[4])), before[2], unescape(after[1])})
		}
	}
	return all
}

// unescape reads a path, in which white space is written as \040.
func unescape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			n, ok := 0, true
			for _, c := range s[i+1 : i+4] {
				n, ok = n*8+int(c-'0'), ok && c >= '0' && c <= '7'
			}
			if ok && n < 256 {
				out.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// is tells whether a mount is of a device. Some file systems have numbers of
// their own, and are known by the name of the device.
func (t *Table) is(m mount, d device) bool {
	if m.number == d.number && d.number != "" {
		return true
	}
	name := m.source
	if to, err := filepath.EvalSymlinks(t.at(m.source)); err == nil {
		name = to
	}
	return strings.HasPrefix(m.source, "/") && filepath.Base(name) == d.name
}

// mounted tells whether the file system is mounted where it belongs, and nothing
// is mounted above it.
func (t *Table) mounted(d settings.Datastore) bool {
	all, err := t.mounts()
	dev, plugged := t.device(d.BackingDevice)
	if err != nil || !plugged {
		return false
	}
	top := mount{}
	for _, m := range all {
		if m.point == d.MountPoint {
			top = m
		}
	}
	return top.point != "" && t.is(top, dev)
}

// Away says why a datastore cannot be used: its disk is not there. It is nil of
// one that is on no such disk.
func (t *Table) Away(d settings.Datastore) error {
	if d.BackingDevice == "" {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !t.mounted(d):
		delete(t.out, d.Name)
		return away("the file system %s is not mounted on %s", d.BackingDevice, d.MountPoint)
	case t.out[d.Name]:
		return away("it was taken out, and its disk is still mounted on %s", d.MountPoint)
	}
	return nil
}

func away(format string, a ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{stores.ErrAway}, a...)...)
}

// take notes that a datastore is being taken out, or is not.
func (t *Table) take(name string, out bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if delete(t.out, name); out {
		t.out[name] = true
	}
}

// defaultPoint is where a file system belongs of which nobody has said that.
const defaultPoint = "/mnt/datastore"

// Place says where the file system of a new datastore belongs, and mounts it if
// it is not mounted. A path that is not absolute is one within the file system.
func (t *Table) Place(ctx context.Context, d *settings.Datastore) error {
	if err := CheckUUID(d.BackingDevice); err != nil {
		return err
	}
	if !path.IsAbs(d.Path) {
		d.MountPoint = path.Join(defaultPoint, d.Name)
		d.Path = path.Join(d.MountPoint, d.Path)
		return t.Mount(ctx, *d)
	}
	all, err := t.mounts()
	if err != nil {
		return err
	}
	d.Path = path.Clean(d.Path)
	for _, m := range all {
		if len(m.point) >= len(d.MountPoint) && (m.point == d.Path || strings.HasPrefix(d.Path, strings.TrimSuffix(m.point, "/")+"/")) {
			d.MountPoint = m.point
		}
	}
	if !t.mounted(*d) {
		return &hinted{fmt.Errorf("%s does not lie on the file system %s", d.Path, d.BackingDevice), "mount the disk first; lsblk -f shows the UUIDs of file systems, and where they are mounted"}
	}
	return nil
}

// CheckUUID refuses what is no UUID of a file system.
func CheckUUID(uuid string) error {
	if uuid == "" || len(uuid) > 64 || strings.Trim(uuid, "0123456789abcdefABCDEF-") != "" {
		return fmt.Errorf("%.60q is no UUID of a file system", uuid)
	}
	return nil
}

// Mount mounts the file system of a datastore where it belongs.
func (t *Table) Mount(ctx context.Context, d settings.Datastore) error {
	if t.mounted(d) {
		return nil
	}
	dev, plugged := t.device(d.BackingDevice)
	if !plugged {
		return fmt.Errorf("no disk with the file system %s is plugged in", d.BackingDevice)
	}
	_ = os.MkdirAll(d.MountPoint, 0o755) // who may not make it may still be able to mount
	return t.try(ctx, func() bool { return t.mounted(d) }, "mount it as root: mount /dev/disk/by-uuid/"+d.BackingDevice+" "+d.MountPoint+"; docs/removable.md says how the node may do it",
		[]string{"mount", "/dev/" + dev.name, d.MountPoint},
		[]string{"mount", d.MountPoint}, // as /etc/fstab lets users do
		[]string{"udisksctl", "mount", "--no-user-interaction", "-b", "/dev/" + dev.name})
}

// Unmount unmounts it. Nobody uses it any more.
func (t *Table) Unmount(ctx context.Context, d settings.Datastore) error {
	dev, plugged := t.device(d.BackingDevice)
	if !plugged || !t.mounted(d) {
		return nil
	}
	return t.try(ctx, func() bool { return !t.mounted(d) }, "the node has let go of it; unmount it as root: umount "+d.MountPoint+"; docs/removable.md says how the node may do it",
		[]string{"umount", d.MountPoint},
		[]string{"udisksctl", "unmount", "--no-user-interaction", "-b", "/dev/" + dev.name})
}

// try runs commands until one has done what it had to.
func (t *Table) try(ctx context.Context, done func() bool, cure string, commands ...[]string) error {
	var errs []error
	for _, c := range commands {
		err := t.run(ctx, c[0], c[1:]...)
		if done() {
			return nil
		}
		if err == nil {
			err = errors.New(c[0] + ": it has had no effect where the node can see it")
		}
		errs = append(errs, err)
	}
	return &hinted{errors.Join(errs...), cure}
}

// A hinted error has a known cure.
type hinted struct {
	error
	cure string
}

func (e *hinted) Unwrap() error { return e.error }

// Hint is printed on its own line below the error.
func (e *hinted) Hint() string { return e.cure }
