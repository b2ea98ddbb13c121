package conformance

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/pbstest"
)

// A recorded is one line of testdata/recorded: what an official client sent,
// and what the server answered, if that was official too. Where a header had a
// ticket, a CSRF token or a secret, it has "{ticket USER}" and the like.
type recorded struct {
	File           string
	Conn           int
	H2             bool
	Method, Target string
	Headers        []string

	Text   string
	Base64 []byte
	SHA256 string
	Len    int

	Status       int
	AnswerText   *string `json:"answer-text"`
	AnswerBase64 []byte  `json:"answer-base64"`
	AnswerSHA256 string  `json:"answer-sha256"`
	AnswerLen    int     `json:"answer-len"`
}

// call names an exchange, for messages and the table of differences.
func (r *recorded) call() string {
	call := r.Method + " " + strings.Replace(r.Target, "/api2/json", "", 1) + " " + r.Text
	return strings.TrimSpace(escapedUPID.ReplaceAllString(call, "UPID"))
}

var escapedUPID = regexp.MustCompile(`UPID%3A[A-Za-z0-9%_.-]*`)

func readRecorded(t *testing.T, name string, keep func(file string) bool) (all []recorded) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "recorded", name+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		var r recorded
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		if keep(r.File) {
			all = append(all, r)
		}
	}
	number := func(file string) (n int) {
		fmt.Sscanf(file, "%d", &n)
		return n
	}
	slices.SortStableFunc(all, func(a, b recorded) int { return cmp.Compare(number(a.File), number(b.File)) })
	return all
}

