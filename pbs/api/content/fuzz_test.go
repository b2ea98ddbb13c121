package content

import (
	"encoding/base64"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// A path that is shown in a list is read as the path that it is of, whatever
// bytes are in names, and no component of a path that is read is empty.
func FuzzFilePath(f *testing.F) {
	for _, text := range []string{"/", "root", "L3Jvb3QucHhhci5kaWR4", "Ly8vYS8vYg==", "%", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p := upgrade.QueryParams(httptest.NewRequest("GET", "/?filepath="+url.QueryEscape(text), nil))
		dir := filePath(p)
		for _, name := range dir {
			if name == "" || strings.Contains(name, "/") {
				t.Errorf("%q has the component %q", text, name)
			}
			if name == "." || name == ".." {
				return // no name of an entry
			}
		}
		if len(dir) == 0 || p.Err() != nil {
			return
		}
		e := newEntry(dir[:len(dir)-1], dir[len(dir)-1], 'f')
		again, err := base64.StdEncoding.DecodeString(e.Path)
		if err != nil || string(again) != "/"+strings.Join(dir, "/") {
			t.Errorf("%q is %q, shown as %q (%v)", text, dir, again, err)
		}
	})
}
