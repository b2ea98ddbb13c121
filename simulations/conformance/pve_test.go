package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/pbstest"
)

// A pve is a PVE host with a token that may only back up: its Perl client, which
// sends forms (§2.1, §2.2), proxmox-backup-client as it calls it (§2.3), and
// QEMU's library (§3.7).
type pve struct {
	*home
	t *testing.T
}

// perl sends what PVE's own client sends.
func (p *pve) perl(method, target, form string, into any) {
	p.t.Helper()
	if method == "GET" {
		p.api("GET", target, into, p.equals(), "Accept-Encoding: gzip")
		return
	}
	if got := p.http(method, target, "application/x-www-form-urlencoded", form, p.equals()); !strings.HasPrefix(got, `200 {"data":`) {
		p.t.Errorf("%s %s: %s", method, target, got)
	}
}

func (p *pve) equals() string { return strings.Replace(p.admin(), "PBSAPIToken ", "PBSAPIToken=", 1) }

const firstVM, secondVM, thirdVM = "1700000000", "1700003600", "1700007200"

// §12.4, check 15: all that a PVE host does with a storage, by a token that may
// back up, and remove what is its own.
func TestCheck15PVE(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.user("pve@pbs", "/datastore/store1 DatastorePowerUser")
	token := "pve@pbs!host"
	h.as = token + ":" + h.token(token, "/datastore/store1 DatastorePowerUser")
	h.back("vm/999", "1000") // of somebody else later
	h.call("POST", "/admin/datastore/store1/change-owner", url.Values{"backup-type": {"vm"}, "backup-id": {"999"}, "new-owner": {"admin@pbs"}})
	p := &pve{home: h, t: t}
	steps := []struct {
		name string
		do   func()
	}{
		{"add the storage", p.add}, {"back up a VM", p.vm}, {"back up a container", p.container}, {"look at what there is", p.look},
		{"restore", p.restore}, {"live-restore", p.liveRestore}, {"restore a file", p.restoreFile}, {"notes and protection", p.notes},
		{"prune and delete", p.prune},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			p.t, p.wire.t = t, t
			step.do()
		})
	}
	p.t, p.wire.t = t, t
}

func (p *pve) add() {
	var stores []struct{ Store string }
	p.perl("GET", "/api2/json/admin/datastore", "", &stores)
	if len(stores) != 1 || stores[0].Store != "store1" {
		p.t.Errorf("datastores: %v", stores)
	}
	var status struct{ Total, Used, Avail int64 }
	p.perl("GET", admin1+"status", "", &status)
	if status.Total == 0 || status.Avail == 0 {
		p.t.Errorf("status %+v", status)
	}
	var id struct {
		ID string `json:"pbs-instance-id"`
	}
	p.perl("GET", "/api2/json/nodes/localhost/identity", "", &id)
	if len(id.ID) != 32 {
		p.t.Errorf("identity %q", id.ID)
	}
}

// disk is a VM's, with a slot that changes.
func disk(letter byte) [][]byte {
	return [][]byte{slot(0), slot('a'), slot(letter), []byte("the short end of the disk")}
}

