package conformance

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

const aBackup = "/api2/json/backup?backup-type=host&backup-id=h1&backup-time=1000&store=store1"

// §13.1: tizbac asks for an upgrade without a Host header.
func TestBehaviour01NoHost(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	r := h.session(aBackup, "Upgrade: "+upgrade.Backup, "Connection: Upgrade", h.admin())
	r.want("GET", "/previous_backup_time", `200 {"data":null}`)
}

// §13.2: the official client begins paths with two slashes, others with one.
func TestBehaviour02DoubleSlash(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.back("host/h1", "10")
	for i, slashes := range []string{"/", "//", "///"} {
		target := strings.Replace(aBackup, "1000", fmt.Sprint(1000+i), 1)
		r := h.session(slashes+target[1:], "host: x", "connection: upgrade", "upgrade: "+upgrade.Backup, h.admin())
		r.want("GET", "/previous_backup_time", `200 {"data":10}`)
		r.conn.Close()
		h.idle()
		r = h.session(slashes+"api2/json/reader?backup-type=host&backup-id=h1&backup-time=10&store=store1", "host: x", "upgrade: "+upgrade.Reader, h.admin())
		r.want("GET", "/download?file-name=x.conf.blob", "200 ")
		r.conn.Close()
		for target, want := range map[string]string{"api2/json/version": `200 {"data":`, "api2//json//ping": `200 {"data":{"pong":true}}`, "api2/json/./ping": "400 "} {
			if got := h.http("GET", slashes+target, "", "", h.admin()); !strings.HasPrefix(got, want) {
				t.Errorf("%s%s: %s", slashes, target, got)
			}
		}
	}
}

// §13.3: the first bytes of HTTP/2 come with the request for the upgrade.
func TestBehaviour03BytesBehindTheUpgrade(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	for i := range 20 { // a server that dropped them lost one in ten
		r := h.dial()
		r.preface()
		id := r.send([4]string{"GET", "https", "localhost:8007", "/previous_backup_time"}, []string{form})
		target := strings.Replace(aBackup, "backup-id=h1", fmt.Sprint("backup-id=h", i), 1)
		r.flush(lines("GET "+target+" HTTP/1.1", "host: x", "upgrade: "+upgrade.Backup, h.admin()))
		if status, text := r.response(); status != http.StatusSwitchingProtocols {
			t.Fatalf("%d %s", status, text)
		}
		if got := r.wait(id).String(); got != `200 {"data":null}` {
			t.Errorf("connection %d: %s", i, got)
		}
		r.conn.Close()
	}
}

// §13.4: pxar-cli asks without "Connection: Upgrade".
func TestBehaviour04NoConnectionHeader(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	r := h.session(aBackup, "host: x", "upgrade: "+upgrade.Backup, h.admin())
	r.want("GET", "/previous_backup_time", `200 {"data":null}`)
}

// §13.5: tokens with "=" and with a space, tickets with a cookie as the Rust
// client escapes it.
func TestBehaviour05Authorization(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	ticket, csrf, refusal := h.login("admin@pbs", "secret12345")
	if refusal != "" {
		t.Fatal(refusal)
	}
	for i, headers := range [][]string{
		{"Authorization: PBSAPIToken=admin@pbs!tok:" + h.secret},
		{"Authorization: PBSAPIToken admin@pbs!tok:" + h.secret},
		{"Cookie: PBSAuthCookie=" + ticket, "CSRFPreventionToken: " + csrf},
		{"Cookie: other=1", "Cookie: PBSAuthCookie=" + strings.ReplaceAll(ticket, ":", "%3A"), "CSRFPreventionToken: " + csrf},
	} {
		target := strings.Replace(aBackup, "backup-id=h1", fmt.Sprint("backup-id=h", i), 1)
		r := h.session(target, append(headers, "host: x", "upgrade: "+upgrade.Backup)...)
		r.want("GET", "/previous_backup_time", `200 {"data":null}`)
	}
}

