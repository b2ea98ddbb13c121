package naming

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseGroup(t *testing.T) {
	parse := func(s string) error { _, err := ParseGroup(s); return err }
	runNames(t, parse, []nameTest{
		{"a virtual machine", "vm/100", ""},
		{"a container", "ct/100", ""},
		{"a host", "host/web.example.org", ""},
		{"an unknown type", "pod/100", `backup type "pod" is unknown`},
		{"capitals are another type", "VM/100", `backup type "VM" is unknown`},
		{"no type", "/100", `backup type "" is unknown`},
		{"no ID", "vm/", "is empty"},
		{"no slash", "vm", "has no ID"},
		{"nothing", "", "has no ID"},
		{"three parts", "vm/100/2024-01-02T03:04:05Z", "more than two parts"},
		{"an ID that leads out", "vm/..", "begins with '.'"},
	})
}

func TestGroupOrder(t *testing.T) {
	want := strings.Fields("ct/7 ct/100 ct/a host/9 host/10 host/B host/a " +
		"vm/0 vm/007 vm/07 vm/7 vm/8 vm/100 vm/18446744073709551615 vm/18446744073709551616 vm/1x vm/_x")
	groups := make([]Group, len(want))
	for i, s := range want {
		g, err := ParseGroup(s)
		if err != nil {
			t.Fatal(err)
		}
		groups[i] = g
	}
	sorted := slices.Clone(groups)
	rand.Shuffle(len(sorted), func(i, j int) { sorted[i], sorted[j] = sorted[j], sorted[i] })
	slices.SortFunc(sorted, Group.Compare)
	if !slices.Equal(sorted, groups) {
		t.Fatalf("sorted: %v\nwant:   %v", sorted, groups)
	}
}

// groups draws groups whose IDs are often numbers, of one value even.
func groups() *rapid.Generator[Group] {
	return rapid.Custom(func(t *rapid.T) Group {
		return Group{
			Type: rapid.SampledFrom([]Type{CT, Host, VM}).Draw(t, "type"),
			ID:   rapid.StringMatching(`0{0,2}[0-9]{1,2}|[0-9]{18,21}|[A-Za-z0-9_][A-Za-z0-9._\-]{0,3}`).Draw(t, "id"),
		}
	})
}

func TestGroupOrderIsTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := groups().Draw(t, "a"), groups().Draw(t, "b"), groups().Draw(t, "c")
		if (a.Compare(b) == 0) != (a == b) {
			t.Fatalf("%v and %v compare as %d", a, b, a.Compare(b))
		}
		if a.Compare(b) != -b.Compare(a) {
			t.Fatalf("%v and %v compare as %d, the other way round as %d", a, b, a.Compare(b), b.Compare(a))
		}
		if a.Compare(b) <= 0 && b.Compare(c) <= 0 && a.Compare(c) > 0 {
			t.Fatalf("%v ≤ %v ≤ %v, but the first is greater than the last", a, b, c)
		}
	})
}

func TestSnapshotOrder(t *testing.T) {
	vm := Group{VM, "1"}
	sorted := []Snapshot{{vm, 2}, {Group{CT, "9"}, 3}, {vm, 1}}
	slices.SortFunc(sorted, Snapshot.Compare)
	if want := []Snapshot{{Group{CT, "9"}, 3}, {vm, 1}, {vm, 2}}; !slices.Equal(sorted, want) {
		t.Fatalf("sorted: %v, want %v", sorted, want)
	}
}