// qemu backs up two disks and the configuration of a VM at the same time, of
// which the disks have changed where the bitmap says.
func (p *pve) qemu(at, reuse string, content [][]byte, dirty ...int) (csum string) {
	c := p.openSoon("backup vm/100 " + at + " &debug=false")
	defer p.end(c)
	conf, _ := chunks.Encode(nil, []byte("memory: 512\n"), chunks.EncodeOptions{Compress: true})
	previous := p.say(c, "GET /previous?archive-name=index.json.blob")
	if strings.HasPrefix(previous, "200 ") != (reuse != "") {
		p.t.Errorf("%s: the previous manifest: %.40s", at, previous)
	}
	all, size := []byte{}, 0
	for _, b := range content {
		all, size = append(all, digest(b)...), size+len(b)
	}
	csum = chunks.Sum(all).String()
	disks := []string{"drive-scsi0.img.fidx", "drive-scsi1.img.fidx"}
	for i, name := range disks {
		target := fmt.Sprintf("POST /fixed_index?archive-name=%s&size=%d", name, size)
		if reuse != "" {
			p.want(c, "GET /previous?archive-name="+name, "200 ")
			target += "&reuse-csum=" + reuse
		}
		p.want(c, target, fmt.Sprintf(`200 {"data":%d}`, i+1))
		p.put(c, "fixed", fmt.Sprint("wid=", i+1), slot(0)) // always
	}
	for _, i := range dirty { // of both disks in turn
		for wid := 1; wid <= 2; wid++ {
			p.put(c, "fixed", fmt.Sprint("wid=", wid), content[i])
			p.want(c, "PUT /fixed_index "+pairs(wid, i*chunks.SlotSize, chunks.Sum(content[i])), "200 ")
		}
	}
	sent := 0
	for _, i := range dirty {
		sent += len(content[i])
	}
	files := ""
	for i, name := range disks {
		p.want(c, fmt.Sprintf("POST /fixed_close?wid=%d&chunk-count=%d&size=%d&csum=%s", i+1, len(dirty), sent, csum), `200 {"data":null}`)
		files += fmt.Sprintf(`{"filename":%q,"crypt-mode":"none","size":%d,"csum":%q},`, name, size, csum)
	}
	p.wantBlob(c, "qemu-server.conf.blob", conf)
	p.finish(c, "vm/100", at, files+fmt.Sprintf(`{"filename":"qemu-server.conf.blob","crypt-mode":"none","size":%d,"csum":%q}`, len(conf), chunks.Sum(conf)))
	return csum
}

func (p *pve) vm() {
	csum := p.qemu(firstVM, "", disk('b'), 0, 1, 2, 3)
	same := p.qemu(secondVM, csum, disk('b')) // nothing is dirty
	if same != csum {
		p.t.Errorf("unchanged, it has the csum %s, want %s", same, csum)
	}
	p.qemu(thirdVM, csum, disk('c'), 2)
}

// container backs up as vzdump does, and sends its log in the end.
func (p *pve) container() {
	root := p.t.TempDir()
	err := errors.Join(os.MkdirAll(filepath.Join(root, "etc"), 0o755), os.WriteFile(filepath.Join(root, "etc", "hostname"), []byte("ct7\n"), 0o644))
	if err != nil {
		p.t.Fatal(err)
	}
	var archive, catalog bytes.Buffer
	names, err := pxar.NewCatalogWriter(&catalog)
	if err == nil {
		err = names.BeginDir("root.pxar.didx")
	}
	if err == nil {
		_, err = tree.Create(p.t.Context(), root, tree.Sinks{Archive: &archive, Catalog: names}, tree.Options{})
	}
	if err = errors.Join(err, names.EndDir(), names.Close()); err != nil {
		p.t.Fatal(err)
	}
	c := p.openSoon("backup ct/200 1700000000")
	conf, _ := chunks.Encode(nil, []byte("arch: amd64\n"), chunks.EncodeOptions{})
	p.want(c, "GET /previous_backup_time", `200 {"data":null}`)
	p.wantBlob(c, "pct.conf.blob", conf)
	files := fmt.Sprintf(`{"filename":"pct.conf.blob","crypt-mode":"none","size":%d,"csum":%q}`, len(conf), chunks.Sum(conf))
	p.want(c, "POST /dynamic_index?archive-name=catalog.pcat1.didx", `200 {"data":1}`) // opened first, closed last
	p.want(c, "POST /dynamic_index?archive-name=root.pxar.didx", `200 {"data":2}`)
	files += p.stream(c, 2, "root.pxar.didx", archive.Bytes()) + p.stream(c, 1, "catalog.pcat1.didx", catalog.Bytes())
	p.finish(c, "ct/200", "1700000000", files)
	p.end(c)
	log, _ := chunks.Encode(nil, []byte("INFO: Finished Backup\n"), chunks.EncodeOptions{})
	const target = admin1 + "upload-backup-log?backup-id=200&backup-time=1700000000&backup-type=ct"
	if got := p.http("POST", target, "application/octet-stream", string(log), p.admin()); got != `200 {"data":null}` {
		p.t.Errorf("upload-log: %s", got)
	}
	if got := p.http("POST", target, "application/octet-stream", string(log), p.admin()); got != "400 backup already contains a log." {
		p.t.Errorf("upload-log again: %s", got)
	}
}

