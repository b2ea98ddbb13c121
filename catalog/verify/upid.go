package verify

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A UPID names a run of a task for ever, and says where and when it ran (PBS
// protocol notes §7.9). The state of a snapshot points to the run that found
// it, and clients refuse a listing that has one they cannot parse.
type UPID struct {
	Node   string    // letters, digits and inner hyphens
	PID    uint32    // of the process
	PStart uint64    // when the process began, in ticks since the machine did
	Task   uint64    // counts the tasks of the process
	Start  time.Time // to the second, 1970 to 2106
	Type   string    // "verify", "verify_group"; no colon, no space
	ID     string    // what was worked on; any bytes
	Auth   string    // who started it
}

// upidPattern is the grammar of §7.9.
var upidPattern = regexp.MustCompile(`^UPID:([a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?):([0-9A-Fa-f]{8}):` +
	`([0-9A-Fa-f]{8,9}):([0-9A-Fa-f]{8,16}):([0-9A-Fa-f]{8}):([^:\s]+):([^:\s]*):([^:\s]+):$`)

// maxUPID bounds in bytes what is parsed: an ID of 1,000 bytes, all escaped.
const maxUPID = 4096

// tasks numbers the runs of this process.
var tasks atomic.Uint64

// newUPID returns the name of a run that begins at start, here.
func newUPID(start time.Time, typ, id string) UPID {
	host, _ := os.Hostname() // "" becomes the node "localhost"
	return UPID{
		Node: nodeName(host), PID: uint32(os.Getpid()), PStart: processStart(), Task: tasks.Add(1) - 1,
		Start: start, Type: typ, ID: id, Auth: "root@pam",
	}
}

// nodeName makes a node's name of a host's: the first label, without what the
// grammar does not allow.
func nodeName(host string) string {
	host, _, _ = strings.Cut(host, ".")
	host = strings.Map(func(r rune) rune {
		if r == '-' || r < 0x80 && isAlnum(byte(r)) {
			return r
		}
		return '-'
	}, host)
	if host = strings.Trim(host, "-"); host == "" {
		return "localhost"
	}
	return host
}

// processStart is when this process began, in ticks since the machine did
// (proc(5), /proc/PID/stat, field 22), 0 where the system does not say. The
// grammar has room for nine digits.
func processStart() uint64 {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0
	}
	// Field 2 is a name in brackets that may hold anything.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 {
		return 0
	}
	ticks, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return 0
	}
	return ticks & (1<<36 - 1)
}

// String returns the text form.
func (u UPID) String() string {
	return fmt.Sprintf("UPID:%s:%08X:%08X:%08X:%08X:%s:%s:%s:",
		u.Node, u.PID, u.PStart, u.Task, u.Start.Unix(), u.Type, escape(u.ID), u.Auth)
}

// ParseUPID reads what String writes.
func ParseUPID(s string) (UPID, error) {
	if len(s) > maxUPID {
		return UPID{}, fmt.Errorf("UPID has %d bytes, want at most %d", len(s), maxUPID)
	}
	m := upidPattern.FindStringSubmatch(s)
	if m == nil {
		return UPID{}, fmt.Errorf("%.100q is no UPID, want UPID:NODE:PID:PSTART:TASK:TIME:TYPE:ID:USER: as PBS writes it", s)
	}
	hex := func(digits string) uint64 {
		n, _ := strconv.ParseUint(digits, 16, 64) // the pattern has checked it
		return n
	}
	return UPID{
		Node: m[1], PID: uint32(hex(m[2])), PStart: hex(m[3]), Task: hex(m[4]),
		Start: time.Unix(int64(hex(m[5])), 0).UTC(), Type: m[6], ID: unescape(m[7]), Auth: m[8],
	}, nil
}

// escape writes an ID as systemd writes names of units: "/" as "-", what is
// neither a letter, a digit, "_" nor an inner "." as "\x2d".
func escape(id string) string {
	var b strings.Builder
	for i := range len(id) {
		switch c := id[i]; {
		case c == '/':
			b.WriteByte('-')
		case isAlnum(c) || c == '_' || c == '.' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}

// unescape is the reverse. What escape never writes it leaves as it is.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '-' {
			c = '/'
		} else if c == '\\' && i+3 < len(s) && s[i+1] == 'x' {
			if n, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				c, i = byte(n), i+3
			}
		}
		b.WriteByte(c)
	}
	return b.String()
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
