package naming

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
)

// maxFilter bounds the text of a filter in bytes. An expression of that length
// compiles to a few MiB at most.
const maxFilter = 1024

// A Filter chooses groups by type, by name or by a regular expression. Make
// one with [ParseFilter]; the zero value matches no group.
type Filter struct {
	exclude bool
	text    string // without "include:" and "exclude:"

	// One of the three, as text says.
	typ   Type
	group Group
	regex *regexp.Regexp
}

const filterCure = "write it as [include:|exclude:] and then type:vm, group:vm/100 or regex:EXPRESSION"

// ParseFilter reads a filter: "type:vm", "group:vm/100" or "regex:EXPRESSION",
// with "include:" or "exclude:" before it if need be; the former is what a
// filter without either does. An expression, in the syntax of package regexp,
// matches anywhere in "TYPE/ID" unless it is anchored.
func ParseFilter(s string) (Filter, error) {
	if len(s) > maxFilter {
		return Filter{}, &Error{"group filter", s, fmt.Sprintf("has %d bytes, want at most %d", len(s), maxFilter), "use several filters"}
	}
	text, exclude := strings.CutPrefix(s, "exclude:")
	if !exclude {
		text = strings.TrimPrefix(s, "include:")
	}
	f := Filter{exclude: exclude, text: text}
	if err := f.parse(); err != nil {
		return Filter{}, fmt.Errorf("group filter %.100q: %w", s, err)
	}
	return f, nil
}

func (f *Filter) parse() (err error) {
	kind, arg, _ := strings.Cut(f.text, ":")
	switch kind {
	case "type":
		f.typ, err = ParseType(arg)
		return err
	case "group":
		f.group, err = ParseGroup(arg)
		return err
	case "regex":
		f.regex, err = regexp.Compile(arg)
		return expressionError(arg, err)
	}
	return &Error{"criterion", f.text, "is unknown", filterCure}
}

// expressionError says what is wrong with an expression, without the part of
// it that regexp's own message repeats as it is, line breaks and all.
func expressionError(arg string, err error) error {
	var bad *syntax.Error
	if !errors.As(err, &bad) {
		return err
	}
	return &Error{"expression", arg, fmt.Sprintf("does not compile: %s at %.40q", bad.Code, bad.Expr), "the syntax is that of RE2, which but for details is also that of PBS"}
}

// matches reports whether the criterion fits g, whatever follows from that.
func (f Filter) matches(g Group) bool {
	switch {
	case f.regex != nil:
		return f.regex.MatchString(g.String())
	case f.group != Group{}:
		return f.group == g
	}
	return f.typ != "" && f.typ == g.Type
}

// Exclude reports whether the filter takes groups away.
func (f Filter) Exclude() bool { return f.exclude }

// String returns the filter as ParseFilter reads it, without "include:".
func (f Filter) String() string {
	if f.exclude {
		return "exclude:" + f.text
	}
	return f.text
}

// MarshalText and UnmarshalText let a filter stand in JSON and flags.
func (f Filter) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText reads what [ParseFilter] reads.
func (f *Filter) UnmarshalText(text []byte) error {
	parsed, err := ParseFilter(string(text))
	if err == nil {
		*f = parsed
	}
	return err
}

// Filters choose groups together. They are a flag that may be given many times.
type Filters []Filter

// Match reports whether g is chosen: by at least one filter that includes, or
// if there is none of those, and by no filter that excludes.
func (f Filters) Match(g Group) bool {
	included, includes := false, false
	for _, one := range f {
		matches := one.matches(g)
		if one.exclude && matches {
			return false
		}
		if !one.exclude {
			includes = true
			included = included || matches
		}
	}
	return included || !includes
}

// String returns the filters joined by blanks.
func (f Filters) String() string {
	texts := make([]string, len(f))
	for i, one := range f {
		texts[i] = one.String()
	}
	return strings.Join(texts, " ")
}

// Set adds the filter that s says, for package flag and its like.
func (f *Filters) Set(s string) error {
	one, err := ParseFilter(s)
	if err == nil {
		*f = append(*f, one)
	}
	return err
}

// Type names the value in the help of a command.
func (f *Filters) Type() string { return "filter" }
