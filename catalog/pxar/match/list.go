package match

import (
	"bytes"
	"fmt"
	"strings"
)

// A Result is what a [List] says about a path.
type Result int8

// The outcomes of [List.Match]. In a list of exclusions Matched leaves the
// path out and Negated brings it back; in a list of what to restore it is the
// other way round.
const (
	Unmatched Result = iota // no pattern applies
	Matched                 // the last pattern that applies is an ordinary one
	Negated                 // the last pattern that applies begins with '!'
)

// A List is a sequence of patterns of which the last that matches decides.
type List []Pattern

// Match returns what the list says about path, which is slash-separated and
// relative to the root of the archive; a leading slash is ignored.
func (l List) Match(path string, isDir bool) Result {
	path = strings.TrimPrefix(path, "/")
	for i := len(l) - 1; i >= 0; i-- {
		if !l[i].Match(path, isDir) {
			continue
		}
		if l[i].negated {
			return Negated
		}
		return Matched
	}
	return Unmatched
}

// ParseList parses patterns given one by one, as on a command line.
func ParseList(patterns []string) (List, error) {
	list := make(List, 0, len(patterns))
	for _, s := range patterns {
		p, err := Parse(s)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

// ParseFile parses the content of a .pxarexclude file that lies in dir, a
// path relative to the root of the archive ("" for the root itself). Blanks
// at both ends of a line, empty lines and lines that begin with '#' mean
// nothing. A bad line does not spoil the others: it is reported, with its
// number, and left out.
//
// Anchored lines count from dir. The official client documents that too, but
// its anchored lines only work in the root's file (3.2.4 and later), so we
// may leave out a file that it archives.
func ParseFile(content []byte, dir string) (List, []error) {
	var list List
	var bad []error
	number := 0
	for line := range bytes.SplitSeq(content, []byte("\n")) {
		number++
		line = bytes.Trim(line, " \t\r\f\v")
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		p, err := Parse(string(line))
		if err != nil {
			bad = append(bad, fmt.Errorf("line %d: %w", number, err))
			continue
		}
		list = append(list, p.under(dir))
	}
	return list, bad
}
