package naming

import (
	"encoding/json"
	"flag"
	"io"
	"testing"
)

func TestParseSnapshot(t *testing.T) {
	parse := func(s string) error { _, err := ParseSnapshot(s); return err }
	runNames(t, parse, []nameTest{
		{"a snapshot", "vm/100/2024-01-02T03:04:05Z", ""},
		{"a group is none", "vm/100", "three parts"},
		{"a file is none", "vm/100/2024-01-02T03:04:05Z/a.blob", "three parts"},
		{"a namespace is no part of it", "a/vm/100/2024-01-02T03:04:05Z", "three parts"},
		{"seconds since 1970 are no name", "vm/100/1704164645", "is no time"},
		{"an ID that leads out", "vm/../2024-01-02T03:04:05Z", "begins with '.'"},
	})
}

func TestParseTime(t *testing.T) {
	parse := func(s string) error { _, err := ParseTime(s); return err }
	runNames(t, parse, []nameTest{
		{"the first second", "1970-01-01T00:00:01Z", ""},
		{"the last second", "9999-12-31T23:59:59Z", ""},
		{"a leap day", "2024-02-29T00:00:00Z", ""},
		{"a day that never was", "2023-02-29T00:00:00Z", "is no time"},
		{"second zero means no backup", "1970-01-01T00:00:00Z", "between 1970 and 9999"},
		{"a time before 1970", "1969-12-31T23:59:59Z", "between 1970 and 9999"},
		{"the year zero", "0000-01-01T00:00:00Z", "between 1970 and 9999"},
		{"the year 10000", "10000-01-01T00:00:00Z", "is no time"},
		{"an offset", "2024-01-02T03:04:05+00:00", "is no time"},
		{"another zone", "2024-01-02T03:04:05+02", "is no time"},
		{"no zone", "2024-01-02T03:04:05", "is no time"},
		{"fractions", "2024-01-02T03:04:05.5Z", "is no time"},
		{"fractions behind a comma", "2024-01-02T03:04:05,5Z", "is no time"},
		{"a short hour", "2024-01-02T3:04:05Z", "is no time"},
		{"small letters", "2024-01-02t03:04:05z", "is no time"},
		{"a leap second", "2016-12-31T23:59:60Z", "is no time"},
		{"nothing", "", "is no time"},
	})
}

func TestTimeVector(t *testing.T) {
	const at, text = 1700000000, "2023-11-14T22:13:20Z"
	if got := FormatTime(at); got != text {
		t.Errorf("format %d: %s, want %s", at, got, text)
	}
	if got, err := ParseTime(text); got != at || err != nil {
		t.Errorf("parse %s: %d, %v, want %d", text, got, err, at)
	}
	if got := FormatTime(MaxTime); got != "9999-12-31T23:59:59Z" {
		t.Errorf("the last time is %s", got)
	}
}

func TestCheckOfFields(t *testing.T) {
	for _, tt := range []struct {
		about string
		s     Snapshot
		ok    bool
	}{
		{"a valid snapshot", Snapshot{Group{Host, "a"}, 1}, true},
		{"the zero value", Snapshot{}, false},
		{"an unknown type", Snapshot{Group{"pod", "a"}, 1}, false},
		{"a bad ID", Snapshot{Group{Host, "a/b"}, 1}, false},
		{"no time", Snapshot{Group{Host, "a"}, 0}, false},
		{"a time after the year 9999", Snapshot{Group{Host, "a"}, MaxTime + 1}, false},
	} {
		t.Run(tt.about, func(t *testing.T) {
			if err := tt.s.Check(); (err == nil) != tt.ok {
				t.Fatalf("check %v: %v", tt.s, err)
			}
		})
	}
}

func TestNamesStandInJSON(t *testing.T) {
	type all struct {
		Type      Type      `json:"type"`
		Namespace Namespace `json:"ns,omitempty"`
		Group     Group     `json:"group"`
		Snapshot  Snapshot  `json:"snapshot"`
		Filters   Filters   `json:"filters"`
	}
	const text = `{"type":"vm","ns":"a/b","group":"vm/100","snapshot":"vm/100/2023-11-14T22:13:20Z","filters":["type:vm","exclude:regex:^vm/1"]}`
	var v all
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	if want := (Snapshot{Group{VM, "100"}, 1700000000}); v.Snapshot != want || v.Group != want.Group || v.Type != VM || v.Namespace != "a/b" {
		t.Errorf("read %+v", v)
	}
	again, err := json.Marshal(v)
	if err != nil || string(again) != text {
		t.Errorf("written: %s, error %v\nread:    %s", again, err, text)
	}
	for _, bad := range []string{
		`{"type":"pod"}`, `{"ns":"a//b"}`, `{"group":"vm"}`, `{"snapshot":"vm/100"}`, `{"filters":["vm"]}`,
	} {
		v := all{Type: VM, Namespace: "keep"}
		if err := json.Unmarshal([]byte(bad), &v); err == nil {
			t.Errorf("%s was read", bad)
		}
		if v.Type != VM || v.Namespace != "keep" {
			t.Errorf("%s changed what was there, though it is refused", bad)
		}
	}
}

func TestNamesAreFlags(t *testing.T) {
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	var ns Namespace
	var s Snapshot
	var filters Filters
	flags.TextVar(&ns, "ns", Namespace(""), "")
	flags.TextVar(&s, "snapshot", Snapshot{}, "")
	flags.Var(&filters, "group-filter", "")
	args := []string{"--ns", "a/b", "--snapshot", "ct/1/2023-11-14T22:13:20Z", "--group-filter", "type:vm", "--group-filter", "include:group:ct/1"}
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	if ns != "a/b" || s.ID != "1" || filters.String() != "type:vm group:ct/1" {
		t.Fatalf("flags gave %q, %v, %q", ns, s, filters)
	}
	if err := flags.Parse([]string{"--group-filter", "vm"}); err == nil || len(filters) != 2 {
		t.Fatalf("a bad filter gave error %v and %d filters", err, len(filters))
	}
}
