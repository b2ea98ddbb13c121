// Package upid names runs of tasks, as Proxmox Backup Server does.
package upid

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"
)

// A UPID names a run of a task for ever, and says where and when it ran (PBS
// protocol notes §7.9). It is comparable.
type UPID struct {
	Node   string // letters, digits and inner hyphens
	PID    uint32 // of the process
	PStart uint64 // when the process began, in ticks since the machine did; 36 bits
	TaskID uint64 // counts the tasks of the process
	Start  int64  // in seconds since 1970, up to 2106
	Type   string // "backup", "garbage_collection"; no colon, no space
	ID     string // what is worked on, "store1:vm/100"; any bytes
	AuthID string // who started it, "root@pam"; no colon, no space
}

// upidPattern is the grammar of §7.9.
var upidPattern = regexp.MustCompile(`^UPID:([a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?):([0-9A-Fa-f]{8}):` +
	`([0-9A-Fa-f]{8,9}):([0-9A-Fa-f]{8,16}):([0-9A-Fa-f]{8}):([^:\s]+):([^:\s]*):([^:\s]+):$`)

const (
	maxUPID = 4096 // bytes that are parsed: an ID of maxID bytes, all escaped
	maxID   = 800  // bytes of an ID: a namespace of 256, a group of 255, two datastores, a job

	// MaxWord bounds a node, a type or an AuthID, in bytes.
	MaxWord = 200
)

// tasks numbers the runs of this process.
var tasks atomic.Uint64

// New returns a new name for a run that begins now, in this process. It
// fails if a part does not fit the grammar.
func New(node, typ, id, auth string, now time.Time) (UPID, error) {
	u := UPID{
		Node: node, PID: uint32(os.Getpid()), PStart: processStart(), TaskID: tasks.Add(1) - 1,
		Start: now.Unix(), Type: typ, ID: id, AuthID: auth,
	}
	return u, u.Check()
}

// Check reports whether u can be written so that Parse reads it again.
func (u UPID) Check() error {
	for _, part := range []struct {
		name, text string
		limit      int
	}{{"node", u.Node, MaxWord}, {"type", u.Type, MaxWord}, {"ID", u.ID, maxID}, {"user", u.AuthID, MaxWord}} {
		if len(part.text) > part.limit {
			return fmt.Errorf("name a task: the %s has %d bytes, want at most %d", part.name, len(part.text), part.limit)
		}
	}
	if u.Start < 0 || u.Start > 1<<32-1 {
		return fmt.Errorf("name a task: the clock shows %s, want 1970 to 2106", time.Unix(u.Start, 0).UTC())
	}
	if again, err := Parse(u.String()); err != nil || again != u {
		return fmt.Errorf("name a task: node %q, type %q or user %q has characters that a UPID cannot hold", u.Node, u.Type, u.AuthID)
	}
	return nil
}

// NodeName makes a node's name of a host's: the first label, without what the
// grammar of a UPID does not allow; "localhost" if nothing is left.
func NodeName(host string) string {
	host, _, _ = strings.Cut(host, ".")
	host = strings.Map(func(r rune) rune {
		if r < 0x80 && isAlnum(byte(r)) {
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
var processStart = sync.OnceValue(func() uint64 {
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
})

// Time returns when the run began.
func (u UPID) Time() time.Time { return time.Unix(u.Start, 0).UTC() }

// String returns the text form.
func (u UPID) String() string {
	return fmt.Sprintf("UPID:%s:%08X:%08X:%08X:%08X:%s:%s:%s:",
		u.Node, u.PID, u.PStart, u.TaskID, u.Start, u.Type, escape(u.ID), u.AuthID)
}

// MarshalText implements [encoding.TextMarshaler] with the text form.
func (u UPID) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (u *UPID) UnmarshalText(text []byte) (err error) {
	*u, err = Parse(string(text))
	return err
}

// Parse reads what String writes, in upper or lower case.
func Parse(s string) (UPID, error) {
	if len(s) > maxUPID {
		return UPID{}, fmt.Errorf("UPID has %d bytes, want at most %d", len(s), maxUPID)
	}
	m := upidPattern.FindStringSubmatch(s)
	if m == nil || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return UPID{}, &hinted{
			fmt.Errorf("%.100q is no UPID", s),
			"a UPID looks like UPID:NODE:PID:PSTART:TASK:TIME:TYPE:ID:USER:, with the colon at the end",
		}
	}
	hex := func(digits string) uint64 {
		n, _ := strconv.ParseUint(digits, 16, 64) // the pattern has checked it
		return n
	}
	return UPID{
		Node: m[1], PID: uint32(hex(m[2])), PStart: hex(m[3]), TaskID: hex(m[4]),
		Start: int64(hex(m[5])), Type: m[6], ID: unescape(m[7]), AuthID: m[8],
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

// A hinted error has a known cure.
type hinted struct {
	error
	cure string
}

func (e *hinted) Unwrap() error { return e.error }

// Hint is printed on its own line below the error.
func (e *hinted) Hint() string { return e.cure }
