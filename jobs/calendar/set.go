package calendar

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A unit is one part of a time as calendar events write it (PBS protocol
// notes §8.1).
type unit struct {
	name  string
	first int // where "*" and "*/2" begin
	last  int // the greatest value, inclusive
}

var (
	years   = unit{"year", 0, 2199}
	months  = unit{"month", 1, 12}
	days    = unit{"day", 1, 31}
	hours   = unit{"hour", 0, 23}
	minutes = unit{"minute", 0, 59}
	seconds = unit{"second", 0, 59}
)

// A span is from, from+step, … up to to, inclusive. The step is 1 or more.
type span struct{ from, to, step int }

// next returns the least value of the span that is v or more.
func (p span) next(v int) (int, bool) {
	if v > p.from {
		v = p.from + (v-p.from+p.step-1)/p.step*p.step
	} else {
		v = p.from
	}
	return v, v <= p.to
}

// A set is the values of one unit that match: the union of its spans.
type set []span

func (u unit) any() set         { return set{{u.first, u.last, 1}} }
func (u unit) only(v int) set   { return set{{v, v, 1}} }
func (u unit) isAny(s set) bool { return len(s) == 1 && s[0] == span{u.first, u.last, 1} }

// next returns the least value of the set that is v or more.
func (s set) next(v int) (int, bool) {
	least, found := 0, false
	for _, p := range s {
		if n, ok := p.next(v); ok && (!found || n < least) {
			least, found = n, true
		}
	}
	return least, found
}

// covers reports whether every value of u is in s.
func (s set) covers(u unit) bool {
	for v := u.first; v <= u.last; v++ {
		if n, ok := s.next(v); !ok || n != v {
			return false
		}
	}
	return true
}

// parse reads a list: "*", "*/2", or values, ranges and steps with commas
// between, "1,4..10,20/5".
func (u unit) parse(text string) (set, error) {
	if text == "*" {
		return u.any(), nil
	}
	if step, ok := strings.CutPrefix(text, "*/"); ok {
		n, err := u.number(step, maxStep)
		if err == nil && n == 0 {
			err = fmt.Errorf("%s: the step of */0 is 0", u.name)
		}
		if err != nil {
			return nil, err
		}
		return set{u.span(u.first, u.last, n)}, nil
	}
	var s set
	for part := range strings.SplitSeq(text, ",") {
		p, err := u.parseSpan(part)
		if err != nil {
			return nil, err
		}
		s = append(s, p)
	}
	if slices.Contains(s, u.any()[0]) {
		return u.any(), nil // the rest of the list adds nothing
	}
	return s, nil
}

// maxStep bounds the number after a slash; steps beyond the unit's end are
// allowed, and match only where the span begins.
const maxStep = 999_999

// parseSpan reads "5", "5..9", "5/2" or "5..9/2". A step of 0 leaves the
// first value alone, as PBS has it.
func (u unit) parseSpan(text string) (span, error) {
	value, stepText, stepped := strings.Cut(text, "/")
	fromText, toText, ranged := strings.Cut(value, "..")
	from, err := u.number(fromText, u.last)
	to, step := from, 1
	if err == nil && stepped {
		to = u.last
		step, err = u.number(stepText, maxStep)
	}
	if err == nil && ranged {
		to, err = u.number(toText, u.last)
	}
	switch {
	case err != nil:
		return span{}, err
	case from > to:
		return span{}, fmt.Errorf("%s: the range %s ends before it begins", u.name, text)
	case step == 0:
		to, step = from, 1
	}
	return u.span(from, to, step), nil
}

// span returns the one form of a span that all its spellings share, as far
// as [set.text] can write it.
func (u unit) span(from, to, step int) span {
	if from+step > to {
		to, step = from, 1
	}
	return span{from, to, step}
}

func (u unit) number(text string, limit int) (int, error) {
	if text == "" {
		return 0, fmt.Errorf("%s: a number is missing", u.name)
	}
	if strings.Trim(text, "0123456789") != "" {
		return 0, fmt.Errorf("%s: %.20q is no number", u.name, text)
	}
	n, err := strconv.Atoi(text)
	if errors.Is(err, strconv.ErrRange) || n > limit {
		return 0, fmt.Errorf("%s: %.20s is over %d", u.name, text, limit)
	}
	return n, err
}

// text writes s so that [unit.parse] reads the same set, with numbers of
// width digits.
func (u unit) text(s set, width int) string {
	if u.isAny(s) {
		return "*"
	}
	if len(s) == 1 && s[0].from == u.first && s[0].to == u.last {
		return fmt.Sprintf("*/%d", s[0].step)
	}
	parts := make([]string, len(s))
	for i, p := range s {
		parts[i] = fmt.Sprintf("%0*d", width, p.from)
		switch {
		case p.from == p.to:
		case p.step == 1:
			parts[i] += fmt.Sprintf("..%0*d", width, p.to)
		case p.to == u.last:
			parts[i] += fmt.Sprintf("/%d", p.step)
		default:
			parts[i] += fmt.Sprintf("..%0*d/%d", width, p.to, p.step)
		}
	}
	return strings.Join(parts, ",")
}
