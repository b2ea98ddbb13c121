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

// Who typed the recovery key wrong was told that it has 15 words of four, and looked for
// what is missing from the last one.
func TestWhatAPaperKeyLooksLike(t *testing.T) {
	_, text, err := Paper()
	if err != nil {
		t.Fatal(err)
	}
	lengths := map[int]int{}
	for _, word := range strings.Split(text, "-") {
		lengths[len(word)]++
	}
	if len(lengths) != 2 || lengths[4] != 14 || lengths[2] != 1 {
		t.Errorf("words of %v letters", lengths)
	}
	if _, err := ReadPaper("XXXX-TR32-GBJQ"); err == nil || !strings.Contains(err.Error(), "14 words of four letters and digits, and one of two") {
		t.Error(err)
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
