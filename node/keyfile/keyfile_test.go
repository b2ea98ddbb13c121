package keyfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMake(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	key, err := Make(path)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Make(path); err != nil || !again.Equal(key) {
		t.Errorf("the second time it is another key, or %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); err == nil {
		t.Error("a key that everybody may read was taken")
	}
}

func TestPaper(t *testing.T) {
	key, text, err := Paper()
	if err != nil {
		t.Fatal(err)
	}
	for _, spelt := range []string{text, strings.ToLower(text), strings.ReplaceAll(text, "-", " ") + "\n"} {
		if read, err := ReadPaper(spelt); err != nil || !read.Equal(key) {
			t.Errorf("%q: %v", spelt, err)
		}
	}
	for i, r := range text {
		if r == '-' {
			continue
		}
		other := "A"
		if r == 'A' {
			other = "B"
		}
		if _, err := ReadPaper(text[:i] + other + text[i+1:]); err == nil {
			t.Errorf("a wrong letter at %d was not noticed", i)
		}
	}
}

func FuzzReadPaper(f *testing.F) {
	_, text, err := Paper()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if key, err := ReadPaper(text); (key == nil) == (err == nil) {
			t.Fatalf("%q: %v, %v", text, key, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	path := filepath.Join(f.TempDir(), "key")
	if _, err := Make(path); err != nil {
		f.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		if key, err := parse(text); (key == nil) == (err == nil) {
			t.Fatalf("%q: %v, %v", text, key, err)
		}
	})
}