// stream fills and closes a dynamic index with one chunk, and returns its item
// of the manifest.
func (w *wire) stream(c *pbstest.Client, wid int, name string, content []byte) string {
	w.t.Helper()
	if got := w.put(c, "dynamic", fmt.Sprint("wid=", wid), content); !strings.HasPrefix(got, "200 ") {
		w.t.Errorf("%s: %s", name, got)
	}
	w.want(c, "PUT /dynamic_index "+pairs(wid, 0, chunks.Sum(content)), "200 ")
	csum := chunks.Sum(slices.Concat(le64(uint64(len(content))), digest(content)))
	w.want(c, fmt.Sprintf("POST /dynamic_close?wid=%d&chunk-count=1&size=%d&csum=%s", wid, len(content), csum), "200 ")
	return fmt.Sprintf(`,{"filename":%q,"crypt-mode":"none","size":%d,"csum":%q}`, name, len(content), csum)
}

func (p *pve) look() {
	var all []struct {
		listed
		Protected *bool
		Files     []struct {
			Filename string
			Mode     string `json:"crypt-mode"`
		}
	}
	p.perl("GET", admin1+"snapshots?ns=", "", &all)
	if len(all) != 4 { // and not what is somebody else's
		p.t.Errorf("%d snapshots are listed, want 4: %v", len(all), all)
	}
	p.perl("GET", admin1+"snapshots?backup-id=100", "", &all)
	for _, s := range all {
		if s.Size == nil || s.Protected == nil || s.Owner != "pve@pbs!host" || len(s.Files) != 4 || s.Files[0].Mode != "none" {
			p.t.Errorf("%+v", s)
		}
	}
	var files []struct{ Filename string }
	p.perl("GET", admin1+"files?backup-type=vm&backup-id=100&backup-time="+firstVM, "", &files)
	if len(files) != 4 {
		p.t.Errorf("files: %v", files)
	}
	if got := p.http("GET", admin1+"files?backup-type=vm&backup-id=999&backup-time=1000", "", "", p.equals()); !strings.HasPrefix(got, "400 backup owner check failed") {
		p.t.Errorf("files of somebody else: %s", got)
	}
}