// §13.6: parameters of a POST are in the query, or in a JSON body.
func TestBehaviour06Parameters(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	r := h.rawBackup("host/h1", 1000)
	const utf8 = "content-type: application/json; charset=UTF-8"
	r.want("POST", "/fixed_index?archive-name=a.img.fidx&size=5", `200 {"data":1}`)
	r.want("POST", "/dynamic_index?archive-name=a.pxar.didx", `200 {"data":2}`)
	for _, tt := range []struct{ method, path, body, want string }{
		{"POST", "/fixed_index", `{"archive-name":"b.img.fidx","size":5}`, `200 {"data":3}`},
		{"POST", "/dynamic_index", `{"archive-name":"b.pxar.didx"}`, `200 {"data":4}`},
	} {
		if got := r.ask(tt.method, tt.path, utf8, []byte(tt.body)).String(); got != tt.want {
			t.Errorf("%s %s: %s", tt.path, tt.body, got)
		}
	}
	content := []byte("hello")
	for wid := 1; wid <= 4; wid++ {
		kind := map[int]string{1: "fixed", 0: "dynamic"}[wid%2]
		r.upload(kind, wid, content)
		r.append(kind, wid, 0, content)
	}
	fixed, dynamic := chunks.Sum(digest(content)), chunks.Sum(slices.Concat(le64(5), digest(content)))
	r.want("POST", fmt.Sprintf("/fixed_close?wid=1&chunk-count=1&size=5&csum=%s", fixed), `200 {"data":null}`)
	r.want("POST", fmt.Sprintf("/dynamic_close?wid=2&chunk-count=1&size=5&csum=%s", dynamic), `200 {"data":null}`)
	for path, csum := range map[string]chunks.Digest{"/fixed_close 3": fixed, "/dynamic_close 4": dynamic} {
		path, wid, _ := strings.Cut(path, " ")
		body := fmt.Sprintf(`{"wid":%s,"chunk-count":1,"size":5,"csum":%q}`, wid, csum)
		if got := r.ask("POST", path, utf8, []byte(body)).String(); got != `200 {"data":null}` {
			t.Errorf("%s %s: %s", path, body, got)
		}
	}
}

