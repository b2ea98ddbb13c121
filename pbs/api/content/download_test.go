package content

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
)

func b64(path string) string {
	return url.QueryEscape(base64.StdEncoding.EncodeToString([]byte(path)))
}

func TestCatalog(t *testing.T) {
	w := newWorld(t)
	w.Back(t, "store1", web(t, nil))
	without := web(t, nil)
	without.Snapshot, without.Files = "host/web/2024-11-14T22:13:20Z", without.Files[:1]
	w.Back(t, "store1", without)
	for _, when := range []string{"backup-time=1700000000", "backup-time=1731622400"} { // with a catalog, and from the archive
		for _, c := range []struct{ path, want string }{
			{"/", `{"filepath":"` + enc("/root.pxar.didx") + `","text":"root.pxar.didx","type":"d","leaf":false}`},
			{"root", `"text":"root.pxar.didx"`},
			{b64("/root.pxar.didx"), `{"filepath":"` + enc("/root.pxar.didx/motd") + `","text":"motd","type":"f","leaf":true,"size":0,"mtime":1600000000}`},
			{b64("/root.pxar.didx/etc"), `{"filepath":"` + enc("/root.pxar.didx/etc/hosts") + `","text":"hosts","type":"f","leaf":true,"size":20,"mtime":1600000000}`},
			{b64("root.pxar.didx/etc/"), `"text":"hosts.link","type":"h","leaf":true}`},
			{b64("/root.pxar.didx/etc"), `"text":"mtab","type":"l","leaf":true}`},
			{b64("/root.pxar.didx/etc"), `"text":"ssh","type":"d","leaf":false}`},
		} {
			wants(t, w, "reader@pbs", "GET", "catalog?backup-type=host&backup-id=web&"+when+"&filepath="+c.path, "", 200, c.want)
		}
		wants(t, w, "reader@pbs", "GET", "catalog?backup-type=host&backup-id=web&"+when+"&filepath="+b64("/root.pxar.didx/nope"), "", 400, "no such file '/root.pxar.didx/nope' in the backup")
	}
	wants(t, w, "reader@pbs", "GET", "catalog?"+snap+"&filepath=%25%25", "", 400, "'filepath': failed to decode base64 path")
	wants(t, w, "reader@pbs", "GET", "catalog?"+snap+"&filepath="+b64("/root.pxar.didx/motd"), "", 400, "is no directory")
}

func enc(path string) string { return base64.StdEncoding.EncodeToString([]byte(path)) }

func TestDownloads(t *testing.T) {
	w := newWorld(t)
	w.Back(t, "store1", web(t, nil))
	get := func(target string) []byte {
		t.Helper()
		r := w.Answer("reader@pbs", "GET", "/admin/datastore/store1/"+target, "", "")
		if r.Code != 200 || r.Header().Get("Content-Type") != "application/octet-stream" || r.Header().Get("Content-Length") != "" || !r.Flushed {
			t.Fatalf("%s: %d %v %.200s", target, r.Code, r.Header(), r.Body)
		}
		return r.Body.Bytes()
	}
	image := bytes.Repeat([]byte("image"), 2<<20)
	if !bytes.Equal(get("download-decoded?"+snap+"&file-name=disk.img.fidx"), image) {
		t.Error("the image has another content")
	}
	if got := get("download-decoded?" + snap + "&file-name=etc.conf.blob"); string(got) != "conf" {
		t.Errorf("the small file is %q", got)
	}
	raw := get("download?" + snap + "&file-name=etc.conf.blob")
	if text, err := chunks.Blob(raw).Decode(nil, nil); err != nil || string(text) != "conf" {
		t.Errorf("the stored file decodes to %q, %v", text, err)
	}
	if x, err := chunks.ParseIndex(get("download?" + snap + "&file-name=disk.img.fidx")); err != nil || x.Size() != int64(len(image)) {
		t.Errorf("the stored index: %v", err)
	}
	var m struct{ Files []any }
	if err := json.Unmarshal(get("download-decoded?"+snap+"&file-name=index.json.blob"), &m); err != nil || len(m.Files) != 4 {
		t.Errorf("the manifest has %d files, %v", len(m.Files), err)
	}
	for _, path := range []string{"/root.pxar.didx/etc/hosts", "root.pxar.didx/etc/hosts.link"} {
		if got := get("pxar-file-download?" + snap + "&filepath=" + b64(path)); string(got) != "127.0.0.1 localhost\n" {
			t.Errorf("%s is %q", path, got)
		}
	}
	if got := get("pxar-file-download?" + snap + "&filepath=" + b64("/root.pxar.didx/motd")); len(got) != 0 {
		t.Errorf("an empty file is %q", got)
	}
	checkZip(t, get("pxar-file-download?"+snap+"&filepath="+b64("/root.pxar.didx/etc")))
	checkTar(t, get("pxar-file-download?"+snap+"&tar=1&filepath="+b64("/root.pxar.didx")))
}

