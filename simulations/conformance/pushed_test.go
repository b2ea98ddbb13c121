package conformance

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/pbs/pbstest"
)

// A session is what one was sent, each as one line that says nothing of what may
// differ: how writers are numbered, and how lists are cut.
type session struct {
	lines map[string]bool
	order []string // the last two requests
	lists map[string][]string
}

func newSession() *session { return &session{lines: map[string]bool{}, lists: map[string][]string{}} }

// note notes a request that changes something. sum is that of its body; "": not known.
func (s *session) note(method, target string, body []byte, sum string) error {
	path, query, _ := strings.Cut(target, "?")
	q, err := url.ParseQuery(query)
	if err != nil || method == "GET" {
		return err
	}
	s.order = append(s.order, method+" "+path)
	wid := q.Get("wid")
	q.Del("wid")
	switch {
	case method == "PUT":
		var list struct {
			WID     int      `json:"wid"`
			Digests []string `json:"digest-list"`
			Offsets []int64  `json:"offset-list"`
		}
		if err := json.Unmarshal(body, &list); err != nil {
			return err
		}
		key := fmt.Sprint(path, " ", list.WID)
		for i, d := range list.Digests {
			s.lists[key] = append(s.lists[key], fmt.Sprintf("%s@%d", d, list.Offsets[i]))
		}
		return nil
	case q.Get("file-name") == manifest.Name:
		m, err := manifest.ParseBlob(body)
		if err != nil {
			return err
		}
		text, err := m.Canonical()
		s.lines["manifest "+string(text)] = true
		return err
	case strings.HasSuffix(path, "_close"):
		key := strings.TrimSuffix(path, "_close") + "_index " + wid
		s.lines["list of "+q.Encode()+": "+strings.Join(s.lists[key], " ")] = true
	}
	s.lines[strings.TrimSpace(fmt.Sprintf("%s %s?%s %s", method, path, q.Encode(), sum))] = true
	return nil
}

func (s *session) text() string { return strings.Join(slices.Sorted(maps.Keys(s.lines)), "\n") }

func sumOf(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// A push sends of a snapshot just what the official client sent to make it: the same
// chunks, first or incremental, with the same indexes, blobs and manifest, and in the
// end the manifest.
func TestPushSendsWhatTheOfficialClientSent(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p := newPlayer(h, nil)
	p.requestsOnly = true
	p.secrets["admin@pbs!tok"] = h.secret
	files := map[string]string{ // by what was backed up
		"host/g1/1700000000": "20-backup-first", "host/g1/1700003600": "21-backup-incremental", "host/g1/1700007200": "22-backup-unchanged",
		"host/g2/1700000000": "23-backup-encrypted", "host/g2/1700003600": "24-backup-encrypted-incremental",
	}
	all := readRecorded(t, "real-server", func(file string) bool { return slices.Contains(slices.Collect(maps.Values(files)), file) })
	p.play(all, nil)
	known, err := bodies()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]*session{}
	for _, r := range all {
		if want[r.File] == nil {
			want[r.File] = newSession()
		}
		if !r.H2 {
			continue
		}
		sum := r.SHA256
		if body := r.body(t); sum == "" {
			sum = sumOf(body)
		} else if known[sum] == nil { // of which there was a stand-in
			sum = "?"
		}
		if err := want[r.File].note(r.Method, r.Target, r.body(t), sum); err != nil {
			t.Fatalf("%s: %s: %v", r.File, r.call(), err)
		}
	}

	got := map[string]*session{}
	server := pbstest.New(t, pbstest.NewDatastore(t))
	if err := server.ActAs("3.2.4"); err != nil {
		t.Fatal(err)
	}
	watch(server, got)
	host, port, _ := strings.Cut(server.Addr, ":")
	h.call("POST", "/config/remote", url.Values{"name": {"there"}, "host": {host}, "port": {port}, "auth-id": {"push@pbs!tok"}, "password": {"secret"}, "fingerprint": {server.Fingerprint}})
	h.call("POST", "/config/sync", url.Values{"id": {"upward"}, "sync-direction": {"push"}, "store": {"store1"}, "remote": {"there"}, "remote-store": {pbstest.Store}})
	h.task("POST", "/admin/sync/upward/run", nil)

	for snapshot, file := range files {
		is, was := got[snapshot], want[file]
		if is == nil || was == nil {
			t.Errorf("%s was not pushed, or %s not recorded", snapshot, file)
			continue
		}
		if n := len(is.order); n < 2 || is.order[n-2] != "POST /blob" || is.order[n-1] != "POST /finish" {
			t.Errorf("%s: the last requests are %q", snapshot, is.order)
		}
		if strings.Contains(was.text(), " ?") { // stand-ins
			is, was = is.blind(), was.blind()
		}
		if is.text() != was.text() {
			t.Errorf("%s (%s): sent\n%s\nthe official client sent\n%s", snapshot, file, is.text(), was.text())
		}
	}
	if n := len(got); n != len(files) {
		t.Errorf("%d sessions", n)
	}
}

// blind is a session without the sums of its bodies.
func (s *session) blind() *session {
	o := newSession()
	for line := range s.lines {
		if !strings.HasPrefix(line, "manifest ") && !strings.HasPrefix(line, "list of ") {
			words := strings.Fields(line)
			line = strings.Join(words[:min(len(words), 2)], " ")
		}
		o.lines[line] = true
	}
	return o
}

// watch notes what each session of a server is sent, by its snapshot. One after the
// other, they are told apart by their beginnings.
func watch(server *pbstest.Server, all map[string]*session) {
	before := server.Before
	var mu sync.Mutex
	now := newSession()
	server.Before = func(r *http.Request) error {
		mu.Lock()
		defer mu.Unlock()
		if q := r.URL.Query(); strings.HasSuffix(r.URL.Path, "/backup") {
			now = newSession()
			all[fmt.Sprintf("%s/%s/%s", q.Get("backup-type"), q.Get("backup-id"), q.Get("backup-time"))] = now
		} else if !strings.HasPrefix(r.URL.Path, "/api2/") {
			body, err := io.ReadAll(r.Body)
			if err == nil {
				err = now.note(r.Method, r.URL.RequestURI(), body, sumOf(body))
			}
			if err != nil {
				return err
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		return before(r)
	}
}
