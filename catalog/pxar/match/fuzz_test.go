package match

import (
	"strings"
	"testing"
)

// FuzzMatchAgreesWithBacktracking compares the automaton with a plain
// recursive matcher that follows the text of the package comment.
func FuzzMatchAgreesWithBacktracking(f *testing.F) {
	for _, seed := range [][2]string{
		{"a/b", "x/a/b"}, {"/a/**/b", "a/x/y/b"}, {"cache/**", "cache/c1"}, {"**/x", "x"}, {"[^a-c]x", "d/x"},
		{"*a*b", "aab"}, {`\*?`, "*x"}, {"**", "a/b"}, {"a**/b", "ac/b"}, {"[[:punct:]]/", "!"}, {"!/[]-a]*", "^a"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, path string) {
		if len(pattern) > 20 || len(path) > 20 || strings.HasPrefix(path, "/") {
			return // backtracking is exponential
		}
		p, err := Parse(pattern)
		if err != nil {
			return
		}
		again, err := Parse(p.String())
		if err != nil || again.String() != p.String() {
			t.Fatalf("%q is written %q, which is read as %q, %v", pattern, p, again, err)
		}
		tokens, err := compile(p.glob)
		if err != nil {
			t.Fatal(err)
		}
		want := backtrack(tokens, path, true)
		for i := 0; i < len(path) && !p.anchored && !want; i++ {
			want = path[i] == '/' && backtrack(tokens, path[i+1:], true)
		}
		if got := p.Match(path, true); got != want {
			t.Errorf("%q on %q: %v, want %v", pattern, path, got, want)
		}
	})
}

// backtrack reports whether tokens match all of path; boundary says that path
// begins a component.
func backtrack(tokens []token, path string, boundary bool) bool {
	if len(tokens) == 0 {
		return path == ""
	}
	t, rest := tokens[0], tokens[1:]
	skip := t.kind == star || t.kind == anything || t.kind == anyDirs && boundary
	if skip && backtrack(rest, path, boundary) {
		return true
	}
	if path == "" {
		return false
	}
	c, tail := path[0], path[1:]
	switch t.kind {
	case literal:
		return c == t.char && backtrack(rest, tail, c == '/')
	case anyByte:
		return c != '/' && backtrack(rest, tail, false)
	case class:
		return t.class.has(c) && backtrack(rest, tail, c == '/')
	case star:
		return c != '/' && backtrack(tokens, tail, false)
	default:
		return backtrack(tokens, tail, c == '/')
	}
}

// FuzzParseFile feeds arbitrary rule files: a bad line must never cost a good
// one, and nothing may panic.
func FuzzParseFile(f *testing.F) {
	f.Add([]byte("# c\n*.tmp\n [bad\n!/x/\n"), "sub")
	f.Add([]byte("\\\n[[:alpha:]-z]\n"), "")
	f.Fuzz(func(t *testing.T, content []byte, dir string) {
		list, bad := ParseFile(content, dir)
		good, _ := ParseFile(append([]byte("sure\n"), content...), dir)
		if len(good) != len(list)+1 {
			t.Errorf("%d rules, and %d with one more line before them (%d bad)", len(list), len(good), len(bad))
		}
		good.Match("a/b", false)
	})
}

func BenchmarkMatch(b *testing.B) {
	list, err := ParseList([]string{"*.tmp", "/var/cache/**", "**/node_modules/", ".git/objects"})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		list.Match("home/user/projects/holdfast/catalog/pxar/match/pattern.go", false)
	}
}
