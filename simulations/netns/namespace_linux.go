package netns

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A namespace is a network of its own. It has no name: it lives while its file
// is open, or a process runs in it.
type namespace struct {
	fd int
	id uint64 // inode: tells it from others
}

// newNamespace makes an empty network: nothing but a loopback that is down.
func newNamespace() (*namespace, error) {
	ns := &namespace{fd: -1}
	err := elsewhere(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() (err error) {
		ns.fd, err = openNamespace()
		return err
	})
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(ns.fd, &st); err != nil {
		ns.close()
		return nil, err
	}
	ns.id = st.Ino
	if err := ns.set(quiet...); err != nil {
		ns.close()
		return nil, err
	}
	return ns, nil
}

func (ns *namespace) close() { unix.Close(ns.fd) }

// path names the namespace for other programs, while this process lives.
func (ns *namespace) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.fd) }

// do runs f in the namespace.
func (ns *namespace) do(f func() error) error {
	return elsewhere(func() error { return unix.Setns(ns.fd, unix.CLONE_NEWNET) }, f)
}

// elsewhere runs f on this goroutine after enter took its thread to another
// namespace, and comes back also when f panics or ends the goroutine.
func elsewhere(enter, f func() error) error {
	runtime.LockOSThread()
	back, err := openNamespace()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() {
		if err := unix.Setns(back, unix.CLONE_NEWNET); err != nil {
			panic(fmt.Sprintf("a thread cannot leave the network namespace of a test: %v", err))
		}
		unix.Close(back)
		runtime.UnlockOSThread()
	}()
	if err := enter(); err != nil {
		return err
	}
	return f()
}

// openNamespace opens the namespace that this thread is in.
func openNamespace() (int, error) {
	return unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// ip runs commands of ip(8) in the namespace, in one process.
func (ns *namespace) ip(commands ...string) error {
	return ns.feed(strings.Join(commands, "\n")+"\n", "ip", "-batch", "-")
}

// nft loads rules into the namespace, all or none.
func (ns *namespace) nft(rules string) error { return ns.feed(rules, "nft", "-f", "-") }

// feed runs a program in the namespace with text as its input.
func (ns *namespace) feed(text, name string, args ...string) error {
	var out bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(text), &out, &out
	if err := ns.do(cmd.Run); err != nil {
		return fmt.Errorf("%s: %w: %s\nof\n%s", name, err, bytes.TrimSpace(out.Bytes()), text)
	}
	return nil
}

// set writes kernel parameters of the namespace, as "net/ipv4/ip_forward=1".
// What a kernel was built without it has no parameters for, and needs none.
func (ns *namespace) set(parameters ...string) error {
	return ns.do(func() error {
		for _, p := range parameters {
			name, value, _ := strings.Cut(p, "=")
			if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("set %s to %s: %w", name, value, err)
			}
		}
		return nil
	})
}

// tun makes a TUN device in the namespace and returns its other end: each read
// is a packet that was routed to it, each write one that arrives from it.
func (ns *namespace) tun(name string) (dev *os.File, err error) {
	err = ns.do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("open /dev/net/tun: %w", err)
		}
		req, err := unix.NewIfreq(name)
		if err == nil {
			req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
		}
		if err != nil {
			unix.Close(fd)
			return fmt.Errorf("make TUN device %s: %w", name, err)
		}
		dev = os.NewFile(uintptr(fd), "TUN device "+name)
		return nil
	})
	return dev, err
}

// inside reports whether the process pid is in one of the namespaces.
func inside(pid int, ids map[uint64]bool) bool {
	link, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/net") // net:[4026532008]
	if err != nil {
		return false
	}
	id, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(link, "net:["), "]"), 10, 64)
	return err == nil && ids[id]
}
