package doctor

import (
	"slices"
	"strconv"
	"strings"
)

// A mount is a file system that is mounted somewhere.
type mount struct {
	at, kind, device string
	options          []string
}

// has tells whether it is mounted with one of some options.
func (m mount) has(options ...string) (string, bool) {
	for _, o := range options {
		if slices.Contains(m.options, o) {
			return o, true
		}
	}
	return "", false
}

// mountOf finds what a directory lies on, in the kernel's table of mounts.
func mountOf(table, dir string) (found mount, ok bool) {
	for line := range strings.Lines(table) {
		m, is := parseMount(line)
		if is && below(dir, m.at) && len(m.at) >= len(found.at) { // what was mounted later lies above
			found, ok = m, true
		}
	}
	return found, ok
}

func below(dir, at string) bool {
	return at == "/" || dir == at || strings.HasPrefix(dir, at+"/")
}

// parseMount reads a line of mountinfo:
//
//	36 35 98:0 /root /mount rw,noatime master:1 - ext4 /dev/sda1 rw,errors=continue
func parseMount(line string) (m mount, ok bool) {
	own, fileSystem, split := strings.Cut(line, " - ")
	a, b := strings.Fields(own), strings.Fields(fileSystem)
	if !split || len(a) < 6 || len(b) < 3 {
		return m, false
	}
	m = mount{at: unescape(a[4]), kind: b[0], device: unescape(b[1])}
	m.options = append(strings.Split(a[5], ","), strings.Split(b[2], ",")...)
	return m, strings.HasPrefix(m.at, "/")
}

// unescape reads what the kernel writes for blanks: \040.
func unescape(text string) string {
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+4 <= len(text) {
			if n, err := strconv.ParseUint(text[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		out.WriteByte(text[i])
	}
	return out.String()
}
