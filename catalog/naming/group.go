package naming

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// A Type says what was backed up. Types are ordered as text: ct, host, vm.
type Type string

// The three types of PBS.
const (
	CT   Type = "ct"   // a container
	Host Type = "host" // anything that a client was run on
	VM   Type = "vm"   // a virtual machine
)

// ParseType reads "vm", "ct" or "host".
func ParseType(s string) (Type, error) {
	switch t := Type(s); t {
	case CT, Host, VM:
		return t, nil
	}
	return "", &Error{"backup type", s, "is unknown", "use vm, ct or host"}
}

// MarshalText and UnmarshalText let a type stand in JSON and flags.
func (t Type) MarshalText() ([]byte, error) { return []byte(t), nil }

// UnmarshalText reads what [ParseType] reads.
func (t *Type) UnmarshalText(text []byte) error {
	parsed, err := ParseType(string(text))
	if err == nil {
		*t = parsed
	}
	return err
}

// A Group is all backups of one thing: "vm/100".
type Group struct {
	Type Type
	ID   string // see CheckID
}

const groupCure = "write it as TYPE/ID, such as vm/100 or host/web"

// ParseGroup reads what String writes.
func ParseGroup(s string) (Group, error) {
	typ, id, ok := strings.Cut(s, "/")
	if !ok {
		return Group{}, &Error{"group", s, "has no ID", groupCure}
	}
	if strings.Contains(id, "/") {
		return Group{}, &Error{"group", s, "has more than two parts", groupCure}
	}
	g := Group{Type(typ), id}
	if err := g.Check(); err != nil {
		return Group{}, fmt.Errorf("group %.100q: %w", s, err)
	}
	return g, nil
}

// Check checks a group that was put together from its fields.
func (g Group) Check() error {
	if _, err := ParseType(string(g.Type)); err != nil {
		return err
	}
	return CheckID(g.ID)
}

// String returns "TYPE/ID".
func (g Group) String() string { return string(g.Type) + "/" + g.ID }

// Path returns the directory of g below that of its namespace, "vm/100".
func (g Group) Path() string { return g.String() }

// Compare orders groups as PBS lists them: by type, then numbers by value
// before other IDs, and these by their bytes (§0.5). IDs of one value, "7" and
// "007", are ordered by their bytes too, so only equal groups compare equal.
func (g Group) Compare(o Group) int {
	return cmp.Or(cmp.Compare(g.Type, o.Type), compareIDs(g.ID, o.ID))
}

func compareIDs(a, b string) int {
	x, errA := strconv.ParseUint(a, 10, 64)
	y, errB := strconv.ParseUint(b, 10, 64)
	switch {
	case errA == nil && errB == nil:
		return cmp.Or(cmp.Compare(x, y), strings.Compare(a, b))
	case errA == nil:
		return -1
	case errB == nil:
		return 1
	}
	return strings.Compare(a, b)
}

// MarshalText and UnmarshalText let a group stand in JSON and flags.
func (g Group) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// UnmarshalText reads what [ParseGroup] reads.
func (g *Group) UnmarshalText(text []byte) error {
	parsed, err := ParseGroup(string(text))
	if err == nil {
		*g = parsed
	}
	return err
}
