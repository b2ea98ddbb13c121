package conformance

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/pbstest"
	"github.com/holdfast-mesh/holdfast/pbs/sitetest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// A wire leads to a server with a datastore, store1, and an administrator,
// [sitetest.Admin], who has a token tok.
type wire struct {
	t       *testing.T
	addr    string
	secret  string     // of the token
	as      string     // "TOKEN:SECRET" of another that sessions are opened with
	running func() int // tasks
}

// http sends a request of HTTP/1.1 and returns "STATUS BODY".
func (s *wire) http(method, target, kind, body string, headers ...string) string {
	s.t.Helper()
	req, err := http.NewRequest(method, "https://"+s.addr+target, strings.NewReader(body)) // as it is, with its slashes
	if err != nil {
		s.t.Fatal(err)
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	for _, h := range headers {
		if name, value, ok := strings.Cut(h, ": "); ok {
			req.Header.Set(name, value)
		}
	}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	resp, err := c.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprint(resp.StatusCode, " ", string(text))
}

// admin is how the administrator is known.
func (s *wire) admin() string {
	return "Authorization: PBSAPIToken " + cmp.Or(s.as, string(sitetest.Admin)+"!tok:"+s.secret)
}

// login returns the ticket and the CSRF token of a login, or "STATUS BODY".
func (s *wire) login(user, password string) (ticket, csrf, refusal string) {
	body, _ := json.Marshal(map[string]string{"username": user, "password": password})
	answer := s.http("POST", "//api2/json/access/ticket", "application/json", string(body))
	var v struct {
		Data struct{ Ticket, CSRFPreventionToken string }
	}
	status, text, _ := strings.Cut(answer, " ")
	if status != "200" {
		return "", "", answer
	}
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		s.t.Fatal(err)
	}
	return v.Data.Ticket, v.Data.CSRFPreventionToken, ""
}

// ask asks for a session: "backup vm/100 1000 &more".
func (s *wire) ask(what string, headers ...string) (*pbstest.Client, string) {
	s.t.Helper()
	f := strings.Fields(what + " ")
	typ, id, _ := strings.Cut(f[1], "/")
	protocol := map[string]string{"backup": upgrade.Backup, "reader": upgrade.Reader}[f[0]]
	target := fmt.Sprintf("//api2/json/%s?store=store1&backup-type=%s&backup-id=%s&backup-time=%s%s", f[0], typ, id, f[2], strings.Join(f[3:], ""))
	if headers == nil {
		headers = []string{"connection: upgrade", "upgrade: " + protocol}
	}
	c, a := pbstest.Connect(s.t, s.addr, target, append(headers, s.admin())...)
	return c, fmt.Sprint(a.Status, " ", string(a.Body))
}

func (s *wire) open(what string) *pbstest.Client {
	s.t.Helper()
	c, answer := s.ask(what)
	if c == nil {
		s.t.Fatalf("%s: %s", what, answer)
	}
	return c
}

// openSoon is open for who may find the last session of the group still ending.
func (s *wire) openSoon(what string) *pbstest.Client {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, answer := s.ask(what)
		if c != nil {
			return c
		}
		if !strings.Contains(answer, "another backup is already running") || time.Now().After(deadline) {
			s.t.Fatalf("%s: %s", what, answer)
		}
	}
}

// back makes a snapshot with one small file.
func (s *wire) back(group, at string) {
	s.t.Helper()
	c := s.open("backup " + group + " " + at)
	if err := c.BackUpBlob(group, at, "x.conf.blob", "hello"); err != nil {
		s.t.Fatal(err)
	}
	s.end(c)
}

// end ends a session and waits until the server has noticed.
func (s *wire) end(c *pbstest.Client) {
	s.t.Helper()
	c.Close()
	s.idle()
}

// idle waits until no session is left.
func (s *wire) idle() {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); s.running() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatal("a session does not end")
		}
	}
}

