package naming

import (
	"strings"
	"testing"
)

func TestParseFilter(t *testing.T) {
	parse := func(s string) error { _, err := ParseFilter(s); return err }
	runNames(t, parse, []nameTest{
		{"a type", "type:vm", ""},
		{"a group", "group:host/web", ""},
		{"an expression", `regex:^vm/1\d{2,3}$`, ""},
		{"an expression with a colon", "regex:a:b", ""},
		{"one that includes", "include:type:ct", ""},
		{"one that excludes", "exclude:group:vm/100", ""},
		{"nothing", "", `criterion "" is unknown`},
		{"no criterion", "exclude:", `criterion "" is unknown`},
		{"a group alone", "vm/100", `criterion "vm/100" is unknown`},
		{"two prefixes", "include:exclude:type:vm", `criterion "exclude:type:vm" is unknown`},
		{"an unknown type", "type:pod", `backup type "pod" is unknown`},
		{"a group without ID", "group:vm", "has no ID"},
		{"an expression that does not compile", "regex:(", "does not compile"},
		{"an expression of two lines that does not compile", "regex:a\n(", "missing closing ) at \"a\\n(\""},
		{"an expression that looks back", "regex:(?<=a)b", "does not compile"},
		{"1024 bytes are the most", "regex:" + strings.Repeat("a", 1018), ""},
		{"1025 bytes are too many", "regex:" + strings.Repeat("a", 1019), "has 1025 bytes"},
	})
}

func TestFiltersMatch(t *testing.T) {
	const all = "ct/100 host/web vm/100 vm/1000 vm/2000"
	for _, tt := range []struct{ about, filters, want string }{
		{"no filter chooses all", "", all},
		{"a type", "type:vm", "vm/100 vm/1000 vm/2000"},
		{"exactly one group", "group:vm/100", "vm/100"},
		{"an expression sees type and ID", `regex:^vm/1\d{2,3}$`, "vm/100 vm/1000"},
		{"an expression without anchors matches anywhere", "regex:100", "ct/100 vm/100 vm/1000"},
		{"of several one is enough", "type:ct group:host/web", "ct/100 host/web"},
		{"include: says what is so anyway", "include:type:ct", "ct/100"},
		{"only excludes choose the rest", "exclude:type:vm", "ct/100 host/web"},
		{"all excludes count", "exclude:type:vm exclude:type:ct", "host/web"},
		{"both: what is included without what is excluded", "type:vm exclude:group:vm/1000", "vm/100 vm/2000"},
		{"the order does not matter", "exclude:group:vm/1000 type:vm", "vm/100 vm/2000"},
		{"excluding everything leaves nothing", "type:vm exclude:regex:.", ""},
		{"including nothing leaves nothing", "group:vm/999", ""},
	} {
		t.Run(tt.about, func(t *testing.T) {
			var filters Filters
			for s := range strings.FieldsSeq(tt.filters) {
				if err := filters.Set(s); err != nil {
					t.Fatal(err)
				}
			}
			var got []string
			for s := range strings.FieldsSeq(all) {
				g, err := ParseGroup(s)
				if err != nil {
					t.Fatal(err)
				}
				if filters.Match(g) {
					got = append(got, s)
				}
			}
			if strings.Join(got, " ") != tt.want {
				t.Fatalf("%q chooses %q, want %q", tt.filters, got, tt.want)
			}
		})
	}
}

func TestZeroFilterMatchesNothing(t *testing.T) {
	var f Filter
	if (Filters{f}).Match(Group{VM, "100"}) || (Filters{f}).Match(Group{}) {
		t.Fatal("a filter that was never parsed chooses a group")
	}
	if f.Exclude() || f.String() != "" {
		t.Fatalf("a filter that was never parsed says %q", f)
	}
}
