package conformance

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/pbstest"
	"github.com/holdfast-mesh/holdfast/pbs/sitetest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// A site is a server with one datastore, store1, and an administrator who
// speaks by a token.
type site struct {
	*sitetest.Site
	t      *testing.T
	secret string
	d      *catalog.Datastore
}

func newSite(t *testing.T) *site {
	t.Helper()
	d := pbstest.NewDatastore(t)
	s, err := sitetest.New(sitetest.Config{Dir: t.TempDir(), Datastores: map[string]*catalog.Datastore{"store1": d}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &site{Site: s, t: t, d: d}
	if err := s.Access.AddUser(t.Context(), access.User{ID: sitetest.Admin}, ""); err != nil {
		t.Fatal(err)
	}
	if err := s.AddUser(t.Context(), sitetest.Admin, "/ Admin"); err != nil {
		t.Fatal(err)
	}
	w.secret = w.token(sitetest.Admin+"!tok", "/ Admin")
	return w
}

func (s *site) token(id access.AuthID, grants ...string) string {
	s.t.Helper()
	secret, err := s.AddToken(s.t.Context(), id, grants...)
	if err != nil {
		s.t.Fatal(err)
	}
	return secret
}

// http sends a request of HTTP/1.1 and returns "STATUS BODY".
func (s *site) http(method, target, kind, body string, headers ...string) string {
	s.t.Helper()
	req, err := http.NewRequest(method, "https://"+s.Addr+target, strings.NewReader(body)) // as it is, with its slashes
	if err != nil {
		s.t.Fatal(err)
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
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

func (s *site) admin() string {
	return "Authorization: PBSAPIToken " + string(sitetest.Admin) + "!tok:" + s.secret
}

// login returns the ticket and the CSRF token of a login, or "STATUS BODY".
func (s *site) login(user, password string) (ticket, csrf, refusal string) {
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
func (s *site) ask(what string, headers ...string) (*pbstest.Client, string) {
	s.t.Helper()
	f := strings.Fields(what + " ")
	typ, id, _ := strings.Cut(f[1], "/")
	protocol := map[string]string{"backup": upgrade.Backup, "reader": upgrade.Reader}[f[0]]
	target := fmt.Sprintf("//api2/json/%s?store=store1&backup-type=%s&backup-id=%s&backup-time=%s%s", f[0], typ, id, f[2], strings.Join(f[3:], ""))
	if headers == nil {
		headers = []string{"connection: upgrade", "upgrade: " + protocol}
	}
	c, a := pbstest.Connect(s.t, s.Addr, target, append(headers, s.admin())...)
	return c, fmt.Sprint(a.Status, " ", string(a.Body))
}

func (s *site) open(what string) *pbstest.Client {
	s.t.Helper()
	c, answer := s.ask(what)
	if c == nil {
		s.t.Fatalf("%s: %s", what, answer)
	}
	return c
}

// back makes a snapshot with one small file.
func (s *site) back(group, at string) {
	s.t.Helper()
	c := s.open("backup " + group + " " + at)
	if err := c.BackUpBlob(group, at, "x.conf.blob", "hello"); err != nil {
		s.t.Fatal(err)
	}
	s.end(c)
}

// end ends a session and waits until the server has noticed.
func (s *site) end(c *pbstest.Client) {
	s.t.Helper()
	c.Close()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, n := s.Tasks.List(jobs.Filter{Running: true}); n == 0 {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatal("a session does not end")
		}
	}
}

// say sends one line, "METHOD TARGET" or "METHOD TARGET JSON", and returns
// "STATUS BODY".
func (s *site) say(c *pbstest.Client, line string) string {
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
func (s *site) want(c *pbstest.Client, line, prefix string) {
	s.t.Helper()
	if got := s.say(c, line); !strings.HasPrefix(got, prefix) {
		s.t.Errorf("%s: got %s, want %s", line, got, prefix)
	}
}

// put uploads a chunk; query is "wid=1".
func (s *site) put(c *pbstest.Client, kind, query string, content []byte) string {
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
	a, err := c.Do("POST", "/"+kind+"_chunk?"+q.Encode(), "application/octet-stream", blob)
	if err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprint(a.Status, " ", string(a.Body))
}

func slot(letter byte) []byte { return bytes.Repeat([]byte{letter}, chunks.SlotSize) }