// say sends one line, "METHOD TARGET" or "METHOD TARGET JSON", and returns
// "STATUS BODY".
func (s *wire) say(c *pbstest.Client, line string) string {
	s.t.Helper()
	f := strings.SplitN(line, " ", 3)
	kind, body := "", ""
	if len(f) == 3 {
		kind, body = "application/json", f[2]
	}
	a, err := c.Do(f[0], f[1], kind, []byte(body))
	if err != nil {
		s.t.Fatalf("%s: %v", line, err)
	}
	return fmt.Sprint(a.Status, " ", string(a.Body))
}

// want says one line and compares what comes.
func (s *wire) want(c *pbstest.Client, line, prefix string) {
	s.t.Helper()
	if got := s.say(c, line); !strings.HasPrefix(got, prefix) {
		s.t.Errorf("%s: got %s, want %s", line, got, prefix)
	}
}

// put uploads a chunk; query is "wid=1".
func (s *wire) put(c *pbstest.Client, kind, query string, content []byte) string {
	s.t.Helper()
	blob, err := chunks.Encode(nil, content, chunks.EncodeOptions{Compress: true})
	if err != nil {
		s.t.Fatal(err)
	}
	q, _ := url.ParseQuery(query)
	for name, value := range map[string]string{"digest": chunks.Sum(content).String(), "size": fmt.Sprint(len(content)), "encoded-size": fmt.Sprint(len(blob))} {
		if !q.Has(name) {
			q.Set(name, value)
		}
	}
	return s.octets(c, "/"+kind+"_chunk?"+q.Encode(), blob)
}

// upload uploads a chunk as it was encoded.
func (s *wire) upload(c *pbstest.Client, kind string, wid int, d chunks.Digest, size int, blob chunks.Blob) string {
	s.t.Helper()
	return s.octets(c, fmt.Sprintf("/%s_chunk?wid=%d&digest=%s&size=%d&encoded-size=%d", kind, wid, d, size, len(blob)), blob)
}

func (s *wire) octets(c *pbstest.Client, target string, body []byte) string {
	s.t.Helper()
	a, err := c.Do("POST", target, "application/octet-stream", body)
	if err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprint(a.Status, " ", string(a.Body))
}

// wantBlob uploads a small file.
func (s *wire) wantBlob(c *pbstest.Client, name string, blob chunks.Blob) {
	s.t.Helper()
	if got := s.octets(c, fmt.Sprintf("/blob?file-name=%s&encoded-size=%d", name, len(blob)), blob); got != `200 {"data":null}` {
		s.t.Errorf("%s: %s", name, got)
	}
}

// finish uploads a manifest with these files, as JSON, and finishes the backup.
func (s *wire) finish(c *pbstest.Client, group, at, files string) {
	s.t.Helper()
	typ, id, _ := strings.Cut(group, "/")
	blob, err := chunks.Encode(nil, fmt.Appendf(nil,
		`{"backup-type":%q,"backup-id":%q,"backup-time":%s,"files":[%s],"unprotected":{}}`, typ, id, at, files), chunks.EncodeOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	s.wantBlob(c, "index.json.blob", blob)
	s.want(c, "POST /finish", `200 {"data":null}`)
}

// pairs is the body that appends chunks to an index, the first at an offset and
// the others four MiB on each.
func pairs(wid, offset int, digests ...chunks.Digest) string {
	var d, o []string
	for i, x := range digests {
		d, o = append(d, `"`+x.String()+`"`), append(o, fmt.Sprint(offset+i*chunks.SlotSize))
	}
	return fmt.Sprintf(`{"wid":%d,"digest-list":[%s],"offset-list":[%s]}`, wid, strings.Join(d, ","), strings.Join(o, ","))
}

func digest(content []byte) []byte { d := chunks.Sum(content); return d[:] }

func le64(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }

func slot(letter byte) []byte { return bytes.Repeat([]byte{letter}, chunks.SlotSize) }
