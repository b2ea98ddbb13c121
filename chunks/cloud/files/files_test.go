package files

import (
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

func TestDir(t *testing.T) {
	d := Dir{FS: disk.OS{}, Path: t.TempDir()}
	for name, content := range map[string]string{"a": "", "vm/100/x/index.json.blob": "one\ntwo", "../../etc/passwd": "stays inside"} {
		if err := d.Put(name, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := d.Get(name); err != nil || string(got) != content {
			t.Errorf("%s holds %q, %v", name, got, err)
		}
	}
	if err := d.Put("a", []byte("new")); err != nil {
		t.Fatal(err)
	}
	if got, _ := d.Get("a"); string(got) != "new" {
		t.Errorf("after it was replaced: %q", got)
	}
	for range 2 { // also when it has gone already
		if err := d.Remove("a"); err != nil {
			t.Error(err)
		}
	}
	if _, err := d.Get("a"); err == nil {
		t.Error("a file that was removed is there")
	}
	for _, name := range []string{"", strings.Repeat("x", 1001)} {
		if d.Put(name, nil) == nil {
			t.Errorf("a name of %d bytes is taken", len(name))
		}
	}
}