// bodies finds the bodies that are too long for a line, by their SHA-256, among
// the golden files of other packages.
var bodies = sync.OnceValues(func() (map[string][]byte, error) {
	all := map[string][]byte{}
	for _, dir := range []string{"../../chunks/testdata/golden", "../../pbs/pbstest/testdata/bodies"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			sum := sha256.Sum256(b)
			all[hex.EncodeToString(sum[:])] = b
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
})

// body is what was sent. Of what the recordings have no more than the length
// of, there is a stand-in: an encrypted chunk, into which nobody can look.
func (r *recorded) body(t *testing.T) []byte {
	t.Helper()
	if r.SHA256 == "" {
		return append([]byte(r.Text), r.Base64...)
	}
	all, err := bodies()
	if err != nil {
		t.Fatal(err)
	}
	if b := all[r.SHA256]; b != nil {
		return b
	}
	standIn, err := chunks.Encode(nil, make([]byte, 1<<20), chunks.EncodeOptions{Key: chunks.NewKey([chunks.KeySize]byte{1}), Compress: true})
	if err != nil {
		t.Fatal(err)
	}
	return append(standIn, make([]byte, r.Len)...)[:r.Len]
}

// A player replays what was recorded against a node.
type player struct {
	*home
	t           *testing.T
	differences []difference
	used        []bool

	requestsOnly bool // are golden, not the answers: all should succeed
	seeded       bool // snapshots came another way than those recorded

	tickets, csrfs, secrets map[string]string // by user or token
	upids                   map[string]string // ours by those recorded
	sessions                map[int]*pbstest.Client
	refusals                sync.WaitGroup // requests whose answers are delayed
	mu                      sync.Mutex     // for used
}

func newPlayer(h *home, differences []difference) *player {
	return &player{
		home: h, t: h.t, differences: differences, used: make([]bool, len(differences)), tickets: map[string]string{}, csrfs: map[string]string{},
		secrets: map[string]string{}, upids: map[string]string{}, sessions: map[int]*pbstest.Client{},
	}
}

// play sends all that was recorded in its order, the requests of a connection
// on a connection, and compares the answers. Before a file it does what stands
// in before.
func (p *player) play(all []recorded, before map[string]func()) {
	last := map[string]int{} // exchange of a connection
	for i, r := range all {
		last[fmt.Sprint(r.File, r.Conn)] = i
	}
	file := ""
	for i, r := range all {
		if r.File != file {
			file = r.File
			if do := before[file]; do != nil {
				do()
			}
		}
		switch {
		case r.H2:
			p.h2(r)
		case strings.Contains(strings.Join(r.Headers, " "), "upgrade: ") || r.Status == 101:
			p.upgrade(r)
		default:
			p.http1(r)
		}
		if c := p.sessions[r.Conn]; c != nil && last[fmt.Sprint(r.File, r.Conn)] == i {
			c.Close()
			delete(p.sessions, r.Conn)
			p.left()
		}
	}
	p.refusals.Wait()
	for i, d := range p.differences {
		if !p.used[i] {
			p.t.Errorf("nothing differs any more in %s %s (%s): take the row out of the table", d.file, d.call, d.why)
		}
	}
}

// filled puts our tickets, tokens and secrets into headers.
func (p *player) filled(headers []string) (filled []string) {
	for _, h := range headers {
		for kind, by := range map[string]map[string]string{"ticket": p.tickets, "csrf": p.csrfs, "secret": p.secrets} {
			for who, value := range by {
				h = strings.ReplaceAll(h, "{"+kind+" "+who+"}", value)
			}
		}
		filled = append(filled, h)
	}
	return filled
}

// target puts our UPIDs into a target.
func (p *player) target(r recorded) string {
	return escapedUPID.ReplaceAllStringFunc(r.Target, func(escaped string) string {
		upid, err := url.PathUnescape(escaped)
		if ours := p.upids[upid]; err == nil && ours != "" {
			return url.PathEscape(ours)
		}
		return escaped
	})
}

func (p *player) http1(r recorded) {
	p.t.Helper()
	ask := func() {
		text := p.http(r.Method, p.target(r), "", string(r.body(p.t)), p.filled(r.Headers)...)
		status, body, _ := strings.Cut(text, " ")
		p.compare(r, status, []byte(body))
	}
	if r.Status == 401 || r.Status == 403 { // which changes nothing
		p.refusals.Go(ask)
		return
	}
	ask()
}

func (p *player) upgrade(r recorded) {
	p.t.Helper()
	c, a := pbstest.Connect(p.t, p.addr, r.Target, p.filled(r.Headers)...)
	if c != nil {
		p.sessions[r.Conn] = c
	}
	p.compare(r, fmt.Sprint(a.Status), a.Body)
}

func (p *player) h2(r recorded) {
	p.t.Helper()
	c := p.sessions[r.Conn]
	if c == nil {
		p.t.Errorf("%s: %s: there is no session", r.File, r.call())
		return
	}
	_, kind, _ := strings.Cut(r.Headers[0], ": ")
	a, err := c.Do(r.Method, r.Target, kind, r.body(p.t))
	if err != nil {
		p.t.Errorf("%s: %s: %v", r.File, r.call(), err)
		return
	}
	p.compare(r, fmt.Sprint(a.Status), a.Body)
}

// left waits until the sessions that were closed have ended: those that are
// open are held on purpose.
func (p *player) left() {
	for p.running() > len(p.sessions) {
	}
}

// compare compares an answer with the recorded one, unless they differ on
// purpose.
func (p *player) compare(r recorded, status string, body []byte) {
	p.t.Helper()
	p.learn(r, body)
	then := r.Status
	if p.requestsOnly && then != 101 {
		then = 200
	}
	want, got := r.answer(p, fmt.Sprint(then), r.golden()), r.answer(p, status, body)
	call := r.call()
	for i, d := range p.differences {
		if !strings.HasPrefix(r.File, d.file) || !strings.HasPrefix(call, d.call) {
			continue
		}
		if got == want {
			continue // another exchange of the same call differs, perhaps
		}
		p.mu.Lock()
		p.used[i] = true
		p.mu.Unlock()
		if !strings.Contains(got, d.got) {
			p.t.Errorf("%s: %s: %.400s, want …%s… (%s)", r.File, call, got, d.got, d.why)
		}
		return
	}
	if got != want {
		p.t.Errorf("%s: %.200s\n got  %.700s\n want %.700s", r.File, call, got, want)
	}
}

// golden is the recorded answer; nil if there is none.
func (r *recorded) golden() []byte {
	if r.AnswerText != nil {
		return []byte(*r.AnswerText)
	}
	return r.AnswerBase64
}

// learn keeps what later requests need: tickets and UPIDs.
func (p *player) learn(r recorded, body []byte) {
	var got struct {
		Data struct{ Username, Ticket, CSRFPreventionToken string }
	}
	if json.Unmarshal(body, &got) == nil && got.Data.Ticket != "" {
		p.tickets[got.Data.Username], p.csrfs[got.Data.Username] = url.QueryEscape(got.Data.Ticket), got.Data.CSRFPreventionToken
	}
	var then, now struct{ Data string }
	if json.Unmarshal(r.golden(), &then) == nil && json.Unmarshal(body, &now) == nil && strings.HasPrefix(then.Data, "UPID:") {
		p.upids[then.Data] = now.Data
		if strings.HasPrefix(now.Data, "UPID:") {
			p.ended(now.Data)
		}
	}
}

// answer brings an answer into one form, in which what is the same by the
// protocol is the same.
func (r *recorded) answer(p *player, status string, body []byte) string {
	path, query, _ := strings.Cut(r.Target, "?")
	name := strings.TrimPrefix(strings.TrimPrefix(query, "file-name="), "archive-name=")
	long := r.AnswerSHA256 != ""
	switch {
	case status == "101" || r.Method == "POST" && strings.HasSuffix(path, "/access/ticket") && status == "200":
		return status
	case p.requestsOnly && strings.HasPrefix(status, "2"):
		return "200"
	case r.H2 && status == "200" && name == manifest.Name && len(body) > 0:
		return status + " " + p.manifestText(body)
	case r.H2 && status == "200" && r.Method == "GET" && strings.HasSuffix(name, "idx"):
		_, err := chunks.ParseIndex(body) // its UUID and time differ
		return fmt.Sprint("index of ", r.AnswerLen, len(body) == 0 || err == nil && len(body) == r.AnswerLen)
	case long && len(body) == 0: // the recorded one
		return status + " " + r.AnswerSHA256
	case long && r.H2:
		if len(body) == r.AnswerLen && len(bodies2()[r.AnswerSHA256]) == 0 {
			return status + " " + r.AnswerSHA256 // a stand-in of that length
		}
		sum := sha256.Sum256(body)
		return status + " " + hex.EncodeToString(sum[:])
	case long:
		return status + " " + r.AnswerSHA256 // a list too long to have been recorded
	case r.AnswerText == nil && r.AnswerBase64 != nil:
		return status + " " + hex.EncodeToString(body)
	}
	return status + " " + p.normal(string(body))
}

func bodies2() map[string][]byte { all, _ := bodies(); return all }

// manifestText is what clients wrote of a manifest, and what the server counted.
func (p *player) manifestText(blob []byte) string {
	m, err := manifest.ParseBlob(blob)
	if err != nil {
		return err.Error()
	}
	text, err := m.Canonical()
	if err != nil {
		return err.Error()
	}
	if p.seeded {
		return string(text) + m.Notes()
	}
	return string(text) + string(m.GetUnprotected("chunk_upload_stats"))
}

// variable are names that differ from run to run.
var variable = regexp.MustCompile(`UPID:[^"' ]*:`)

// normal brings a text or JSON into one form: members and lists sorted, what
// is variable replaced, and without members that newer servers add.
func (p *player) normal(text string) string {
	text = variable.ReplaceAllString(text, "UPID")
	text = strings.NewReplacer(p.dir+"/", "", "/mnt/datastore/", "").Replace(text) // we show no paths of the machine
	text = stamp.ReplaceAllString(text, "TIME: ")
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		lines := strings.Split(text, "\n")
		slices.Sort(lines[1:]) // parameters are named in any order
		return strings.Join(lines, "\n")
	}
	b, _ := json.Marshal(walk(v))
	return string(b)
}

