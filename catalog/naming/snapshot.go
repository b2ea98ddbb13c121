package naming

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// MaxTime is the last time of a backup, the end of the year 9999: a later one
// has no name of 20 characters.
const MaxTime = 253402300799

// timeLayout is the time in the name of a snapshot: UTC, to the second (§0.5).
const timeLayout = "2006-01-02T15:04:05Z"

// A Snapshot is one backup of a group. Two of one group differ in their time.
type Snapshot struct {
	Group
	Time int64 // seconds since 1970, 1 to MaxTime
}

const snapshotCure = "write it as TYPE/ID/TIME, such as vm/100/2024-01-02T03:04:05Z"

// ParseSnapshot reads what String writes.
func ParseSnapshot(s string) (Snapshot, error) {
	slash := strings.LastIndexByte(s, '/')
	if strings.Count(s, "/") != 2 {
		return Snapshot{}, &Error{"snapshot", s, "does not have three parts", snapshotCure}
	}
	g, err := ParseGroup(s[:slash])
	if err != nil {
		return Snapshot{}, fmt.Errorf("snapshot %.100q: %w", s, err)
	}
	at, err := ParseTime(s[slash+1:])
	if err != nil {
		return Snapshot{}, fmt.Errorf("snapshot %.100q: %w", s, err)
	}
	return Snapshot{g, at}, nil
}

// Check checks a snapshot that was put together from its fields.
func (s Snapshot) Check() error {
	if err := s.Group.Check(); err != nil {
		return err
	}
	return CheckTime(s.Time)
}

// String returns "TYPE/ID/TIME".
func (s Snapshot) String() string { return s.Group.String() + "/" + FormatTime(s.Time) }

// Path returns the directory of s below that of its namespace,
// "vm/100/2024-01-02T03:04:05Z".
func (s Snapshot) Path() string { return s.String() }

// Compare orders snapshots by group and then by time, oldest first.
func (s Snapshot) Compare(o Snapshot) int {
	return cmp.Or(s.Group.Compare(o.Group), cmp.Compare(s.Time, o.Time))
}

// MarshalText and UnmarshalText let a snapshot stand in JSON and flags.
func (s Snapshot) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what [ParseSnapshot] reads.
func (s *Snapshot) UnmarshalText(text []byte) error {
	parsed, err := ParseSnapshot(string(text))
	if err == nil {
		*s = parsed
	}
	return err
}

// CheckTime checks the time of a backup in seconds since 1970.
func CheckTime(at int64) error {
	if at < 1 || at > MaxTime {
		return &Error{"backup time", fmt.Sprint(at), "is not between 1970 and 9999", "check the clock of the machine that made the backup"}
	}
	return nil
}

// FormatTime returns seconds since 1970 as "2024-01-02T03:04:05Z".
func FormatTime(at int64) string { return time.Unix(at, 0).UTC().Format(timeLayout) }

// ParseTime reads what [FormatTime] writes, in that one spelling: no fractions,
// no offset. It returns seconds since 1970, 1 to [MaxTime].
func ParseTime(s string) (int64, error) {
	t, err := time.Parse(timeLayout, s)
	if err != nil || t.Format(timeLayout) != s { // Parse takes fractions and "3:04" too
		return 0, &Error{"backup time", s, "is no time", "write it as 2024-01-02T03:04:05Z"}
	}
	at := t.Unix()
	return at, CheckTime(at)
}

// ParsePath reads a snapshot's path below the directory of a datastore.
func ParsePath(rel string) (Namespace, Snapshot, error) {
	parts := strings.Split(rel, "/")
	var ns Namespace
	for len(parts) > 1 && parts[0] == "ns" {
		child, err := ns.Child(parts[1])
		if err != nil {
			return "", Snapshot{}, err
		}
		ns, parts = child, parts[2:]
	}
	s, err := ParseSnapshot(strings.Join(parts, "/"))
	return ns, s, err
}
