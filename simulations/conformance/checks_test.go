package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/sitetest"
)

// §12.4, check 1.
func TestCheck01Login(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, id := range []access.AuthID{"a@pbs", "b@pbs"} {
		if err := s.AddUser(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	ticket, _, refusal := s.login("a@pbs", sitetest.Password)
	if refusal != "" {
		t.Fatal(refusal)
	}
	if _, _, refusal := s.login("a@pbs", ticket); refusal != "" {
		t.Errorf("with the own ticket: %s", refusal)
	}
	for what, login := range map[string][2]string{"wrong password": {"a@pbs", "wrong-password"}, "ticket of another": {"b@pbs", ticket}} {
		began := time.Now()
		if _, _, refusal := s.login(login[0], login[1]); refusal != "401 permission check failed." {
			t.Errorf("%s: %s", what, refusal)
		}
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("%s: it took %v", what, took)
		}
	}
}

// §12.4, check 2, and §13.5.
func TestCheck02Tokens(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if err := s.Access.AddUser(t.Context(), access.User{ID: "off@pbs", Disabled: true}, ""); err != nil {
		t.Fatal(err)
	}
	none := s.token(sitetest.Admin + "!none")
	off := s.token("off@pbs!tok")
	for _, tt := range []struct{ name, header, want string }{
		{"a space", "PBSAPIToken admin@pbs!tok:" + s.secret, "400 missing Upgrade header"},
		{"an equals sign", "PBSAPIToken=admin@pbs!tok:" + s.secret, "400 missing Upgrade header"},
		{"no privileges", "PBSAPIToken admin@pbs!none:" + none, "403 missing permissions 'Datastore.Backup' on '/datastore/store1'"},
		{"of a disabled user", "PBSAPIToken off@pbs!tok:" + off, "401 authentication failed - user account or token disabled or expired."},
	} {
		got := s.http("GET", "/api2/json/backup?store=store1&backup-type=host&backup-id=x&backup-time=1", "", "", "Authorization: "+tt.header)
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// §12.4, check 3: who is known by a cookie may change nothing without the token
// that only the pages of the server can read.
func TestCheck03CSRF(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.user("other@pbs")
	ticket, csrf, refusal := h.login(string(sitetest.Admin), sitetest.Password)
	_, foreign, refusal2 := h.login("other@pbs", sitetest.Password)
	if refusal+refusal2 != "" {
		t.Fatal(refusal, refusal2)
	}
	cookie := "Cookie: PBSAuthCookie=" + url.PathEscape(ticket)
	h.back("host/h1", "1000")
	const notes = "/api2/json/admin/datastore/store1/notes?backup-type=host&backup-id=h1&backup-time=1000&notes=n"
	const form = "application/x-www-form-urlencoded"
	var asked sync.WaitGroup
	for _, tt := range []struct{ name, method, header, want string }{
		{"PUT without", "PUT", "", "401 authentication failed - missing CSRF prevention token"},
		{"DELETE without", "DELETE", "", "401 authentication failed - missing CSRF prevention token"},
		{"POST without", "POST", "", "401 authentication failed - missing CSRF prevention token"},
		{"PUT with nonsense", "PUT", "CSRFPreventionToken: 6B00FD2E:nonsense", "401 authentication failed - invalid csrf token"},
		{"PUT with that of another", "PUT", "CSRFPreventionToken: " + foreign, "401 authentication failed - invalid csrf token"},
	} {
		asked.Go(func() { // side by side: refusals take three seconds
			if got := h.http(tt.method, notes, form, "", cookie, tt.header); !strings.HasPrefix(got, tt.want) {
				t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
			}
		})
	}
	asked.Wait()
	const read = "/api2/json/admin/datastore/store1/notes?backup-type=host&backup-id=h1&backup-time=1000"
	if got := h.http("GET", read, form, "", cookie); got != `200 {"data":""}` {
		t.Errorf("after refusals, read without: %s", got)
	}
	if got := h.http("PUT", notes, form, "", cookie, "CSRFPreventionToken: "+csrf); got != `200 {"data":null}` {
		t.Errorf("PUT with: %s", got)
	}
	if got := h.http("GET", read, form, "", h.admin()); got != `200 {"data":"n"}` {
		t.Errorf("in the end: %s", got)
	}
}

// §12.4, check 4, and §13.4.
func TestCheck04Upgrade(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.back("vm/100", "1000")
	held := s.open("backup vm/101 1000")
	for what, want := range map[string]string{
		"backup vm/100 2000 &ns=nope": "404 namespace not found",
		"backup vm/100 1000":          "400 backup timestamp is older than last backup.",
		"backup vm/100 999":           "400 backup timestamp is older than last backup.",
		"backup vm/101 2000":          "400 unable to acquire lock on backup group directory",
	} {
		if _, got := s.ask(what); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	if _, got := s.ask("backup vm/100 2000", "connection: upgrade", "upgrade: other"); got != "400 invalid protocol name" {
		t.Errorf("another protocol: %s", got)
	}
	if c, got := s.ask("backup vm/100 2000", "upgrade: proxmox-backup-protocol-v1"); c == nil {
		t.Errorf("without a Connection header: %s", got)
	} else {
		c.Close()
	}
	s.end(held)
	snap := catalog.Snapshot{Group: naming.Group{Type: naming.VM, ID: "100"}, Time: 1000}
	err := s.d.UpdateManifest("", snap, func(m *catalog.Manifest) error {
		return m.SetVerifyState(manifest.VerifyState{State: "failed", UPID: "UPID:pbs3:00004CE0:000C74B1:00000057:6B00FE0B:verify:store1:admin@pbs:"})
	})
	if err != nil {
		t.Fatal(err)
	}
	c := s.open("backup vm/100 3000")
	s.want(c, "GET /previous_backup_time", `200 {"data":null}`)
	s.end(c)
}

// §12.4, check 5.
func TestCheck05ClientKilled(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.open("backup vm/100 1000")
	s.want(c, "POST /fixed_index?archive-name=disk.img.fidx&size=8388608", `200 {"data":1}`)
	s.put(c, "fixed", "wid=1", slot('a'))
	s.end(c)
	all, err := s.d.List(t.Context(), catalog.ListOptions{})
	if err != nil || len(all) != 0 {
		t.Errorf("there are %v, %v", all, err)
	}
	if owner, err := s.d.Owner("", catalog.Group{Type: naming.VM, ID: "100"}); err != nil || owner != "admin@pbs!tok" {
		t.Errorf("the owner is %q, %v", owner, err)
	}
	s.back("vm/100", "1000")
}

// §12.4, check 6.
func TestCheck06Uploads(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.open("backup vm/100 1000")
	defer c.Close()
	a, b := slot('a'), slot('b')
	s.want(c, "POST /fixed_index?archive-name=disk.img.fidx&size=9000000", `200 {"data":1}`)
	for what, tt := range map[string]struct{ query, want string }{
		"a wrong digest":        {"wid=1&digest=" + chunks.Sum(b).String(), "400 detected chunk with wrong digest."},
		"a wrong size":          {"wid=1&size=17", "400 detected chunk with wrong length"},
		"longer than announced": {"wid=1&encoded-size=20", "400 uploaded chunk is larger than announced."},
		"cut short":             {"wid=1&encoded-size=4000000", "400 uploaded chunk has unexpected size."},
		"of no writer":          {"wid=9", "400 fixed writer '9' not registered"},
	} {
		if got := s.put(c, "fixed", tt.query, a); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: %s, want %s", what, got, tt.want)
		}
	}
	blob, err := chunks.Encode(nil, a, chunks.EncodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	blob[0] ^= 0xff
	if got := s.upload(c, "fixed", 1, chunks.Sum(a), len(a), blob); !strings.HasPrefix(got, "400 ") {
		t.Errorf("unknown magic: %s", got)
	}
	blob[0] ^= 0xff
	copy(blob[8:12], "crc?") // the server makes it anew
	if got := s.upload(c, "fixed", 1, chunks.Sum(a), len(a), blob); got != `200 {"data":"`+chunks.Sum(a).String()+`"}` {
		t.Error(got)
	}
	secret, err := chunks.Encode(nil, b, chunks.EncodeOptions{Key: chunks.NewKey([chunks.KeySize]byte{1})})
	if err != nil {
		t.Fatal(err)
	}
	any := chunks.Sum([]byte("whatever a key makes of it"))
	if got := s.upload(c, "fixed", 1, any, len(b), secret); got != `200 {"data":"`+any.String()+`"}` {
		t.Errorf("encrypted, whose digest nobody can check: %s", got)
	}
	s.want(c, "GET /previous_backup_time", `200 {"data":null}`) // the connection goes on
}

// §12.4, check 7: that a chunk is in the store gives nobody a right to it.
func TestCheck07UnregisteredDigest(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first := s.open("backup vm/200 1000")
	for i, request := range s.script(first, "vm/200", "1000", slot('b')) {
		if got := request(); !strings.HasPrefix(got, "200 ") {
			t.Fatalf("request %d: %s", i, got)
		}
	}
	s.end(first)
	if _, err := s.d.Chunks().Get(t.Context(), chunks.Sum(slot('b')), nil); err != nil {
		t.Fatalf("the store has not got it: %v", err)
	}
	c := s.open("backup vm/100 1000")
	defer c.Close()
	s.want(c, "POST /fixed_index?archive-name=disk.img.fidx&size=4194304", `200 {"data":1}`)
	s.want(c, "POST /dynamic_index?archive-name=root.pxar.didx", `200 {"data":2}`)
	none := "400 no such chunk " + chunks.Sum(slot('b')).String()
	if got := s.say(c, "PUT /fixed_index "+pairs(1, 0, chunks.Sum(slot('b')))); !strings.Contains(got, "no such chunk") {
		t.Errorf("%s, want %s", got, none)
	}
	if got := s.say(c, "PUT /dynamic_index "+pairs(2, 0, chunks.Sum(slot('b')))); !strings.Contains(got, "no such chunk") {
		t.Errorf("%s, want %s", got, none)
	}
}

// §12.4, check 8.
func TestCheck08Indexes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.open("backup vm/100 1000")
	defer c.Close()
	a, short := slot('a'), []byte("short")
	s.want(c, "POST /fixed_index?archive-name=disk.img.fidx&size=4194309", `200 {"data":1}`)
	s.want(c, "POST /dynamic_index?archive-name=root.pxar.didx", `200 {"data":2}`)
	s.put(c, "fixed", "wid=1", a)
	s.want(c, "PUT /fixed_index "+pairs(1, 17, chunks.Sum(a)), "400 ")
	s.want(c, "PUT /fixed_index "+pairs(1, 4<<20, chunks.Sum(a)), "400 ") // beyond the end
	s.want(c, "PUT /dynamic_index "+pairs(2, 5, chunks.Sum(a)), "400 dynamic writer 'root.pxar.didx' append chunk failed - got strange chunk offset (0 != 5)")
	s.want(c, `PUT /fixed_index {"wid":1,"digest-list":[],"offset-list":[0]}`, "400 offset list has wrong length")
	if got := s.put(c, "fixed", "wid=1", short); !strings.HasPrefix(got, "200 ") {
		t.Error(got)
	}
	if got := s.put(c, "fixed", "wid=1", []byte("shorter")); !strings.Contains(got, "multiple end chunks") {
		t.Errorf("two short chunks: %s", got)
	}
	closing := func(wid, count, size int, csum string) string { // of a writer that has 4 MiB and 5 bytes
		return fmt.Sprintf("wid=%d&chunk-count=%d&size=%d&csum=%s", wid, count, size, csum)
	}
	fixed := chunks.Sum(slices.Concat(digest(a), digest(short))).String()
	dynamic := chunks.Sum(slices.Concat(le64(4<<20), digest(a), le64(4<<20+5), digest(short))).String()
	none := chunks.Sum(nil).String()
	for _, tt := range []struct{ name, query, want string }{
		{"count", closing(0, 1, 4<<20+5, "right"), "close failed - received wrong number of chunk (2 != 1)"},
		{"size", closing(0, 2, 4<<20+6, "right"), "400 "},
		{"csum", closing(0, 2, 4<<20+5, none), "close failed - got unexpected checksum"},
		{"nothing", closing(0, 2, 4<<20+5, "right"), `200 {"data":null}`},
	} {
		for kind, csum := range map[string]string{"fixed": fixed, "dynamic": dynamic} {
			name := map[string]string{"fixed": "more.img.fidx&size=4194309", "dynamic": "more.pxar.didx"}[kind]
			_, wid, _ := strings.Cut(s.say(c, "POST /"+kind+"_index?archive-name="+name), `{"data":`)
			wid = strings.TrimSuffix(wid, "}")
			s.want(c, "PUT /"+kind+"_index "+strings.Replace(pairs(0, 0, chunks.Sum(a)), `"wid":0`, `"wid":`+wid, 1), "200 ")
			s.want(c, "PUT /"+kind+"_index "+strings.Replace(pairs(0, 4<<20, chunks.Sum(short)), `"wid":0`, `"wid":`+wid, 1), "200 ")
			query := strings.NewReplacer("wid=0", "wid="+wid, "right", csum).Replace(tt.query)
			if got := s.say(c, "POST /"+kind+"_close?"+query); !strings.Contains(got, tt.want) || strings.HasPrefix(got, "200") != (tt.name == "nothing") {
				t.Errorf("close of a %s index with the wrong %s: %s, want %s", kind, tt.name, got, tt.want)
			}
		}
	}
}

// §12.4, check 9.
func TestCheck09Finish(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.open("backup vm/100 1000")
	s.want(c, "POST /finish", "400 backup does not contain valid files (file count == 0)")
	s.want(c, "POST /dynamic_index?archive-name=root.pxar.didx", `200 {"data":1}`)
	s.want(c, "POST /finish", "400 found open index writer - unable to finish backup")
	s.put(c, "dynamic", "wid=1", []byte("x"))
	s.want(c, "PUT /dynamic_index "+pairs(1, 0, chunks.Sum([]byte("x"))), "200 ")
	csum := chunks.Sum(slices.Concat(le64(1), digest([]byte("x"))))
	s.want(c, "POST /dynamic_close?wid=1&chunk-count=1&size=1&csum="+csum.String(), "200 ")
	s.want(c, "POST /finish", "400 unable to update manifest blob")
	s.end(c)
	if all, err := s.d.List(t.Context(), catalog.ListOptions{}); err != nil || len(all) != 0 {
		t.Errorf("there are %v, %v", all, err)
	}
}

// §12.4, check 10 (§12.3): an image of which nothing has changed, and one of
// which only the end has.
func TestCheck10IncrementalImage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	content := [][]byte{slot('a'), slot('b'), slot('c')[:2<<20]}
	csum := s.image("1000", "", content, 0, 1, 2)
	c := s.open("backup vm/100 1001")
	s.want(c, "POST /fixed_index?archive-name=disk.img.fidx&size=10485760&reuse-csum="+chunks.Sum(nil).String(), "400 expected csum")
	s.want(c, "POST /fixed_index?archive-name=other.img.fidx&size=10485760&reuse-csum="+csum, "400 cannot reuse index - no previous backup exists for archive")
	s.end(c)
	if got := s.image("2000", csum, content); got != csum {
		t.Errorf("unchanged: csum %s, want %s", got, csum)
	}
	content[2] = slot('d')[:2<<20]
	changed := s.image("3000", csum, content, 2)
	if changed == csum {
		t.Error("changed, with the same csum")
	}
	s.verified(3)
}

// image backs up a disk, of which only the slots that changed are sent, and
// returns the csum of its index.
func (s *site) image(at, reuse string, content [][]byte, changed ...int) string {
	s.t.Helper()
	c := s.open("backup vm/100 " + at)
	if reuse != "" {
		s.want(c, "GET /previous?archive-name=index.json.blob", "200 ")
	}
	all, size := []byte{}, 0
	for _, b := range content {
		all, size = append(all, digest(b)...), size+len(b)
	}
	csum, target, sent := chunks.Sum(all).String(), fmt.Sprintf("POST /fixed_index?archive-name=disk.img.fidx&size=%d", size), 0
	if reuse != "" {
		target += "&reuse-csum=" + reuse
	}
	s.want(c, target, `200 {"data":1}`)
	for _, i := range changed {
		s.put(c, "fixed", "wid=1", content[i])
		s.want(c, "PUT /fixed_index "+pairs(1, i*chunks.SlotSize, chunks.Sum(content[i])), "200 ")
		sent += len(content[i])
	}
	s.want(c, fmt.Sprintf("POST /fixed_close?wid=1&chunk-count=%d&size=%d&csum=%s", len(changed), sent, csum), `200 {"data":null}`)
	s.finish(c, "vm/100", at, fmt.Sprintf(`{"filename":"disk.img.fidx","crypt-mode":"none","size":%d,"csum":%q}`, size, csum))
	s.end(c)
	r := s.open("reader vm/100 " + at)
	defer s.end(r)
	_, file, _ := strings.Cut(s.say(r, "GET /download?file-name=disk.img.fidx"), " ")
	x, err := chunks.ParseIndex([]byte(file))
	if err != nil {
		s.t.Fatal(err)
	}
	for i, b := range content {
		if got := x.Digest(i); got != chunks.Sum(b) {
			s.t.Errorf("%s: slot %d has %s", at, i, got.Short())
		}
	}
	return x.Csum().String()
}

// §12.4, check 11.
func TestCheck11Reader(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.back("vm/100", "1000")
	c := s.open("reader vm/100 1000")
	defer c.Close()
	s.want(c, "GET /chunk?digest="+chunks.Sum(nil).String(), "401 download chunk")
	s.want(c, "GET /download?file-name=nope.blob", "404 ")
	s.want(c, "GET /download?file-name=x.conf.blob", "200 ")
	snap := catalog.Snapshot{Group: naming.Group{Type: naming.VM, ID: "100"}, Time: 1000}
	if err := s.d.Forget(t.Context(), "", snap); err == nil {
		t.Error("a snapshot that is being read could be removed")
	}
	s.want(c, "GET /download?file-name=index.json.blob", "200 ")
}

// §12.4, check 16.
func TestCheck16Benchmark(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.open("backup host/benchmark 1000 &benchmark=true")
	s.want(c, "POST /speedtest "+strings.Repeat("x", 1<<20), "200 ")
	s.end(c)
	if all, err := s.d.List(t.Context(), catalog.ListOptions{}); err != nil || len(all) != 0 {
		t.Errorf("left behind: %v, %v", all, err)
	}
}

// §12.4, check 17.
func TestCheck17Limits(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.open("backup vm/100 1000")
	defer c.Close()
	s.want(c, "POST /dynamic_index?archive-name=root.pxar.didx&pad="+strings.Repeat("x", 4000), `200 {"data":1}`)
	large := bytes.Repeat([]byte("max "), 4<<20)
	if got := s.put(c, "dynamic", "wid=1", large); !strings.HasPrefix(got, "200 ") {
		t.Errorf("a chunk of 16 MiB: %.100s", got)
	}
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			if got := s.put(c, "dynamic", "wid=1", []byte{byte(i)}); !strings.HasPrefix(got, "200 ") {
				t.Errorf("upload %d of 200 at once: %.100s", i, got)
			}
		})
	}
	wg.Wait()
	digests, offsets := "", ""
	for i := range 128 {
		digests += fmt.Sprintf(`,"%s"`, chunks.Sum([]byte{byte(i)}))
		offsets += fmt.Sprintf(",%d", i)
	}
	s.want(c, fmt.Sprintf(`PUT /dynamic_index {"wid":1,"digest-list":[%s],"offset-list":[%s]}`, digests[1:], offsets[1:]), "200 ")
}