// stamp is the time that a line of a log begins with.
var stamp = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d): `)

// measured are members whose values hang on this machine, this moment, or how
// chunks are kept.
var measured = strings.Fields("avail used total digest fingerprint next-run last-run-endtime duration disk-bytes disk-chunks index-data-bytes " +
	"index-file-count pending-bytes pending-chunks removed-bytes removed-chunks pid pstart starttime endtime release version repoid")

// newer are members that newer servers add.
var newer = strings.Fields("mount-status backend-type history history-start history-delta estimated-full-date")

func walk(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = walk(v[i])
		}
		slices.SortFunc(v, func(a, b any) int { return cmp.Compare(sortKey(a), sortKey(b)) })
	case map[string]any:
		for name, value := range v {
			switch {
			case slices.Contains(newer, name):
				delete(v, name)
			case slices.Contains(measured, name) && value != nil:
				v[name] = "measured"
			default:
				v[name] = walk(value)
			}
		}
		if v["filename"] == manifest.Name {
			v["size"] = "measured" // by how it is compressed
		}
		if _, ok := v["files"]; ok && v["size"] != nil {
			v["size"] = "measured" // has that of the manifest in it
		}
	}
	return v
}

func sortKey(v any) string { b, _ := json.Marshal(v); return string(b) }