func checkZip(t *testing.T, b []byte) {
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	must(t, err)
	want := map[string]string{
		"etc/": "", "etc/hosts": "127.0.0.1 localhost\n", "etc/hosts.link": "127.0.0.1 localhost\n",
		"etc/mtab": "/proc/mounts", "etc/ssh/": "", "etc/ssh/big": strings.Repeat("0123456789abcdef", 100000),
	}
	for _, f := range z.File {
		r, err := f.Open()
		must(t, err)
		got, err := io.ReadAll(r)
		must(t, err)
		if text, ok := want[f.Name]; !ok || text != string(got) {
			t.Errorf("zip has %s with %.40q", f.Name, got)
		}
		delete(want, f.Name)
		if f.Name == "etc/hosts" && (f.Mode() != 0o640 || f.Modified.Unix() != 1600000000) {
			t.Errorf("%s has mode %o, time %s", f.Name, f.Mode(), f.Modified)
		}
	}
	if len(want) > 0 {
		t.Errorf("zip lacks %v", want)
	}
}

func checkTar(t *testing.T, b []byte) {
	z, err := zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1))
	must(t, err)
	defer z.Close()
	names := []string{}
	r := tar.NewReader(z)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		names = append(names, h.Name)
	}
	if got := strings.Join(names, " "); !strings.Contains(got, "./etc/hosts ./etc/hosts.link ./etc/mtab") {
		t.Errorf("tar has %s", got)
	}
}

// What is encrypted is not decoded, what is not there is said not to be, and a
// signature alone, which only a key can check, keeps nobody from reading.
func TestDownloadsThatAreRefused(t *testing.T) {
	w := newWorld(t)
	w.Back(t, "store1", web(t, chunks.NewKey([chunks.KeySize]byte{1})))
	for _, c := range []struct{ target, text string }{
		{"download-decoded?" + snap + "&file-name=disk.img.fidx", "cannot decode 'disk.img.fidx' - is encrypted"},
		{"download-decoded?" + snap + "&file-name=etc.conf.blob", "cannot decode 'etc.conf.blob' - is encrypted"},
		{"catalog?" + snap + "&filepath=/", "cannot decode 'catalog.pcat1.didx' - is encrypted"},
		{"pxar-file-download?" + snap + "&filepath=" + b64("/root.pxar.didx/motd"), "cannot decode 'root.pxar.didx' - is encrypted"},
		{"pxar-file-download?" + snap + "&filepath=/", "the path has to begin with the name of an archive"},
		{"download?" + snap + "&file-name=nope.blob", "File open failed: No such file or directory (os error 2)"},
		{"download?" + snap + "&file-name=..%2Fowner", "'file-name': "},
		{"download-decoded?" + snap + "&file-name=nope.blob", "File open failed"},
		{"download-decoded?" + snap + "&file-name=client.log.blob", "File open failed"},
		{"download?backup-type=host&backup-id=web&backup-time=5&file-name=etc.conf.blob", "File open failed"},
	} {
		wants(t, w, "reader@pbs", "GET", c.target, "", 400, c.text)
	}
	wants(t, w, "reader@pbs", "GET", "download-decoded?"+snap+"&file-name=index.json.blob", "", 200, `"signature"`)
	wants(t, w, "bob@pbs", "GET", "download?"+snap+"&file-name=etc.conf.blob", "", 400, "backup owner check failed (bob@pbs != alice@pbs)")
	wants(t, w, "alice@pbs", "GET", "download?"+snap+"&file-name=etc.conf.blob", "", 200, "")
	wants(t, w, "nobody@pbs", "GET", "download?"+snap+"&file-name=etc.conf.blob", "", 403, "permission check failed - missing Datastore.Read|Datastore.Backup on /datastore/store1")
}

