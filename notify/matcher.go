package notify

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A Matcher names the targets of the events that it matches. Its rules are
// those of PBS; without any, it matches every event.
type Matcher struct {
	Name       string
	Severities [][]Severity              // one list for each rule: any of it
	Fields     []FieldRule               //
	Calendar   []func(at time.Time) bool // whether a time is in it
	Any        bool                      // one rule is enough; else all have to match
	Invert     bool                      // matches what the rules do not
	Targets    []string
}

// A FieldRule asks for the value of a field.
type FieldRule struct {
	Field string
	Exact []string       // one of these; nil: Regex
	Regex *regexp.Regexp // matched anywhere in it
}

// ParseFieldRule reads "exact:FIELD=VALUE[,VALUE…]" or "regex:FIELD=REGEX".
func ParseFieldRule(s string) (FieldRule, error) {
	kind, rest, _ := strings.Cut(s, ":")
	field, value, found := strings.Cut(rest, "=")
	if !found || field == "" || value == "" {
		return FieldRule{}, fmt.Errorf("%.80q is no rule for a field, want exact:FIELD=VALUE or regex:FIELD=REGEX", s)
	}
	switch kind {
	case "exact":
		return FieldRule{Field: field, Exact: strings.Split(value, ",")}, nil
	case "regex":
		re, err := regexp.Compile(value)
		if err != nil {
			return FieldRule{}, fmt.Errorf("rule for field %s: %w", field, err)
		}
		return FieldRule{Field: field, Regex: re}, nil
	}
	return FieldRule{}, fmt.Errorf("%.80q is no rule for a field: it begins with neither exact nor regex", s)
}

// ParseSeverities reads a list with commas: "warning,error".
func ParseSeverities(s string) (list []Severity, err error) {
	for word := range strings.SplitSeq(s, ",") {
		one, err := ParseSeverity(strings.TrimSpace(word))
		if err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	return list, nil
}

func (r FieldRule) match(e Event) bool {
	value, ok := e.Field(r.Field)
	if !ok {
		return false
	}
	if r.Regex != nil {
		return r.Regex.MatchString(value)
	}
	return slices.Contains(r.Exact, value)
}

// Match tells whether the matcher is about an event.
func (m Matcher) Match(e Event) bool {
	var rules []bool
	for _, list := range m.Severities {
		rules = append(rules, slices.Contains(list, e.Severity))
	}
	for _, r := range m.Fields {
		rules = append(rules, r.match(e))
	}
	for _, in := range m.Calendar {
		rules = append(rules, in(e.Time))
	}
	if len(rules) == 0 { // also with Invert, as in PBS
		return true
	}
	want := !slices.Contains(rules, false)
	if m.Any {
		want = slices.Contains(rules, true)
	}
	return want != m.Invert
}

// targetsOf returns who hears of an event: each target once, in order.
func targetsOf(matchers []Matcher, e Event) (names []string) {
	for _, m := range matchers {
		if !m.Match(e) {
			continue
		}
		for _, t := range m.Targets {
			if !slices.Contains(names, t) {
				names = append(names, t)
			}
		}
	}
	slices.Sort(names)
	return names
}
