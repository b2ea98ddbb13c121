package notify

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestMatcher(t *testing.T) {
	e := Event{Type: "sync", Severity: Warning, Time: time.Date(2026, 1, 1, 9, 0, 0, 0, time.UTC), Fields: map[string]string{"hostname": "home", "job-id": "home-to-dc"}}
	at := func(hour int) func(time.Time) bool { return func(at time.Time) bool { return at.Hour() == hour } }
	field := func(s string) FieldRule {
		r, err := ParseFieldRule(s)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	bad, soft := []Severity{Warning, Error}, []Severity{Info}
	tests := []struct {
		name string
		m    Matcher
		want bool
	}{
		{"no rule matches all", Matcher{}, true},
		{"no rule, inverted, still matches all", Matcher{Invert: true}, true},
		{"its severity", Matcher{Severities: [][]Severity{bad}}, true},
		{"another severity", Matcher{Severities: [][]Severity{soft}}, false},
		{"another severity, inverted", Matcher{Severities: [][]Severity{soft}, Invert: true}, true},
		{"an exact field", Matcher{Fields: []FieldRule{field("exact:type=gc,sync")}}, true},
		{"another value", Matcher{Fields: []FieldRule{field("exact:type=gc")}}, false},
		{"a field that it has not", Matcher{Fields: []FieldRule{field("exact:datastore=main")}}, false},
		{"a regex", Matcher{Fields: []FieldRule{field("regex:job-id=^home-.*$")}}, true},
		{"all, one of them not", Matcher{Severities: [][]Severity{bad}, Fields: []FieldRule{field("exact:type=gc")}}, false},
		{"any, one of them", Matcher{Severities: [][]Severity{bad}, Fields: []FieldRule{field("exact:type=gc")}, Any: true}, true},
		{"any, none of them", Matcher{Severities: [][]Severity{soft}, Fields: []FieldRule{field("exact:type=gc")}, Any: true}, false},
		{"its hour", Matcher{Calendar: []func(time.Time) bool{at(9)}}, true},
		{"another hour", Matcher{Calendar: []func(time.Time) bool{at(8)}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.m.Match(e); got != tt.want {
				t.Errorf("matches: %v, want %v", got, tt.want)
			}
		})
	}
	all := []Matcher{{Targets: []string{"b", "a"}}, {Targets: []string{"a", "c"}}, {Severities: [][]Severity{soft}, Targets: []string{"d"}}}
	if got := strings.Join(targetsOf(all, e), ","); got != "a,b,c" {
		t.Errorf("targets %s", got)
	}
}

func FuzzParseFieldRule(f *testing.F) {
	f.Add("exact:type=gc,sync")
	f.Add("regex:a=(b")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseFieldRule(s)
		if err == nil && (r.Field == "" || len(r.Exact) == 0 && r.Regex == (*regexp.Regexp)(nil)) {
			t.Errorf("%q is read as %+v", s, r)
		}
		if err == nil {
			r.match(Event{Type: "x", Fields: map[string]string{"a": "b"}})
		}
	})
}

// A digest names the worst first, and counts what it does not list.
func TestDigest(t *testing.T) {
	var events []Event
	for range 150 {
		events = append(events, Event{Type: "prune", Severity: Info, Title: "pruned", Fields: map[string]string{"hostname": "home", "datastore": "a"}})
	}
	events = append(events, Event{Type: "verify", Severity: Error, Title: "3 snapshots are damaged", Text: "vm/100", Fields: map[string]string{"hostname": "home", "datastore": "b"}})
	m := digest("id", "home", events, []tally{{Info, "prune", 1000}})
	if m.Count != 1151 || m.Severity != Error || m.Subject != "1151 events on home: 1 error, 1150 info" {
		t.Errorf("%d %s %q", m.Count, m.Severity, m.Subject)
	}
	if !strings.HasPrefix(m.Text, "ERROR: verify, 1 in all\n") || !strings.Contains(m.Text, "vm/100") || !strings.Contains(m.Text, "and 1145 more like these") {
		t.Error(m.Text)
	}
	if m.Fields["hostname"] != "home" || len(m.Fields) != 1 {
		t.Errorf("in common: %v", m.Fields)
	}
}
