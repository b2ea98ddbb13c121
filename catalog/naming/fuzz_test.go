package naming

import (
	"path"
	"strings"
	"testing"
)

// checkInside fails if joining p to a directory leads anywhere but to a place
// below it, of which nothing is hidden or looks like a flag.
func checkInside(t *testing.T, p string) {
	t.Helper()
	if joined := path.Join("/store", p); !strings.HasPrefix(joined, "/store/") || joined != "/store/"+p {
		t.Fatalf("path %q leads to %q", p, joined)
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == "" || part[0] == '.' || part[0] == '-' || strings.ContainsAny(part, "\x00\n\\ ") {
			t.Fatalf("path %q has part %q", p, part)
		}
	}
}

// seeds are names that try to be more than names.
var seeds = []string{
	"", "/", ".", "..", "-", "a", "a/b", "../a", "a/..", "a/../b", "./a", "a//b", "-rf/x", "a\x00b", "a\nb", "\xff",
	"vm/100", "vm/..", "ct/-1", "host/a/b", "vm/100/2024-01-02T03:04:05Z", "vm/../2024-01-02T03:04:05Z",
	"vm/100/2024-01-02T03:04:05.1Z", "1/2/3/4/5/6/7", "1/2/3/4/5/6/7/8", "a.blob", "../a.blob", "..fidx", "_.didx",
	"type:vm", "exclude:group:vm/1", "include:regex:^a$", "exclude:regex:(", "root@pam", "a@b@pbs!tok", "a@pbs\nb",
	"1970-01-01T00:00:01Z", "9999-12-31T23:59:59Z", "2024-02-30T00:00:00Z",
}

// FuzzNames: what is accepted has one spelling, stays inside its directory and
// is what its parts say. What is refused is refused in one line.
func FuzzNames(f *testing.F) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		refused := func(err error) bool {
			if err != nil {
				checkMessage(t, err)
			}
			return err != nil
		}
		if g, err := ParseGroup(s); !refused(err) {
			if g.String() != s || g.Check() != nil {
				t.Fatalf("group %q is written %q", s, g)
			}
			checkInside(t, g.Path())
		}
		if snap, err := ParseSnapshot(s); !refused(err) {
			if snap.String() != s || snap.Check() != nil {
				t.Fatalf("snapshot %q is written %q", s, snap)
			}
			checkInside(t, snap.Path())
		}
		if at, err := ParseTime(s); !refused(err) && (FormatTime(at) != s || CheckTime(at) != nil) {
			t.Fatalf("time %q is written %q", s, FormatTime(at))
		}
		if err := CheckArchive(s); !refused(err) {
			checkInside(t, s)
		}
		if err := CheckStoreName(s); !refused(err) {
			checkInside(t, s)
		}
		if err := CheckAuthID(s); !refused(err) && strings.ContainsAny(s, "\n\r\x00/: ") {
			t.Fatalf("user %q is valid", s)
		}
	})
}

// FuzzNamespaces: a namespace is its components, its path stays inside the
// datastore, and mapping there and back leads to where one was.
func FuzzNamespaces(f *testing.F) {
	for i, s := range seeds {
		f.Add(s, seeds[len(seeds)-1-i])
	}
	f.Add("a/b/c", "x/y")
	f.Fuzz(func(t *testing.T, s, other string) {
		ns, err := ParseNamespace(s)
		if err != nil {
			checkMessage(t, err)
			return
		}
		parts := ns.Components()
		if string(ns) != s || strings.Join(parts, "/") != s || ns.Depth() != len(parts) || ns.Depth() > MaxDepth || len(s) > MaxNamespace {
			t.Fatalf("namespace %q has depth %d and components %q", ns, ns.Depth(), parts)
		}
		if parent, ok := ns.Parent(); ok {
			again, err := parent.Child(parts[len(parts)-1])
			if again != ns || err != nil || !parent.Contains(ns) || ns.Contains(parent) {
				t.Fatalf("namespace %q has parent %q, whose child is %q, %v", ns, parent, again, err)
			}
			checkInside(t, ns.Path())
		}
		to, err := ParseNamespace(other)
		if err != nil {
			return
		}
		for from, ok := ns, true; ok; from, ok = from.Parent() {
			mapped, err := ns.Map(from, to)
			if err != nil {
				continue // too deep or too long
			}
			if back, err := mapped.Map(to, from); back != ns || err != nil || !to.Contains(mapped) {
				t.Fatalf("%q from %q to %q is %q and comes back as %q, %v", ns, from, to, mapped, back, err)
			}
		}
	})
}

// FuzzFilters: what is accepted reads back as the same, and no filter can be
// both for and against a group.
func FuzzFilters(f *testing.F) {
	for _, s := range seeds {
		f.Add(s, "vm/100")
	}
	f.Add("regex:(\n", "vm/100")
	f.Add("regex:\xff", "vm/100")
	f.Add(`regex:^vm/1\d{2,3}$`, "vm/1000")
	f.Add("regex:"+strings.Repeat("(a{1,9}){1,9}", 20), "vm/a")
	f.Fuzz(func(t *testing.T, s, group string) {
		one, err := ParseFilter(s)
		if err != nil {
			checkMessage(t, err)
			return
		}
		again, err := ParseFilter(one.String())
		if err != nil || again.String() != one.String() || again.Exclude() != one.Exclude() {
			t.Fatalf("filter %q is written %q, which reads as %q, %v", s, one, again, err)
		}
		g, err := ParseGroup(group)
		if err != nil {
			return
		}
		opposite, err := ParseFilter("exclude:" + strings.TrimPrefix(one.String(), "exclude:"))
		if err != nil {
			return // the opposite is too long
		}
		if !one.Exclude() && (Filters{one}).Match(g) == (Filters{opposite}).Match(g) {
			t.Fatalf("%q and its opposite agree about %v", s, g)
		}
	})
}
