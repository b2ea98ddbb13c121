// Package memory tells how much memory this process may have: that of the
// machine, or less where a control group limits it, as in a container or under
// a service manager.
package memory

import (
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
)

// unknown is what counts where nothing can be found out.
const unknown = 2 << 30

// Limit returns how many bytes this process may have. root is the file system
// of the machine, as os.DirFS("/"). What cannot be read limits nothing; where
// nothing can be read, it is 2 GiB.
func Limit(root fs.FS) int64 {
	least := total(root)
	groups, _ := fs.ReadFile(root, "proc/self/cgroup") // absent: there are none
	for line := range strings.Lines(string(groups)) {
		// hierarchy:controllers:path, both of the first empty in version 2
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, dir, ok := strings.Cut(rest, ":")
		switch {
		case !ok:
		case controllers == "":
			least = min(least, above(root, "sys/fs/cgroup", dir, "memory.max"), above(root, "sys/fs/cgroup", dir, "memory.high"))
		case strings.Contains(","+controllers+",", ",memory,"):
			least = min(least, above(root, "sys/fs/cgroup/memory", dir, "memory.limit_in_bytes"))
		}
	}
	if least == math.MaxInt64 {
		return unknown
	}
	return least
}

// total returns what the machine has.
func total(root fs.FS) int64 {
	text, _ := fs.ReadFile(root, "proc/meminfo") // absent: unknown
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemTotal:" {
			if n, err := strconv.ParseInt(f[1], 10, 64); err == nil && n > 0 && n < math.MaxInt64>>10 {
				return n << 10
			}
		}
	}
	return math.MaxInt64
}

// above returns the least limit of a group and those that it is in. In a
// container the path of the group may be that of the machine, of which only
// the mount's root can be seen.
func above(root fs.FS, mount, dir, file string) int64 {
	least := int64(math.MaxInt64)
	for dir = path.Clean("/" + dir); ; dir = path.Dir(dir) {
		text, err := fs.ReadFile(root, path.Join(mount, dir, file))
		if n, bad := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && bad == nil && n > 0 {
			least = min(least, n) // "max" is no number
		}
		if dir == "/" {
			return least
		}
	}
}
