package conformance

import (
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/pbstest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// What official clients sent to a server with faults of its own: here all of it
// succeeds, but for what stands in the table.
func TestRecordedOfficialClients(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.call("POST", "/access/users", url.Values{"userid": {"golden@pbs"}, "password": {"golden-secret-1234"}})
	h.grant("golden@pbs", "/ Admin")
	p := newPlayer(h, clientDifferences)
	p.requestsOnly = true
	p.secrets["golden@pbs!tok"] = h.token("golden@pbs!tok", "/ Admin")
	// made makes a snapshot that no recording shows, out of a golden chunk.
	made := func(group, at, digest string, size int) {
		c, a := pbstest.Connect(t, h.addr, "/api2/json/backup?store=store1&backup-type=host&backup-id="+group[len("host/"):]+"&backup-time="+at,
			p.filled([]string{"upgrade: " + upgrade.Backup, "cookie: PBSAuthCookie={ticket golden@pbs}"})...)
		if c == nil {
			t.Fatalf("%s: %d %s", group, a.Status, a.Body)
		}
		blob, err := os.ReadFile("../../chunks/testdata/golden/chunks/" + digest)
		if err != nil {
			t.Fatal(err)
		}
		d, err := chunks.ParseDigest(digest)
		if err != nil {
			t.Fatal(err)
		}
		h.want(c, "POST /dynamic_index?archive-name=root.pxar.didx", `200 {"data":1}`)
		h.upload(c, "dynamic", 1, d, size, blob)
		h.want(c, "PUT /dynamic_index "+pairs(1, 0, d), "200 ")
		csum := chunks.Sum(slices.Concat(le64(uint64(size)), d[:]))
		h.want(c, fmt.Sprintf("POST /dynamic_close?wid=1&chunk-count=1&size=%d&csum=%s", size, csum), "200 ")
		h.finish(c, group, at, fmt.Sprintf(`{"filename":"root.pxar.didx","crypt-mode":"none","size":%d,"csum":%q}`, size, csum))
		h.end(c)
	}
	const tree = "2dfefc5e5e42c7d0b87110b40cdcb9057a0ddace42b0b24dedef162f6f5e0803"
	p.play(readRecorded(t, "transcripts", func(string) bool { return true }), map[string]func(){
		"12-backup-exclude": func() { made("host/g6", "1700000000", tree, 2447) },
		"61-backup-namespace": func() { // which the other server took no notice of
			h.call("POST", "/admin/datastore/store1/namespace", url.Values{"name": {"a"}})
			h.call("POST", "/admin/datastore/store1/namespace", url.Values{"parent": {"a"}, "name": {"b"}})
		},
		"81-raw-restore": func() { made("host/r1", "1700000000", tree, 2447) }, // made by bytes that package pbstest replays
	})
}

const nothingBefore = "it is the first backup, which the other server said with an error; the client asks for a manifest only then"

var clientDifferences = []difference{
	{"", "GET /previous?archive-name=", "400 no valid previous backup", nothingBefore},
	{"60", "POST //access/ticket", "401 permission check failed.", "the password is wrong"},
}

// A pull of an official server finds here what it found at another, and in the
// same order.
func TestRecordedPulls(t *testing.T) {
	t.Parallel()
	h := newHome(t, "src")
	h.user("backup@pbs", "/datastore/src DatastoreBackup")
	h.user("reader@pbs", "/datastore/src DatastoreReader")
	p := newPlayer(h, pullDifferences)
	p.seeded = true
	p.secrets["admin@pbs!tok"] = h.secret
	all := readRecorded(t, "real-server", func(file string) bool {
		return file >= "80" && file[2] == '-'
	})
	for _, ns := range []string{"a", "c", "a/b"} {
		parent, name, nested := strings.Cut(ns, "/")
		if !nested {
			parent, name = "", ns
		}
		h.call("POST", "/admin/datastore/src/namespace", url.Values{"parent": {parent}, "name": {name}})
	}
	s := newSeeds(p, all)
	ticket, _, refusal := h.login("admin@pbs", "secret12345")
	if refusal != "" {
		t.Fatal(refusal)
	}
	s.cookie = "cookie: PBSAuthCookie=" + url.QueryEscape(ticket)
	s.sow("80-pull-full")
	protect := func(is string) {
		h.call("PUT", "/admin/datastore/src/protected", url.Values{"backup-type": {"host"}, "backup-id": {"g1"}, "backup-time": {"1700000000"}, "protected": {is}})
	}
	protect("1")
	const deleted = "95-pull-source-snapshot-deleted-meanwhile" // of which there is no telling what it was
	played := slices.DeleteFunc(slices.Clone(all), func(r recorded) bool { return r.File == deleted })
	p.play(played, map[string]func(){
		"85-pull-one-new-snapshot": func() { s.sow("85-pull-one-new-snapshot") },
		"87-pull-remove-vanished": func() {
			protect("0")
			h.call("DELETE", "/admin/datastore/src/snapshots", url.Values{"backup-type": {"host"}, "backup-id": {"g1"}, "backup-time": {"1700000000"}})
			h.call("DELETE", "/admin/datastore/src/groups", url.Values{"backup-type": {"vm"}, "backup-id": {"100"}})
			h.call("DELETE", "/admin/datastore/src/namespace", url.Values{"ns": {"c"}})
		},
		"96-pull-as-datastore-reader": func() { s.sow(deleted) },
	})
}

var pullDifferences = []difference{}

// Seeds make the snapshots that pulls found, out of what they fetched.
type seeds struct {
	p      *player
	cookie string // of whose they are to be
	all    []recorded
	chunks map[string][]byte // by digest
	sown   map[string]bool
}

func newSeeds(p *player, all []recorded) *seeds {
	s := &seeds{p: p, all: all, chunks: map[string][]byte{}, sown: map[string]bool{}}
	for _, r := range all {
		if _, digest, ok := strings.Cut(r.Target, "/chunk?digest="); ok && r.Status == 200 {
			s.chunks[digest] = r.fetched(p.t)
		}
	}
	return s
}

// fetched is what an answer had, or its stand-in.
func (r *recorded) fetched(t *testing.T) []byte {
	sent := recorded{Base64: r.AnswerBase64, SHA256: r.AnswerSHA256, Len: r.AnswerLen}
	if r.AnswerText != nil {
		sent.Text = *r.AnswerText
	}
	return sent.body(t)
}

// sow makes the snapshots of which a recording fetched everything.
func (s *seeds) sow(file string) {
	s.p.t.Helper()
	files := map[string][]byte{}
	session, target := "", ""
	flush := func() {
		if target != "" && len(files) > 1 && !s.sown[target] {
			s.sown[target] = true
			s.snapshot(session, files)
		}
		files = map[string][]byte{}
	}
	for _, r := range s.all {
		if r.File != file {
			continue
		}
		if strings.Contains(r.Target, "/reader?") {
			flush()
			u, err := url.Parse(r.Target)
			if err != nil {
				s.p.t.Fatal(err)
			}
			q := u.Query()
			target = r.Target
			session = fmt.Sprintf("%s/%s %s %s", q.Get("backup-type"), q.Get("backup-id"), q.Get("backup-time"), q.Get("ns"))
		}
		if name, ok := strings.CutPrefix(r.Target, "/download?file-name="); ok && r.Status == 200 {
			files[name] = r.fetched(s.p.t)
		}
	}
	flush()
}

// snapshot uploads one.
func (s *seeds) snapshot(session string, files map[string][]byte) {
	s.p.t.Helper()
	f := append(strings.Fields(session), "")
	typ, id, _ := strings.Cut(f[0], "/")
	m, err := manifest.ParseBlob(files[manifest.Name])
	if err != nil {
		s.p.t.Fatal(err)
	}
	c, a := pbstest.Connect(s.p.t, s.p.addr, fmt.Sprintf("/api2/json/backup?store=src&backup-type=%s&backup-id=%s&backup-time=%s%s", typ, id, f[1], with("&", f[2])),
		"upgrade: "+upgrade.Backup, s.cookie)
	if c == nil {
		s.p.t.Fatalf("%s: %d %s", session, a.Status, a.Body)
	}
	wid := 0
	for _, file := range m.Files {
		if strings.HasSuffix(file.Name, ".blob") {
			s.p.wantBlob(c, file.Name, files[file.Name])
			continue
		}
		wid++
		s.index(c, wid, file)
	}
	if log := files[manifest.LogName]; log != nil {
		s.p.wantBlob(c, manifest.LogName, log)
	}
	s.p.wantBlob(c, manifest.Name, files[manifest.Name])
	s.p.want(c, "POST /finish", "200 ")
	s.p.end(c)
}

// index uploads an index, of which the recordings have the checksum alone: what
// it consists of is found out by trying.
func (s *seeds) index(c *pbstest.Client, wid int, file manifest.File) {
	s.p.t.Helper()
	kind, query := "dynamic", ""
	if strings.HasSuffix(file.Name, ".fidx") {
		kind, query = "fixed", fmt.Sprintf("&size=%d", file.Size)
	}
	digests, ends := s.contents(kind, file)
	s.p.want(c, fmt.Sprintf("POST /%s_index?archive-name=%s%s", kind, file.Name, query), fmt.Sprintf(`200 {"data":%d}`, wid))
	begin := int64(0)
	for i, d := range digests {
		if got := s.p.upload(c, kind, wid, d, int(ends[i]-begin), s.chunks[d.String()]); !strings.HasPrefix(got, "200 ") {
			s.p.t.Errorf("%s: %s", file.Name, got)
		}
		s.p.want(c, fmt.Sprintf("PUT /%s_index %s", kind, pairs(wid, int(begin), d)), "200 ")
		begin = ends[i]
	}
	s.p.want(c, fmt.Sprintf("POST /%s_close?wid=%d&chunk-count=%d&size=%d&csum=%s", kind, wid, len(digests), file.Size, file.Csum), "200 ")
}

// contents finds the chunks of a file: one, or three slots.
func (s *seeds) contents(kind string, file manifest.File) (digests []chunks.Digest, ends []int64) {
	s.p.t.Helper()
	var known []chunks.Digest
	for text := range s.chunks {
		d, err := chunks.ParseDigest(text)
		if err != nil {
			s.p.t.Fatal(err)
		}
		known = append(known, d)
	}
	size := int64(file.Size)
	for _, a := range known {
		if kind == "dynamic" {
			if chunks.Sum(slices.Concat(le64(file.Size), a[:])) == file.Csum {
				return []chunks.Digest{a}, []int64{size}
			}
			continue
		}
		for _, b := range known {
			for _, c := range known {
				if chunks.Sum(slices.Concat(a[:], b[:], c[:])) == file.Csum {
					return []chunks.Digest{a, b, c}, []int64{chunks.SlotSize, 2 * chunks.SlotSize, size}
				}
			}
		}
	}
	s.p.t.Fatalf("%s: nobody knows what it consists of", file.Name)
	return nil, nil
}
