package conformance

import (
	"bytes"
	"fmt"
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

// §12.4, checks 6 to 9, and §13.10, §13.12.
func TestCheck06To09Writers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.open("backup vm/100 1000")
	defer c.Close()
	a, b := slot('a'), slot('b')
	s.want(c, "POST /finish", "400 backup does not contain valid files")
	s.want(c, "POST /fixed_index?archive-name=disk.img.fidx&size=9000000", `200 {"data":1}`)
	s.want(c, "POST /dynamic_index?archive-name=root.pxar.didx", `200 {"data":2}`)
	for what, tt := range map[string]struct{ query, want string }{
		"a wrong digest":        {"wid=1&digest=" + chunks.Sum(b).String(), "400 detected chunk with wrong digest."},
		"a wrong size":          {"wid=1&size=17", "400 detected chunk with wrong length"},
		"longer than announced": {"wid=1&encoded-size=20", "400 uploaded chunk is larger than announced."},
		"cut short":             {"wid=1&encoded-size=4000000", "400 uploaded chunk has unexpected size."},
	} {
		if got := s.put(c, "fixed", tt.query, a); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: %s, want %s", what, got, tt.want)
		}
	}
	if got := s.put(c, "fixed", "wid=1", a); got != `200 {"data":"`+chunks.Sum(a).String()+`"}` {
		t.Error(got)
	}
	pair := func(wid int, d chunks.Digest, offset int) string {
		return fmt.Sprintf(`{"wid":%d,"digest-list":["%s"],"offset-list":[%d]}`, wid, d, offset)
	}
	s.want(c, "PUT /fixed_index "+pair(1, chunks.Sum(b), 0), "400 no such chunk")
	s.want(c, "PUT /fixed_index "+pair(1, chunks.Sum(a), 17), "400 ")
	s.want(c, "PUT /fixed_index "+pair(1, chunks.Sum(a), 4<<20), "200 ") // the second before the first
	s.want(c, "PUT /dynamic_index "+pair(2, chunks.Sum(a), 5), "400 ")   // not where the archive ends
	s.want(c, "PUT /dynamic_index "+pair(2, chunks.Sum(a), 0), "200 ")   // uploaded for the other (§13.11)
	s.want(c, "POST /finish", "400 found open index writer")
	s.put(c, "fixed", "wid=1", []byte("short"))
	if got := s.put(c, "fixed", "wid=1", []byte("shorter")); !strings.Contains(got, "multiple end chunks") {
		t.Errorf("two short chunks: %s", got)
	}
	s.want(c, fmt.Sprintf("POST /dynamic_close?wid=2&chunk-count=1&size=%d&csum=%s", 4<<20, chunks.Sum(a)), "400 ")
	s.want(c, fmt.Sprintf("POST /dynamic_close?wid=2&chunk-count=1&size=%d&csum=%s", 4<<20, chunks.Sum(a)), "400 dynamic writer '2' not registered")
	s.want(c, "GET /previous_backup_time", `200 {"data":null}`) // the connection goes on
	s.want(c, "GET /previous?archive-name=index.json.blob", "400 no valid previous backup")
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
