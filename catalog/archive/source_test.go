package archive

import (
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
)

func TestParseSource(t *testing.T) {
	for _, test := range []struct {
		name, in string
		want     Source
		ok       bool
	}{
		{"a directory", "root.pxar:/", Source{"root.pxar", Tree, "/"}, true},
		{"an image", "drive-scsi0.img:/dev/vg/a", Source{"drive-scsi0.img", Image, "/dev/vg/a"}, true},
		{"a configuration", "etc.conf:x", Source{"etc.conf", Conf, "x"}, true},
		{"a log", "_a.log:x", Source{"_a.log", Log, "x"}, true},
		{"a path with colons and line breaks", "a.img:b:c\nd", Source{"a.img", Image, "b:c\nd"}, true},
		{"no path", "root.pxar:", Source{}, false},
		{"no name", ".pxar:/", Source{}, false},
		{"no kind", "root:/", Source{}, false},
		{"another kind", "root.zip:/", Source{}, false},
		{"a name with a dot", "a.b.pxar:/", Source{}, false},
		{"a name with a slash", "a/b.pxar:/", Source{}, false},
		{"a name that begins with a dash", "-a.pxar:/", Source{}, false},
		{"a name that is too long", strings.Repeat("a", 250) + ".pxar:/", Source{}, false},
		{"the name of a server", "root.pxar.didx:/", Source{}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseSource(test.in)
			if got != test.want || (err == nil) != test.ok {
				t.Fatalf("%q is %+v, %v", test.in, got, err)
			}
			if err != nil && hint(err) == "" {
				t.Fatalf("%v has no hint", err)
			}
		})
	}
}

func TestServerName(t *testing.T) {
	for in, want := range map[string]string{
		"root.pxar": "root.pxar.didx", "root.mpxar": "root.mpxar.didx", "root.ppxar": "root.ppxar.didx",
		"catalog.pcat1": "catalog.pcat1.didx", "disk.img": "disk.img.fidx", "etc.conf": "etc.conf.blob",
		"client.log": "client.log.blob", "index.json": "index.json.blob", "rsa-encrypted.key": "rsa-encrypted.key.blob",
		"root.pxar.didx": "root.pxar.didx", "disk.img.fidx": "disk.img.fidx", "a.blob": "a.blob", "other": "other.blob",
	} {
		if got := ServerName(in); got != want {
			t.Errorf("%s is %s, want %s", in, got, want)
		}
	}
}

func FuzzParseSource(f *testing.F) {
	f.Add("root.pxar:/")
	f.Add("a.img:b:c\nd")
	f.Add("-x.conf:\x00")
	f.Add(".log::")
	f.Fuzz(func(t *testing.T, in string) {
		s, err := ParseSource(in)
		if err != nil {
			return
		}
		if s.String() != in {
			t.Fatalf("%q is written as %q", in, s)
		}
		if err := naming.CheckArchive(s.Archive()); err != nil {
			t.Fatalf("%q gets a name that no server takes: %v", in, err)
		}
	})
}
