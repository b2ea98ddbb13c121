// Package docs tests what people read: links, changelog entries, and that no
// file tells where it was written.
package docs

import (
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// markdown returns the pages that people read, by path.
func markdown(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	for _, pattern := range []string{"../*.md", "*.md", "../changelog/*/*.md"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			pages[name] = string(text)
		}
	}
	if len(pages) < 5 {
		t.Fatalf("found only %d pages", len(pages))
	}
	return pages
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notSlug = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

func TestLinksLeadSomewhere(t *testing.T) {
	for page, text := range markdown(t) {
		for _, found := range link.FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(found[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			name := page
			if target != "" {
				name = filepath.Join(filepath.Dir(page), target)
			}
			if _, err := os.Stat(name); err != nil {
				t.Errorf("%s links to %s, which is not there", page, found[1])
				continue
			}
			if anchor != "" && !hasAnchor(t, name, anchor) {
				t.Errorf("%s links to %s, but %s has no such heading", page, found[1], name)
			}
		}
	}
}

// hasAnchor reports whether a page has a heading that a link can name so.
func hasAnchor(t *testing.T, page, anchor string) bool {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range heading.FindAllStringSubmatch(string(text), -1) {
		slug := notSlug.ReplaceAllString(strings.ToLower(h[1]), "")
		if strings.ReplaceAll(slug, " ", "-") == anchor {
			return true
		}
	}
	return false
}

func TestReadmeLeadsToEveryPage(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		if !bytes.Contains(readme, []byte("(docs/"+page+")")) {
			t.Errorf("README.md does not link to docs/%s", page)
		}
	}
}

// TestReadmeTreeIsTrue wants every folder in README's tree to be there.
func TestReadmeTreeIsTrue(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, tree, found := strings.Cut(string(readme), "## What is where\n\n```\n")
	tree, _, closed := strings.Cut(tree, "```")
	if !found || !closed {
		t.Fatal("README.md has no tree of folders")
	}
	top := ""
	for line := range strings.Lines(tree) {
		name := strings.Fields(line)[0]
		if line[0] != ' ' {
			top = name
		} else {
			name = top + name
		}
		if _, err := os.Stat(filepath.Join("..", name)); err != nil {
			t.Errorf("README.md shows %s, which is not there", name)
		}
	}
}

var entry = regexp.MustCompile(`^Kind: (Added|Changed|Fixed|Removed|Security)\nIssue: \d+\n\n# [^\n]+[^.\n]\n\n[^\n]`)

func TestChangelogEntriesFollowTheTemplate(t *testing.T) {
	files, err := os.ReadDir("../changelog/unreleased")
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`^\d{4}-[a-z0-9-]+\.md$`)
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join("../changelog/unreleased", f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if !name.MatchString(f.Name()) || !entry.Match(text) {
			t.Errorf("changelog/unreleased/%s does not follow changelog/TEMPLATE", f.Name())
		}
	}
}

var module = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|")

// TestEveryDependencyHasItsReason wants a row in dependencies.md for every
// module that is imported.
func TestEveryDependencyHasItsReason(t *testing.T) {
	page, err := os.ReadFile("dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	var known []string
	for _, row := range module.FindAllSubmatch(page, -1) {
		known = append(known, string(row[1]))
	}
	err = filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(name) != ".go" {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, imp := range f.Imports {
			p, _ := strconv.Unquote(imp.Path.Value)
			host, _, _ := strings.Cut(p, "/")
			if !strings.Contains(host, ".") || strings.HasPrefix(p, "github.com/holdfast-mesh/") {
				continue
			}
			if !slices.ContainsFunc(known, func(m string) bool { return p == m || strings.HasPrefix(p, m+"/") }) {
				t.Errorf("%s imports %s; docs/dependencies.md does not say why", name, p)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// foreign is what no file may name: the servers that packages come from, whose
// names belong into a user's configuration, and folders of the machine on
// which a file was written. In two parts, or this file would be the first hit.
var foreign = []string{
	"proxy.golang" + ".org", "sum.golang" + ".org", "registry.npmjs" + ".org", "files.pythonhosted" + ".org",
	"pypi" + ".org", "index.crates" + ".io", "rubygems" + ".org", "/wo" + "rk/", "/ro" + "ot/",
}

func TestNoFileTellsWhereItWasWritten(t *testing.T) {
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if d.Name() == ".git" || d.Name() == "bin" || d.Name() == "demo-output" {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil || bytes.IndexByte(text, 0) >= 0 { // bytes of others, not words of ours
			return err
		}
		for _, f := range foreign {
			if bytes.Contains(text, []byte(f)) {
				t.Errorf("%s names %s", name, f)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
