package match

import (
	"errors"
	"path"
	"slices"
	"strings"
	"testing"
)

func mustParse(t *testing.T, s string) Pattern {
	t.Helper()
	p, err := Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPatternMatches(t *testing.T) {
	for _, tt := range []struct {
		name, pattern, path string // a path that ends in / is a directory
		want                bool
	}{
		{"a name matches itself", "a", "a", true},
		{"a name matches the last component", "b", "a/b", true},
		{"a name does not match the end of a component", "b", "a/ab", false},
		{"a name does not match a component in the middle", "a", "a/b", false},
		{"two components match any end", "a/b", "x/a/b", true},
		{"two components do not match the end of a component", "a/b", "xa/b", false},
		{"an anchored name matches at the root", "/a", "a", true},
		{"an anchored name matches nowhere else", "/a", "x/a", false},
		{"a trailing slash wants a directory", "a/", "a/", true},
		{"a trailing slash refuses a file", "a/", "a", false},
		{"a star matches within a name", "*.tmp", "x/a.tmp", true},
		{"a star may be nothing", "*.tmp", ".tmp", true},
		{"a star stops at a slash", "/a*z", "a/z", false},
		{"several stars", "*a*b*c*", "xxaxxbxxcxx", true},
		{"several stars in the wrong order", "*a*b*c*", "cba", false},
		{"a question mark is one byte", "a?c", "abc", true},
		{"a question mark is not nothing", "a?c", "ac", false},
		{"a question mark is not a slash", "/a?c", "a/c", false},
		{"two stars in front are any directories", "**/x.log", "a/b/x.log", true},
		{"two stars in front are no directory", "**/x.log", "x.log", true},
		{"two stars in front do not split a name", "**/x.log", "ax.log", false},
		{"two stars anchored", "/**/b", "a/a/b", true},
		{"two stars in the middle are none", "/a/**/b", "a/b", true},
		{"two stars in the middle are two", "/a/**/b", "a/x/y/b", true},
		{"two stars in the middle want whole names", "/a/**/b", "a/xb", false},
		{"two stars at the end match contents", "cache/**", "cache/c1", true},
		{"two stars at the end match deep contents", "cache/**", "x/cache/c1/c2", true},
		{"two stars at the end do not match the directory", "cache/**", "cache/", false},
		{"two stars alone match all", "**", "a/b", true},
		{"two stars within a name are one", "/a**c", "a/c", false},
		{"two stars within a name match it", "a**c", "abbc", true},
		{"three stars are one", "/***/b", "x/y/b", false},
		{"a class", "[ab]x", "bx", true},
		{"a class that does not hold the byte", "[ab]x", "cx", false},
		{"a range", "[a-c]x", "bx", true},
		{"a negated class", "[^a-c]x", "dx", true},
		{"a negated class refuses", "[^a-c]x", "bx", false},
		{"an exclamation mark does not negate a class", "[!a]x", "!x", true},
		{"a class matches a slash", "/a[^x]b", "a/b", true},
		{"an unanchored class matches a slash", "a[^x]b", "y/a/b", true},
		{"a named class", "[[:digit:]]", "7", true},
		{"a named class among others", "[_[:upper:]]x", "_x", true},
		{"a bracket first in a class", "[]]", "]", true},
		{"a dash last in a class", "[a-]", "-", true},
		{"an escape in a class", `[\]a]`, "]", true},
		{"an escaped star", `\*`, "*", true},
		{"an escaped star is no star", `\*`, "a", false},
		{"an escaped exclamation mark", `\!a`, "!a", true},
		{"bytes that are not UTF-8", "\xff*", "\xff\xfe", true},
		{"many stars do not explode", strings.Repeat("*a", 60) + "b", strings.Repeat("a", 4000), false},
		{"a pattern of more states than fit the stack", strings.Repeat("?", 600), strings.Repeat("x", 600), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file, isDir := strings.CutSuffix(tt.path, "/")
			if got := mustParse(t, tt.pattern).Match(file, isDir); got != tt.want {
				t.Errorf("%q on %q: %v, want %v", tt.pattern, tt.path, got, tt.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, s := range []string{"", "/", "!", "!/", "[a", "[", "[^", "[[:nope:]]", "[[:alpha", `a\`, `[\`, "[z-a]", "a\x00b", "a\nb", `a\/`, strings.Repeat("a", MaxPattern+1)} {
		p, err := Parse(s)
		var pe *ParseError
		if !errors.As(err, &pe) || pe.Hint() == "" {
			t.Errorf("%.20q: got %v, %v, want a ParseError with a hint", s, p, err)
		}
	}
}

func TestPatternIsWrittenAsItWasRead(t *testing.T) {
	for _, s := range []string{"a", "/a", "a/", "!a", "!/a/b/", "**/x.log", `\!a`} {
		if got := mustParse(t, s).String(); got != s {
			t.Errorf("%q is written %q", s, got)
		}
	}
}

func TestLastMatchWins(t *testing.T) {
	list, err := ParseList([]string{"*.tmp", "!keep.tmp", "/x/keep.tmp"})
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]Result{
		"a": Unmatched, "a.tmp": Matched, "y/keep.tmp": Negated, "/x/keep.tmp": Matched,
	} {
		if got := list.Match(file, false); got != want {
			t.Errorf("%s: got %d, want %d", file, got, want)
		}
	}
	if _, err := ParseList([]string{"a", "[", "b"}); err == nil {
		t.Error("a bad pattern was accepted")
	}
}

func TestParseFile(t *testing.T) {
	const content = "# comment\n\n*.tmp\r\n\t spaced \n[bad\n/local\n!/sub/keep\nno-newline"
	list, bad := ParseFile([]byte(content), "a/b")
	if len(bad) != 1 || !strings.HasPrefix(bad[0].Error(), "line 5: ") {
		t.Errorf("bad lines: %v", bad)
	}
	for file, want := range map[string]Result{
		"x.tmp": Matched, "a/b/spaced": Matched, "a/b/local": Matched, "local": Unmatched, "a/b/c/local": Unmatched,
		"a/bc/local": Unmatched, "a/b/sub/keep": Negated, "a/b": Unmatched, "no-newline": Matched, "# comment": Unmatched,
	} {
		if got := list.Match(file, false); got != want {
			t.Errorf("%s: got %d, want %d", file, got, want)
		}
	}
}

// The rules and names of the fixture "exclude", which the official client
// archived; sub/local is the one place where we differ deliberately.
func TestExcludesAsTheOfficialClient(t *testing.T) {
	cli, err := ParseList([]string{"cli-out", "**/x.log", "sub/y.log/"})
	if err != nil {
		t.Fatal(err)
	}
	root, bad := ParseFile([]byte("# comment\n\n*.tmp\n/anchored\nonly-dir/\n  spaced  \n!keep.tmp\ncache/**\n[ab]x?\n"), "")
	inSub, badSub := ParseFile([]byte("/local\ninner-*\n!*.log\n"), "sub")
	if len(bad)+len(badSub) != 0 {
		t.Fatal(bad, badSub)
	}
	list := slices.Concat(cli, root)
	var kept []string
	for _, name := range []string{"a.tmp", "anchored", "ax1", "bx2", "cache/", "cache/c2", "cli-out", "cx3", "keep.tmp", "kept",
		"only-dir", "spaced", "x.log"} {
		kept = appendKept(kept, list, name)
	}
	list = append(list, inSub...)
	for _, name := range []string{"anchored", "b.tmp", "cache/", "cache/c1", "cli-out", "deeper/", "deeper/inner-rule", "deeper/local",
		"inner-rule", "keep.tmp", "local", "only-dir/", "y.log"} {
		kept = appendKept(kept, list, "sub/"+name)
	}
	want := []string{"cache", "cx3", "keep.tmp", "kept", "only-dir",
		"sub/anchored", "sub/cache", "sub/deeper", "sub/deeper/local", "sub/keep.tmp", "sub/y.log"}
	if !slices.Equal(kept, want) {
		t.Errorf("kept\n%v, want\n%v", kept, want)
	}
}

func appendKept(kept []string, list List, name string) []string {
	if list.Match(path.Clean(name), strings.HasSuffix(name, "/")) == Matched {
		return kept
	}
	return append(kept, path.Clean(name))
}
