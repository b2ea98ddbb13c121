package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	quoted  = regexp.MustCompile("(^|`)holdfast ([a-z][^`]*)") // what follows may be put together
	verb    = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
	another = regexp.MustCompile(`[;,.:)…]+$`)
)

// A hint of something critical was to run `holdfast member block`, which there is not: it
// is `holdfast node block`. The commands that texts of the product quote are there, with
// their flags.
func TestQuotedCommands(t *testing.T) {
	seen := 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			text, is := n.(*ast.BasicLit)
			if !is || text.Kind != token.STRING {
				return true
			}
			s, err := strconv.Unquote(text.Value)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range quoted.FindAllStringSubmatch(s, -1) {
				if c, _, err := newTestRoot().Find(strings.Fields(m[2])[:1]); m[1] == "" && (err != nil || !c.HasParent()) {
					continue // a text that begins with the name of the program
				}
				seen++
				if wrong := unknown(m[2]); wrong != "" {
					t.Errorf("%s: holdfast %s: %s", fset.Position(text.Pos()), m[2], wrong)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 80 {
		t.Errorf("only %d commands are found: does the search still work?", seen)
	}
	for command, good := range map[string]bool{
		"member block": false, "node block n3": true, "node block n3 --local": true, "node block --nothing": false,
		"status": true, "nosuch": false, "snapshot list, snapshot forget": true, "datastore create NAME --path DIR --reuse": true,
	} {
		if (unknown(command) == "") != good {
			t.Errorf("%q: %s", command, unknown(command))
		}
	}
}

// unknown says what of a command there is not, "" if all is there. Of a flag its name is
// looked at, and of the rest the words that come before the first that is no verb.
func unknown(command string) string {
	var verbs, flags []string
	for _, w := range strings.Fields(command) {
		end := another.MatchString(w)
		w = strings.Trim(another.ReplaceAllString(w, ""), "[]()")
		if name, is := strings.CutPrefix(w, "--"); is {
			name, _, _ = strings.Cut(name, "=")
			flags = append(flags, name)
		} else if len(flags) == 0 && verb.MatchString(w) {
			verbs = append(verbs, w)
		}
		if end {
			break
		}
	}
	root := newTestRoot()
	c, rest, err := root.Find(verbs)
	switch {
	case err != nil:
		return err.Error()
	case c.HasSubCommands() && len(rest) > 0:
		return "no such verb"
	}
	for _, name := range flags {
		if name != "" && c.Flag(name) == nil {
			return "no flag --" + name
		}
	}
	return ""
}
