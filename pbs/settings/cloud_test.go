package settings

import (
	"strings"
	"testing"
	"time"
)

func TestBackend(t *testing.T) {
	const text = "type=s3,client=near,bucket=b,prefix=a/b,max-cache-size=68719476736,cache-dir=/c,offload-after=168h0m0s,read-only=1,object-lock=governance:60d"
	var b Backend
	if err := b.UnmarshalText([]byte("s3,client=near,bucket=b,prefix=/a/b/,max-cache-size=64GiB,cache-dir=/c,offload-after=7d,read-only=1,single-writer=0,object-lock=governance:60d")); err != nil {
		t.Fatal(err)
	}
	if b.CacheSize != 64<<30 || b.After != 7*24*time.Hour || !b.ReadOnly || b.SingleWriter {
		t.Errorf("read as %+v", b)
	}
	if got, _ := b.MarshalText(); string(got) != text {
		t.Errorf("written as %s", got)
	}
	for _, bad := range []string{"type=nfs", "type=s3,client=a", "type=s3,bucket=a", "s3,client=a,bucket=b,x=1", "s3,client=a,bucket=b,cache-dir=c", "s3,client=a,bucket=b,offload-after=-1h", "s3,client=a,bucket=b,max-cache-size=x", "s3,client=a,bucket=b,object-lock=60d"} {
		if new(Backend).UnmarshalText([]byte(bad)) == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// What is neither on nor off is refused, and so is a cache that is too small to be meant.
func TestFlagsAndCaches(t *testing.T) {
	for text, want := range map[string]bool{"1": true, "YES": true, "on": true, "true": true, "0": false, "no": false, "off": false, "False": false} {
		b := Backend{ReadOnly: !want}
		if err := b.Set("read-only", text); err != nil || b.ReadOnly != want {
			t.Errorf("read-only=%s is %v, %v", text, b.ReadOnly, err)
		}
	}
	for _, bad := range []string{"", "2", "y", "ture"} {
		if err := new(Backend).Set("single-writer", bad); err == nil || !strings.Contains(err.Error(), "single-writer") {
			t.Errorf("single-writer=%s: %v", bad, err)
		}
	}
	for size, fine := range map[int64]bool{0: true, 1: false, 63 << 20: false, 64 << 20: true} {
		if err := (Backend{CacheSize: size}).CheckCache(); (err == nil) != fine {
			t.Errorf("a cache of %d bytes: %v", size, err)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "12": 12, "1KiB": 1024, "2 kB": 2000, "1.5MiB": 3 << 19, "3T": 3e12, "64gib": 64 << 30} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "x", "-1", "1QiB", "1KM", "9999999P"} {
		if got, err := ParseSize(bad); err == nil {
			t.Errorf("ParseSize(%q) = %d", bad, got)
		}
	}
}

func FuzzBackend(f *testing.F) {
	f.Add("type=s3,client=a,bucket=b,offload-after=7d")
	f.Fuzz(func(t *testing.T, text string) {
		var b, again Backend
		if b.UnmarshalText([]byte(text)) != nil || b.IsZero() {
			return
		}
		out, _ := b.MarshalText()
		if err := again.UnmarshalText(out); err != nil || again != b {
			t.Errorf("%q becomes %q, and is read as %+v, %v", text, out, again, err)
		}
	})
}

// Addresses and places that somebody mistyped are refused when they are set up, with what
// is wrong: htp:// was taken for a host, and a prefix ../x led out of the bucket at stores
// that keep files.
func TestMistypedPlaces(t *testing.T) {
	for text, good := range map[string]bool{
		"https://s3.example.com": true, "s3.example.com": true, "http://127.0.0.1:9000": true, "https://{{bucket}}.s3.{{region}}.amazonaws.com": true,
		"https://host/path": true, "s3.example.com:9000": true,
		"htp://s3.example.com": false, "s3://bucket": false, "ftp://x": false, "https://": false, "https:///x": false, "http://:9000": false,
		"https://key:secret@host": false, "https://host?x=1": false,
	} {
		if err := CheckEndpoint(text); (err == nil) != good {
			t.Errorf("endpoint %q: %v", text, err)
		} else if err != nil && !strings.Contains(err.Error(), "write https://") {
			t.Errorf("endpoint %q: %v does not say what to write", text, err)
		}
	}
	for text, good := range map[string]bool{
		"": true, "a": true, "/a/b/": true, "a.b/..c": true, strings.Repeat("x", 200): true,
		".": false, "..": false, "../x": false, "a/../b": false, "a/./b": false, "a//b": false, strings.Repeat("x", 201): false, "a\nb": false, `a\b`: false,
	} {
		if err := CheckPrefix(text); (err == nil) != good {
			t.Errorf("prefix %q: %v", text, err)
		}
	}
}