// When content is lost in the middle of an answer, the connection ends: nobody
// takes half a file for a whole one.
func TestHalfAnAnswerIsNoAnswer(t *testing.T) {
	w := newWorld(t)
	w.Back(t, "store1", web(t, nil))
	d, err := w.Get("store1")
	must(t, err)
	x, err := d.ReadIndex("", webSnapshot(t), "disk.img.fidx")
	must(t, err)
	blob, err := d.Chunks().Get(t.Context(), x.Digest(x.Len()-1), nil)
	must(t, err)
	must(t, w.Close())
	damaged := 0
	mem := w.FS.(*disktest.Mem)
	for _, name := range mem.Names() {
		if at := bytes.Index(mem.Bytes(name), blob); at >= 0 {
			mem.FlipBit(name, int64(at+len(blob)/2))
			damaged++
		}
	}
	if damaged == 0 {
		t.Fatal("the last chunk is not there")
	}
	must(t, w.Open(t.Context()))
	srv := httptest.NewServer(w.Router)
	defer srv.Close()
	req := httptest.NewRequest("GET", srv.URL+"/api2/json/admin/datastore/store1/download-decoded?"+snap+"&file-name=disk.img.fidx", nil)
	req.RequestURI = ""
	req.Header.Set("Authorization", "reader@pbs")
	res, err := srv.Client().Do(req)
	must(t, err)
	defer res.Body.Close()
	n, err := io.Copy(io.Discard, res.Body)
	if res.StatusCode != 200 || err == nil || n != 8<<20 {
		t.Errorf("status %d, %d bytes, and then %v; want the whole chunks and an error", res.StatusCode, n, err)
	}
}

func TestUploadLog(t *testing.T) {
	w := newWorld(t)
	w.Back(t, "store1", web(t, nil))
	log, err := chunks.Encode(nil, []byte("what happened"), chunks.EncodeOptions{})
	must(t, err)
	up := func(who, body string) (int, string) {
		return w.Ask(who, "POST", "/admin/datastore/store1/upload-backup-log?"+snap, "application/octet-stream", body)
	}
	for _, c := range []struct {
		who, body string
		status    int
		text      string
	}{
		{"bob@pbs", string(log), 400, "backup owner check failed (bob@pbs != alice@pbs)"},
		{"admin@pbs", string(log), 400, "backup owner check failed (admin@pbs != alice@pbs)"}, // no privilege is enough
		{"alice@pbs", "no blob", 400, ""},
		{"alice@pbs", string(log), 200, `{"data":null}`},
		{"alice@pbs", string(log), 400, "backup already contains a log."},
	} {
		if status, text := up(c.who, c.body); status != c.status || !strings.Contains(text, c.text) {
			t.Errorf("%s sends a log: %d %s, want %d %s", c.who, status, text, c.status, c.text)
		}
	}
	wants(t, w, "alice@pbs", "GET", "download-decoded?"+snap+"&file-name=client.log.blob", "", 200, "what happened")
}
