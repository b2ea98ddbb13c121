package naming

import (
	"slices"
	"strings"
	"testing"
)

func TestParseNamespace(t *testing.T) {
	parse := func(s string) error { _, err := ParseNamespace(s); return err }
	runNames(t, parse, []nameTest{
		{"the root is empty", "", ""},
		{"one level", "a", ""},
		{"seven levels", "1/2/3/4/5/6/7", ""},
		{"eight levels are too many", "1/2/3/4/5/6/7/8", "has 8 levels"},
		{"256 bytes fit", strings.Repeat("a", 128) + "/" + strings.Repeat("b", 127), ""},
		{"257 bytes do not fit", strings.Repeat("a", 128) + "/" + strings.Repeat("b", 128), "has 257 bytes"},
		{"a slash alone has two empty names", "/", "is empty"},
		{"a path from the root is no namespace", "/a", "is empty"},
		{"a slash at the end is refused", "a/", "is empty"},
		{"two slashes are refused", "a//b", "is empty"},
		{"the level above is refused", "a/../b", "begins with '.'"},
		{"a blank is refused", "a/b c", "' ' at byte 1"},
	})
}

func TestNamespaceParts(t *testing.T) {
	for _, tt := range []struct {
		ns         Namespace
		depth      int
		parent     Namespace
		hasParent  bool
		path       string
		components []string
	}{
		{"", 0, "", false, "", nil},
		{"a", 1, "", true, "ns/a", []string{"a"}},
		{"a/b-c", 2, "a", true, "ns/a/ns/b-c", []string{"a", "b-c"}},
		{"ns/ns/ns", 3, "ns/ns", true, "ns/ns/ns/ns/ns/ns", []string{"ns", "ns", "ns"}},
	} {
		t.Run(string(tt.ns), func(t *testing.T) {
			if got := tt.ns.Depth(); got != tt.depth {
				t.Errorf("depth %d, want %d", got, tt.depth)
			}
			if got, ok := tt.ns.Parent(); got != tt.parent || ok != tt.hasParent {
				t.Errorf("parent %q, %v, want %q, %v", got, ok, tt.parent, tt.hasParent)
			}
			if got := tt.ns.Path(); got != tt.path {
				t.Errorf("path %q, want %q", got, tt.path)
			}
			if got := tt.ns.Components(); !slices.Equal(got, tt.components) {
				t.Errorf("components %q, want %q", got, tt.components)
			}
		})
	}
}

func TestNamespaceChild(t *testing.T) {
	deep := Namespace("1/2/3/4/5/6/7")
	for _, tt := range []struct {
		about string
		ns    Namespace
		name  string
		want  Namespace
		err   string
	}{
		{"below the root", "", "a", "a", ""},
		{"below another", "a/b", "c", "a/b/c", ""},
		{"a name from a disk may be longer than a new one", "", strings.Repeat("x", 40), Namespace(strings.Repeat("x", 40)), ""},
		{"an eighth level is refused", deep, "8", "", "has 8 levels"},
		{"no name is refused", "a", "", "", "is empty"},
		{"two names at once are refused", "a", "b/c", "", "'/' at byte 1"},
		{"a name that leads out is refused", "a", "..", "", "begins with '.'"},
	} {
		t.Run(tt.about, func(t *testing.T) {
			got, err := tt.ns.Child(tt.name)
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("child %q of %q is %q, error %v; want %q, %q", tt.name, tt.ns, got, err, tt.want, tt.err)
			}
		})
	}
}

func TestCheckComponent(t *testing.T) {
	runNames(t, CheckComponent, []nameTest{
		{"one character is enough", "a", ""},
		{"32 are the most for a new one", strings.Repeat("a", 32), ""},
		{"33 are too many for a new one", strings.Repeat("a", 33), "want at most 32"},
		{"a slash makes two of it", "a/b", "'/' at byte 1"},
	})
}

func TestNamespaceContains(t *testing.T) {
	for _, tt := range []struct {
		about string
		ns, o Namespace
		want  bool
	}{
		{"the root contains itself", "", "", true},
		{"the root contains all", "", "a/b", true},
		{"one contains itself", "a/b", "a/b", true},
		{"one contains what is below", "a", "a/b/c", true},
		{"one does not contain what is above", "a/b", "a", false},
		{"one does not contain the root", "a", "", false},
		{"a longer name is another one", "a/b", "a/bc", false},
	} {
		t.Run(tt.about, func(t *testing.T) {
			if got := tt.ns.Contains(tt.o); got != tt.want {
				t.Fatalf("%q contains %q: %v", tt.ns, tt.o, got)
			}
		})
	}
}

func TestNamespaceMap(t *testing.T) {
	for _, tt := range []struct {
		about            string
		ns, from, to, at Namespace
		err              string
	}{
		{"a tree moves with what is below", "location_a/department_x/team_one", "location_a/department_x", "location_a_dep_x", "location_a_dep_x/team_one", ""},
		{"the anchor becomes the other anchor", "a/b", "a/b", "x", "x", ""},
		{"from the root everything goes below", "a/b", "", "x", "x/a/b", ""},
		{"to the root the prefix goes away", "a/b/c", "a", "", "b/c", ""},
		{"the anchor may become the root", "a", "a", "", "", ""},
		{"from root to root nothing changes", "a/b", "", "", "a/b", ""},
		{"what is elsewhere cannot be mapped", "b/c", "a", "x", "", `"b/c" is not below "a"`},
		{"a longer name is elsewhere", "ab/c", "a", "x", "", `is not below "a"`},
		{"what gets too deep is refused", "a/1/2/3/4", "a", "x/y/z/w", "", "has 8 levels"},
		{"what gets too long is refused", "a/b", "a", Namespace(strings.Repeat("x", 255)), "", "has 257 bytes"},
	} {
		t.Run(tt.about, func(t *testing.T) {
			got, err := tt.ns.Map(tt.from, tt.to)
			if got != tt.at || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("map %q from %q to %q: %q, error %v; want %q, %q", tt.ns, tt.from, tt.to, got, err, tt.at, tt.err)
			}
		})
	}
}