// image reads a disk slot by slot, as pbs-restore does, which knows zeros.
func (p *pve) image(c *pbstest.Client, name string, slots []int) []byte {
	_, file, _ := strings.Cut(p.say(c, "GET /download?file-name="+name), " ")
	x, err := chunks.ParseIndex([]byte(file))
	if err != nil {
		p.t.Fatal(err)
	}
	got := make([][]byte, len(slots))
	var g errgroup.Group
	g.SetLimit(16)
	for n, i := range slots {
		g.Go(func() error {
			a, err := c.Do("GET", "/chunk?digest="+x.Digest(i).String(), "", nil)
			if err == nil && a.Status != 200 {
				err = fmt.Errorf("chunk %d: %d %s", i, a.Status, a.Body)
			}
			if err != nil {
				return err
			}
			if got[n], err = chunks.Blob(a.Body).Decode(nil, nil); err == nil && chunks.Sum(got[n]) != x.Digest(i) {
				err = fmt.Errorf("chunk %d is another", i)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		p.t.Error(err)
	}
	return slices.Concat(got...)
}

func (p *pve) restore() {
	for at, letter := range map[string]byte{firstVM: 'b', secondVM: 'b', thirdVM: 'c'} {
		c := p.open("reader vm/100 " + at)
		p.want(c, "GET /download?file-name=index.json.blob", "200 ")
		p.want(c, "GET /download?file-name=qemu-server.conf.blob", "200 ")
		for _, name := range []string{"drive-scsi0.img.fidx", "drive-scsi1.img.fidx"} {
			if !bytes.Equal(p.image(c, name, []int{0, 1, 2, 3}), slices.Concat(disk(letter)...)) {
				p.t.Errorf("%s at %s is another", name, at)
			}
		}
		c.Close()
	}
	if _, got := p.ask("reader vm/999 1000"); !strings.HasPrefix(got, "400 backup owner check failed") {
		p.t.Errorf("of somebody else: %s", got)
	}
}

// liveRestore has a connection for each disk, on which whatever the VM wants is
// read, while the host backs up another VM.
func (p *pve) liveRestore() {
	one, two := p.open("reader vm/100 "+thirdVM), p.open("reader vm/100 "+thirdVM)
	defer one.Close()
	defer two.Close()
	for _, order := range [][]int{{2, 0, 2}, {3, 1, 1, 0, 3}} {
		for disc, c := range []*pbstest.Client{one, two} {
			var want []byte
			for _, i := range order {
				want = append(want, disk('c')[i]...)
			}
			if !bytes.Equal(p.image(c, fmt.Sprintf("drive-scsi%d.img.fidx", disc), order), want) {
				p.t.Errorf("disk %d, slots %v: another content", disc, order)
			}
		}
	}
	const target = admin1 + "snapshots?backup-type=vm&backup-id=100&backup-time=" + thirdVM
	if got := p.http("DELETE", target, "", "", p.equals()); !strings.Contains(got, "possibly running or in use") {
		p.t.Errorf("removed while it is restored from: %s", got)
	}
}

// restoreFile looks at the catalog, and then for a file in the archive.
func (p *pve) restoreFile() {
	r := p.open("reader ct/200 1700000000")
	defer r.Close()
	p.want(r, "GET /download?file-name=index.json.blob", "200 ")
	if !bytes.Contains(p.image(r, "catalog.pcat1.didx", []int{0}), []byte("hostname")) {
		p.t.Error("the catalog does not name the file")
	}
	if !bytes.Contains(p.image(r, "root.pxar.didx", []int{0}), []byte("ct7\n")) {
		p.t.Error("the archive does not have the content")
	}
	const path = "L3Jvb3QucHhhci5kaWR4L2V0Yy9ob3N0bmFtZQ" // /root.pxar.didx/etc/hostname
	const of = "?backup-type=ct&backup-id=200&backup-time=1700000000&filepath="
	if got := p.http("GET", admin1+"pxar-file-download"+of+path+"==", "", "", p.equals()); got != "200 ct7\n" {
		p.t.Errorf("the file over HTTP: %s", got)
	}
	var entries []struct{ Text, Type string }
	p.perl("GET", admin1+"catalog"+of+"/", "", &entries)
	if len(entries) != 1 || entries[0].Text != "root.pxar.didx" {
		p.t.Errorf("the catalog over HTTP: %v", entries)
	}
}

func (p *pve) notes() {
	const of = "backup-type=vm&backup-id=100&backup-time=" + firstVM
	p.perl("PUT", admin1+"notes?"+of+"&notes=before%20the%20update", "", nil)
	var notes string
	if p.perl("GET", admin1+"notes?"+of, "", &notes); notes != "before the update" {
		p.t.Errorf("notes %q", notes)
	}
	var is bool
	for _, value := range []string{"1", "0", "1", "1"} {
		p.perl("PUT", admin1+"protected", of+"&ns=&protected="+value, nil)
		if p.perl("GET", admin1+"protected?"+of+"&ns=", "", &is); is != (value == "1") {
			p.t.Errorf("protected %v after %s", is, value)
		}
	}
	if got := p.http("DELETE", admin1+"snapshots?"+of, "", "", p.equals()); got != "400 cannot remove protected snapshot" {
		p.t.Errorf("a protected one: %s", got)
	}
}

func (p *pve) prune() {
	var list []struct {
		Time            int64 `json:"backup-time"`
		Keep, Protected bool
	}
	preview := p.http("POST", admin1+"prune", "application/json", `{"backup-type":"vm","backup-id":"100","keep-last":1,"dry-run":true}`, p.admin())
	p.decode(preview, &list)
	if len(list) != 3 || !list[0].Protected || !list[0].Keep || list[1].Keep || !list[2].Keep {
		p.t.Errorf("preview, oldest first: %+v", list)
	}
	if got := p.http("DELETE", admin1+"snapshots?backup-type=vm&backup-id=100&backup-time="+secondVM, "", "", p.admin()); got != `200 {"data":null}` {
		p.t.Errorf("delete: %s", got)
	}
	p.decode(p.http("POST", admin1+"prune", "application/json", `{"backup-type":"ct","backup-id":"200","keep-last":1}`, p.admin()), &list)
	if len(list) != 1 || !list[0].Keep {
		p.t.Errorf("prune: %+v", list)
	}
	var left []listed
	if p.perl("GET", admin1+"snapshots", "", &left); len(left) != 3 {
		p.t.Errorf("left: %v", left)
	}
}