// upload sends a chunk in frames, without saying how long it is.
func (r *raw) upload(kind string, wid int, content []byte) {
	r.t.Helper()
	blob, err := chunks.Encode(nil, content, chunks.EncodeOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	path := fmt.Sprintf("/%s_chunk?digest=%s&encoded-size=%d&size=%d&wid=%d", kind, chunks.Sum(content), len(blob), len(content), wid)
	if got := r.ask("POST", path, octets, slices.Collect(slices.Chunk([]byte(blob), 16<<10))...).String(); !strings.HasPrefix(got, "200 ") {
		r.t.Errorf("%s: %s", path, got)
	}
}

func (r *raw) append(kind string, wid, offset int, content []byte) {
	r.t.Helper()
	body := pairs(wid, offset, chunks.Sum(content))
	if got := r.ask("PUT", "/"+kind+"_index", jsonType, []byte(body)).String(); got != `200 {"data":null}` {
		r.t.Errorf("PUT /%s_index %s: %s", kind, body, got)
	}
}

// §13.7: the authority is not the server's name, or there is none; pxar-cli
// leaves out the slash as well, and waits for ever where it is reset.
func TestBehaviour07AuthorityAndPath(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	r := h.rawBackup("host/h1", 1000)
	for _, pseudo := range [][4]string{
		{"GET", "https", "localhost:8007", "/previous_backup_time"},
		{"GET", "https", "", "/previous_backup_time"},
		{"GET", "https", "", "previous_backup_time"},
		{"GET", "http", "", "previous_backup_time?x=1"},
	} {
		id := r.send(pseudo, []string{form})
		r.flush("")
		if got := r.wait(id).String(); got != `200 {"data":null}` {
			t.Errorf("%q: %s", pseudo, got)
		}
	}
}

// §13.8: bodies of HTTP/2 come without their length, and requests without who
// sends them. A length that is not right is an error of this stream alone.
func TestBehaviour08NoLength(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	r := h.rawBackup("host/h1", 1000)
	blob, err := chunks.Encode(nil, bytes.Repeat([]byte("length "), 10_000), chunks.EncodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprintf("/blob?encoded-size=%d&file-name=x.conf.blob", len(blob))
	if got := r.ask("POST", path, octets, blob[:1], nil, blob[1:16000], blob[16000:]).String(); got != `200 {"data":null}` {
		t.Errorf("in four frames: %s", got)
	}
	if got := r.ask("POST", path, octets, blob[:100]).String(); !strings.HasPrefix(got, "400 ") {
		t.Errorf("cut short: %s", got)
	}
	if got := r.ask("POST", path, octets, blob, []byte("x")).String(); !strings.HasPrefix(got, "400 ") {
		t.Errorf("too long: %s", got)
	}
	r.want("GET", "/previous_backup_time", `200 {"data":null}`)
}

// §13.9: windows of 32 MiB, frames of 4 MiB; and who looks at no window has to
// wait, and is not cut off.
func TestBehaviour09Windows(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	r := h.rawBackup("host/h1", 1000)
	r.want("POST", "/dynamic_index?archive-name=a.pxar.didx", `200 {"data":1}`)
	settings := map[http2.SettingID]uint32{}
	for _, s := range r.begun {
		settings[s.ID] = s.Val
	}
	if settings[http2.SettingInitialWindowSize] != 32<<20 || settings[http2.SettingMaxFrameSize] != 4<<20 || settings[http2.SettingMaxConcurrentStreams] < 200 {
		t.Errorf("the server began with %v", r.begun)
	}
	if r.window != 32<<20-65535 {
		t.Errorf("the window of the connection grew by %d, want 32 MiB in all", r.window)
	}
	const n = 6 // of 12 MiB: 72 MiB at once, in the largest frames
	var ids []uint32
	for i := range n {
		content := bytes.Repeat([]byte{byte(i), 1, 2, 3}, 3<<20)
		blob, err := chunks.Encode(nil, content, chunks.EncodeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		path := fmt.Sprintf("/dynamic_chunk?digest=%s&encoded-size=%d&size=%d&wid=1", chunks.Sum(content), len(blob), len(content))
		ids = append(ids, r.send([4]string{"POST", "https", "localhost:8007", path}, []string{octets}, slices.Collect(slices.Chunk([]byte(blob), 4<<20))...))
	}
	r.flush("")
	for _, id := range ids {
		if got := r.wait(id).String(); !strings.HasPrefix(got, "200 ") {
			t.Errorf("stream %d: %s", id, got)
		}
	}
}

// §13.10: eight workers of tizbac append an image in any order, one chunk at
// many places, in bodies of up to 1,024 pairs.
func TestBehaviour10AnyOrder(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.open("backup vm/100 1000")
	const slots = 1200 // of which only 9 have contents of their own
	kinds := make([][]byte, 9)
	for i := range kinds {
		kinds[i] = slot(byte(i))
	}
	end := []byte("the end")
	size := slots*chunks.SlotSize + len(end)
	s.want(c, fmt.Sprintf("POST /fixed_index?archive-name=disk.img.fidx&size=%d", size), `200 {"data":1}`)
	var g errgroup.Group
	for _, content := range append(slices.Clone(kinds), end) {
		g.Go(func() error {
			if got := s.put(c, "fixed", "wid=1", content); !strings.HasPrefix(got, "200 ") {
				return fmt.Errorf("upload: %s", got)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	order := rand.New(rand.NewPCG(10, 13)).Perm(slots)
	s.want(c, "PUT /fixed_index "+pairs(1, slots*chunks.SlotSize, chunks.Sum(end)), "200 ") // the last first
	sums := make([]chunks.Digest, len(kinds))
	for i, k := range kinds {
		sums[i] = chunks.Sum(k)
	}
	var all bytes.Buffer
	for i := range slots {
		d := sums[i%9]
		all.Write(d[:])
	}
	all.Write(digest(end))
	work := append([][]int{order[:1024]}, slices.Collect(slices.Chunk(order[1024:], 64))...)
	for _, some := range work {
		g.Go(func() error {
			var digests, offsets []string
			for _, i := range some {
				digests, offsets = append(digests, `"`+sums[i%9].String()+`"`), append(offsets, fmt.Sprint(i*chunks.SlotSize))
			}
			body := fmt.Sprintf(`{"wid":1,"digest-list":[%s],"offset-list":[%s]}`, strings.Join(digests, ","), strings.Join(offsets, ","))
			if got := s.say(c, "PUT /fixed_index "+body); got != `200 {"data":null}` {
				return fmt.Errorf("%d pairs: %s", len(some), got)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	s.want(c, fmt.Sprintf("POST /fixed_close?wid=1&chunk-count=%d&size=%d&csum=%s", slots+1, size, chunks.Sum(all.Bytes())), `200 {"data":null}`)
	c.Close()
}

// §13.11: a chunk that was uploaded for one index is used in another.
func TestBehaviour11OneKnownSet(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	r := h.rawBackup("host/h1", 1000)
	r.want("POST", "/dynamic_index?archive-name=a.pxar.didx", `200 {"data":1}`)
	r.want("POST", "/dynamic_index?archive-name=b.pxar.didx", `200 {"data":2}`)
	r.want("POST", "/fixed_index?archive-name=c.img.fidx&size=5", `200 {"data":3}`)
	content := []byte("share")
	r.upload("dynamic", 1, content)
	r.append("dynamic", 2, 0, content)
	r.append("fixed", 3, 0, content)
	r.want("POST", fmt.Sprintf("/dynamic_close?wid=2&chunk-count=1&size=5&csum=%s", chunks.Sum(slices.Concat(le64(5), digest(content)))), `200 {"data":null}`)
}

// §13.12: tizbac closes an index twice. The second is an error, and the backup
// goes on.
func TestBehaviour12ClosedTwice(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	r := h.rawBackup("host/h1", 1000)
	r.want("POST", "/dynamic_index?archive-name=a.pxar.didx", `200 {"data":1}`)
	content := []byte("close")
	r.upload("dynamic", 1, content)
	r.append("dynamic", 1, 0, content)
	csum := chunks.Sum(slices.Concat(le64(5), digest(content)))
	closing := fmt.Sprintf("/dynamic_close?wid=1&chunk-count=1&size=5&csum=%s", csum)
	r.want("POST", closing, `200 {"data":null}`)
	r.want("POST", closing, "400 dynamic writer '1' not registered")
	r.finish("host", "h1", 1000, fmt.Sprintf(`{"filename":"a.pxar.didx","crypt-mode":"none","size":5,"csum":%q}`, csum), "200 ")
}

// finish uploads a manifest and finishes the backup.
func (r *raw) finish(typ, id string, at int, files, want string) {
	r.t.Helper()
	blob, err := chunks.Encode(nil, fmt.Appendf(nil,
		`{"backup-type":%q,"backup-id":%q,"backup-time":%d,"files":[%s],"unprotected":{}}`, typ, id, at, files), chunks.EncodeOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	r.blob("index.json.blob", blob)
	r.want("POST", "/finish", want)
}

func (r *raw) blob(name string, blob []byte) {
	r.t.Helper()
	path := fmt.Sprintf("/blob?encoded-size=%d&file-name=%s", len(blob), name)
	if got := r.ask("POST", path, octets, blob).String(); got != `200 {"data":null}` {
		r.t.Errorf("%s: %s", path, got)
	}
}

// §13.13: tizbac's manifest has no csum for qemu-server.conf.blob, and it does
// not look at the answer to /finish. PBS refuses; we fill it in, and say so.
func TestBehaviour13EmptyCsum(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	conf, err := chunks.Encode(nil, []byte("memory: 512\n"), chunks.EncodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r := h.rawBackup("vm/100", 1000)
	r.blob("qemu-server.conf.blob", conf)
	r.finish("vm", "100", 1000, `{"filename":"qemu-server.conf.blob","crypt-mode":"none","size":0,"csum":""}`, "200 ")
	r.conn.Close()
	h.idle()
	c := h.open("reader vm/100 1000")
	defer c.Close()
	_, text, _ := strings.Cut(h.say(c, "GET /download?file-name=index.json.blob"), " ")
	m, err := manifest.ParseBlob(chunks.Blob(text))
	if err != nil {
		t.Fatal(err)
	}
	if f, _ := m.File("qemu-server.conf.blob"); f.Csum != chunks.Sum(conf) || f.Size != uint64(len(conf)) {
		t.Errorf("the manifest says %v", f)
	}
	if log := h.taskLog("backup"); !strings.Contains(log, "qemu-server.conf.blob") || !strings.Contains(log, "TASK WARNINGS: 1") {
		t.Errorf("the log does not tell:\n%s", log)
	}
	r = h.rawBackup("vm/101", 1000) // what is wrong is not what is missing
	r.blob("qemu-server.conf.blob", conf)
	r.finish("vm", "101", 1000, fmt.Sprintf(`{"filename":"qemu-server.conf.blob","crypt-mode":"none","size":%d,"csum":%q}`, len(conf), chunks.Sum(nil)), "400 ")
}

// §13.14: on a first backup there is nothing previous, and that is said cleanly.
func TestBehaviour14FirstBackup(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	r := h.rawBackup("host/h1", 1000)
	r.want("GET", "/previous_backup_time", `200 {"data":null}`)
	r.want("GET", "/previous?archive-name=index.json.blob", "400 no valid previous backup")
	r.want("GET", "/previous?archive-name=root.pxar.didx", "400 no valid previous backup")
	r.want("POST", "/dynamic_index?archive-name=root.pxar.didx", `200 {"data":1}`)
}

// §13.15: on later backups what is in an index that was fetched counts as
// uploaded, and nothing else does.
func TestBehaviour15OnlyFetchedIndexes(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.archive("backup host/h1 1000", "known")
	h.idle()
	r := h.rawBackup("host/h1", 2000)
	r.want("POST", "/dynamic_index?archive-name=root.pxar.didx", `200 {"data":1}`)
	body := []byte(pairs(1, 0, chunks.Sum([]byte("known"))))
	if got := r.ask("PUT", "/dynamic_index", jsonType, body).String(); !strings.HasPrefix(got, "400 ") || !strings.Contains(got, "no such chunk") {
		t.Errorf("before it is fetched: %s", got)
	}
	r.want("GET", "/previous?archive-name=nope.pxar.didx", "404 ")
	r.want("GET", "/previous?archive-name=root.pxar.didx", "200 ")
	if got := r.ask("PUT", "/dynamic_index", jsonType, body).String(); got != `200 {"data":null}` {
		t.Errorf("after: %s", got)
	}
}

// §13.16: the catalog opens first and closes last.
func TestBehaviour16CatalogLast(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	c := h.open("backup host/h1 1000")
	h.want(c, "POST /dynamic_index?archive-name=catalog.pcat1.didx", `200 {"data":1}`)
	h.want(c, "POST /dynamic_index?archive-name=root.pxar.didx", `200 {"data":2}`)
	h.put(c, "dynamic", "wid=1", []byte("first half")) // while the other is open
	files := h.stream(c, 2, "root.pxar.didx", []byte("tree"))
	h.want(c, "POST /fixed_index?archive-name=disk.img.fidx&size=4", `200 {"data":3}`)
	h.put(c, "fixed", "wid=3", []byte("disk"))
	h.want(c, "PUT /fixed_index "+pairs(3, 0, chunks.Sum([]byte("disk"))), "200 ")
	csum := chunks.Sum(digest([]byte("disk")))
	h.want(c, "POST /fixed_close?wid=3&chunk-count=1&size=4&csum="+csum.String(), "200 ")
	files += fmt.Sprintf(`,{"filename":"disk.img.fidx","crypt-mode":"none","size":4,"csum":%q}`, csum)
	files += h.stream(c, 1, "catalog.pcat1.didx", []byte("names"))
	h.finish(c, "host/h1", "1000", files[1:])
	h.end(c)
	h.task("POST", "/admin/datastore/store1/verify", nil)
}

// §13.17: how the official client asks.
func TestBehaviour17OfficialRequests(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.back("host/h1", "1000")
	const of = "backup-type=host&backup-id=h1&backup-time=1000"
	for _, tt := range []struct{ method, target, kind, body, want string }{
		{"POST", "//api2/json/access/ticket", "application/json", `{"username":"admin@pbs","password":"secret12345"}`, `200 {"data":{"CSRFPreventionToken":`},
		{"GET", admin1 + "snapshots?", "application/x-www-form-urlencoded", "", `200 {"data":[{`},
		{"GET", admin1 + "groups?", "application/x-www-form-urlencoded", "", `200 {"data":[{`},
		{"GET", admin1 + "namespace?", "application/x-www-form-urlencoded", "", `200 {"data":[{"ns":""}]}`},
		{"PUT", admin1 + "notes?notes=n&" + of, "application/x-www-form-urlencoded", "", `200 {"data":null}`},
		{"PUT", admin1 + "protected?protected=true&" + of, "application/x-www-form-urlencoded", "", `200 {"data":null}`},
		{"PUT", admin1 + "protected?protected=false&" + of, "application/x-www-form-urlencoded", "", `200 {"data":null}`},
		{"POST", admin1 + "prune", "application/x-www-form-urlencoded", "backup-type=host&backup-id=h1&keep-last=1&dry-run=1", `200 {"data":[{`},
		{"DELETE", admin1 + "snapshots?" + of, "application/x-www-form-urlencoded", "", `200 {"data":null}`},
		{"GET", admin1 + "snapshots?", "application/x-www-form-urlencoded", "", `200 {"data":[]}`},
	} {
		r := h.dial()
		head := []string{tt.method + " " + tt.target + " HTTP/1.1", "user-agent: proxmox-backup-client/1.0", "content-type: " + tt.kind, h.admin(), "host: 127.0.0.1:8007"}
		if tt.body != "" {
			head = append(head, fmt.Sprintf("content-length: %d", len(tt.body)))
		}
		r.flush(lines(head...) + tt.body)
		if status, body := r.response(); !strings.HasPrefix(fmt.Sprint(status, " ", body), tt.want) {
			t.Errorf("%s %s: %d %s, want %s", tt.method, tt.target, status, body, tt.want)
		}
	}
}

// §13.18: what monitors ask for has an answer with something in it; what there
// is not is never well and empty.
func TestBehaviour18Monitors(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.archive("backup host/h1 1000", "x")
	h.call("POST", "/config/prune", map[string][]string{"id": {"job1"}, "store": {"store1"}, "schedule": {"daily"}, "keep-last": {"1"}})
	h.call("POST", "/config/verify", map[string][]string{"id": {"job2"}, "store": {"store1"}, "schedule": {"daily"}})
	for _, path := range []string{
		"/version", "/nodes", "/nodes/localhost/status", "/status/datastore-usage", "/admin/datastore", "/admin/datastore/store1/status",
		"/admin/datastore/store1/namespace", "/admin/datastore/store1/groups", "/admin/datastore/store1/snapshots", "/admin/datastore/store1/gc",
		"/config/prune", "/config/verify", "/nodes/localhost/tasks", "/access/acl", "/access/users", "/access/users/admin@pbs/token/tok",
	} {
		got := h.http("GET", "/api2/json"+path, "", "", h.admin())
		if !strings.HasPrefix(got, `200 {"data":`) || strings.Contains(got, `"data":null`) || strings.Contains(got, `"data":[]`) {
			t.Errorf("%s: %s", path, got)
		}
	}
	for path, want := range map[string]string{ // which may have nothing to tell yet
		"/config/sync": `200 {"data":[]`, "/admin/datastore/store1/rrd?timeframe=hour&cf=AVERAGE": `200 {"data":[`, "/nodes/localhost/rrd?timeframe=hour&cf=AVERAGE": `200 {"data":[`,
	} {
		if got := h.http("GET", "/api2/json"+path, "", "", h.admin()); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s", path, got)
		}
	}
	for _, path := range []string{"/api2/json/nope", "/api2/json/admin/datastore/store1/nope", "/api2/json/nodes/localhost/nope", "/nope"} {
		if got := h.http("GET", path, "", "", h.admin()); !strings.HasPrefix(got, "404 ") || len(got) < 10 {
			t.Errorf("%s: %q, want 404 with a sentence", path, got)
		}
	}
}

// §13.19: pbmac writes pxar 2 into a .pxar archive. The server does not look
// inside, and our client reads it.
func TestBehaviour19PXAR2(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	pxar2, err := os.ReadFile("../../catalog/pxar/testdata/third-party/pbmac-v2-unified.pxar")
	if err != nil {
		t.Fatal(err)
	}
	c := h.open("backup host/mac 1000")
	h.want(c, "POST /dynamic_index?archive-name=root.pxar.didx", `200 {"data":1}`)
	files := h.stream(c, 1, "root.pxar.didx", pxar2)
	h.finish(c, "host/mac", "1000", files[1:])
	h.end(c)
	o, err := h.client().OpenSnapshot(t.Context(), "", naming.Snapshot{Group: naming.Group{Type: naming.Host, ID: "mac"}, Time: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	s := archive.Open(o, archive.Options{})
	var back bytes.Buffer
	if err := s.Stream(t.Context(), "root.pxar.didx", &back); err != nil || !bytes.Equal(back.Bytes(), pxar2) {
		t.Errorf("it came back as other bytes: %v", err)
	}
	a, err := s.Archive(t.Context(), "root.pxar.didx", archive.ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if _, err := a.Find("empty-dir"); err != nil {
		t.Error(err)
	}
}