// §12.4, check 18: what the server adds to a manifest leaves the signature of
// the client as it is.
func TestCheck18Signature(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	key := chunks.NewKey([chunks.KeySize]byte{42})
	snap := catalog.Snapshot{Group: naming.Group{Type: naming.Host, ID: "signed"}, Time: 1000}
	blob, err := chunks.Encode(nil, []byte("hello"), chunks.EncodeOptions{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	m := manifest.New(snap)
	err = errors.Join(
		m.Add(manifest.File{Name: "x.conf.blob", CryptMode: manifest.Encrypt, Size: uint64(len(blob)), Csum: chunks.Sum(blob)}), m.Sign(key))
	if err != nil {
		t.Fatal(err)
	}
	was, err := m.Blob()
	if err != nil {
		t.Fatal(err)
	}
	c := h.open("backup host/signed 1000")
	h.wantBlob(c, "x.conf.blob", blob)
	h.wantBlob(c, manifest.Name, was)
	h.want(c, "POST /finish", "200 ")
	h.end(c)
	const which = "backup-type=host&backup-id=signed&backup-time=1000"
	h.api("PUT", "/api2/json/admin/datastore/store1/notes?notes=two%0Alines&"+which, nil, h.admin())
	h.task("POST", "/admin/datastore/store1/verify", url.Values{"ignore-verified": {"0"}})
	r := h.open("reader host/signed 1000")
	defer r.Close()
	_, text, _ := strings.Cut(h.say(r, "GET /download?file-name=index.json.blob"), " ")
	is, err := manifest.ParseBlob(chunks.Blob(text))
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := is.VerifyState(); !ok || v.State != "ok" || is.Notes() != "two\nlines" {
		t.Errorf("verified %v, notes %q", v, is.Notes())
	}
	if err := is.Check(key); err != nil {
		t.Errorf("the signature: %v", err)
	}
	if err := is.Check(chunks.NewKey([chunks.KeySize]byte{43})); err == nil {
		t.Error("another key verifies it as well")
	}
}
