package doctor

import (
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Machine is what the operating system tells. The zero value of a field means
// this machine.
type Machine struct {
	Root  fs.FS // "/", for what is in /proc and /sys
	Room  func(dir string) (Room, error)
	Sync  func(dir string) (time.Duration, error) // how long it takes until something written is on the disk
	Mode  func(file string) (fs.FileMode, error)
	Clock func() (set, known bool) // the kernel's clock is kept right by something
	Files func() (uint64, error)   // that may be open at the same time
	Via   func(netip.Addr) string  // the interface by which an address is reached; "": not known
}

// A Room is how full a file system is.
type Room struct {
	Total, Free, Reserved int64 // bytes; Free is without Reserved, which only root may use
	Inodes, FreeInodes    int64 // Inodes is 0 where there are as many as wanted
}

func (m Machine) withDefaults() Machine {
	if m.Root == nil {
		m.Root = os.DirFS("/")
	}
	if m.Room == nil {
		m.Room = room
	}
	if m.Sync == nil {
		m.Sync = syncTime
	}
	if m.Mode == nil {
		m.Mode = mode
	}
	if m.Clock == nil {
		m.Clock = kernelClock
	}
	if m.Files == nil {
		m.Files = openFiles
	}
	if m.Via == nil {
		m.Via = via
	}
	return m
}

// text reads a small file of the system; "" if it is not there.
func (m Machine) text(name string) string {
	b, err := fs.ReadFile(m.Root, name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// number reads a file with one number; 0 if there is none.
func (m Machine) number(name string) int64 {
	n, err := strconv.ParseInt(m.text(name), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// available is how many bytes programs can still have; 0: not known.
func (m Machine) available() int64 {
	for line := range strings.Lines(m.text("proc/meminfo")) {
		if rest, is := strings.CutPrefix(line, "MemAvailable:"); is {
			n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64) // 0: not known
			return n << 10
		}
	}
	return 0
}

func mode(file string) (fs.FileMode, error) {
	info, err := os.Stat(file)
	if err != nil {
		return 0, err
	}
	return info.Mode(), nil
}

// syncs is how often something is written to see how long that takes.
const syncs = 5

// syncTime is the median of the times that 4 KiB take.
func syncTime(dir string) (time.Duration, error) {
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var took []time.Duration
	for range syncs {
		began := time.Now()
		if _, err := f.WriteAt(make([]byte, 4096), 0); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

// via asks the kernel which way a packet would take; none is sent.
func via(to netip.Addr) string {
	c, err := net.Dial("udp", netip.AddrPortFrom(to, 9).String())
	if err != nil {
		return ""
	}
	defer c.Close()
	local, is := c.LocalAddr().(*net.UDPAddr)
	all, err := net.Interfaces()
	if !is || err != nil {
		return ""
	}
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if n, is := a.(*net.IPNet); is && n.IP.Equal(local.IP) {
				return i.Name
			}
		}
	}
	return ""
}

// clean is a directory as mounts name it.
func clean(dir string) string {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real
	}
	return filepath.Clean(dir)
}
