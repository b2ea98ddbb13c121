package pbstest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// An exchange is one line of testdata: a request of an official client, and
// where the server was official too (20 to 56 of its numbers, but 35), what it
// answered.
type exchange struct {
	Method  string
	Target  string
	Kind    string
	Upgrade bool
	Text    string
	Base64  []byte
	SHA256  string
	Answer  *struct {
		Status int
		Text   string
		Base64 []byte
		SHA256 string
	}
}

func (e *exchange) body(t *testing.T) []byte {
	switch {
	case e.SHA256 != "":
		b, err := os.ReadFile(filepath.Join("testdata", "bodies", e.SHA256))
		if err != nil {
			t.Fatal(err)
		}
		return b
	case e.Base64 != nil:
		return e.Base64
	}
	return []byte(e.Text)
}

func script(t *testing.T, name string) []exchange {
	t.Helper()
	file, err := os.ReadFile(filepath.Join("testdata", name+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var all []exchange
	for line := range bytes.Lines(file) {
		var e exchange
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// replay sends what a client sent and checks every answer.
func (s *Server) replay(t *testing.T, name string) {
	t.Helper()
	var c *Client
	for _, e := range script(t, name) {
		if !e.Upgrade {
			a, err := c.Do(e.Method, e.Target, e.Kind, e.body(t))
			if err != nil {
				t.Fatalf("%s %s: %v", e.Method, e.Target, err)
			}
			checkAnswer(t, e, a)
			continue
		}
		if c != nil {
			c.Close()
			s.Wait()
		}
		protocol := upgrade.Backup
		if strings.Contains(e.Target, "/reader") {
			protocol = upgrade.Reader
		}
		var a Answer
		c, a = s.Connect(t, e.Target, protocol, "admin@pbs")
		checkAnswer(t, e, a)
	}
	if c != nil {
		c.Close()
	}
	for _, err := range s.Wait() {
		if err != nil {
			t.Errorf("%s: a session ended with: %v", name, err)
		}
	}
}

// checkAnswer compares an answer with the recorded one. Without one, from a
// server with faults of its own, success is expected; but a first backup has
// no previous one.
func checkAnswer(t *testing.T, e exchange, a Answer) {
	t.Helper()
	what := e.Method + " " + e.Target
	switch want := e.Answer; {
	case want == nil && strings.HasPrefix(e.Target, "/previous") && a.Status == http.StatusBadRequest:
	case want == nil:
		if a.Status != http.StatusOK && a.Status != http.StatusSwitchingProtocols {
			t.Errorf("%s: %d %s", what, a.Status, a.Body)
		}
	case a.Status != want.Status:
		t.Errorf("%s: %d %s, want %d %s", what, a.Status, a.Body, want.Status, want.Text)
	case a.Status == http.StatusSwitchingProtocols:
	case want.Text != "" && string(a.Body) != want.Text:
		t.Errorf("%s: %s, want %s", what, a.Body, want.Text)
	case e.Method == http.MethodGet && strings.HasSuffix(e.Target, "=index.json.blob"):
		sameManifest(t, what, a.Body, want.Base64)
	case e.Method == http.MethodGet && strings.HasSuffix(e.Target, "idx"):
		if _, err := chunks.ParseIndex(a.Body); err != nil { // its UUID and time differ from those recorded
			t.Errorf("%s: %v", what, err)
		}
	case want.Base64 != nil && !bytes.Equal(a.Body, want.Base64):
		t.Errorf("%s: other bytes than recorded", what)
	case want.SHA256 != "":
		if sum := sha256.Sum256(a.Body); hex.EncodeToString(sum[:]) != want.SHA256 {
			t.Errorf("%s: other bytes than recorded", what)
		}
	}
}

// sameManifest compares all but notes and state of verification, which the
// recorded server had got between the backup and the restore.
func sameManifest(t *testing.T, what string, got, want []byte) {
	t.Helper()
	var texts, stats [2]string
	for i, blob := range [][]byte{got, want} {
		m, err := manifest.ParseBlob(blob)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		canonical, err := m.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		texts[i], stats[i] = string(canonical), string(m.GetUnprotected("chunk_upload_stats"))
	}
	if texts[0] != texts[1] || stats[0] != stats[1] {
		t.Errorf("%s:\n%s\n%s\nwant\n%s\n%s", what, texts[0], stats[0], texts[1], stats[1])
	}
}

func TestReplayOfTheOfficialClient(t *testing.T) {
	s := New(t, NewDatastore(t))
	for _, name := range []string{
		"20-backup-first", "21-backup-incremental", "22-backup-unchanged",
		"50-restore-pxar", "51-restore-img", "52-restore-conf", "56-restore-missing",
		"05-backup-encrypted", "35-restore-encrypted-img",
	} {
		s.replay(t, name)
	}
}

// The QEMU library backs up an image twice; the second time it tells only
// what has changed (§12.3).
func TestReplayOfQEMU(t *testing.T) {
	s := New(t, NewDatastore(t))
	s.replay(t, "70-qemu-full-then-incremental")
}

func TestStoredObjectsAreWhatTheClientSent(t *testing.T) {
	d := NewDatastore(t)
	s := New(t, d)
	s.replay(t, "20-backup-first")
	for _, e := range script(t, "20-backup-first") {
		path, query, _ := strings.Cut(e.Target, "?")
		if !strings.HasSuffix(path, "_chunk") {
			continue
		}
		_, hex, _ := strings.Cut(query, "digest=")
		digest, err := chunks.ParseDigest(hex[:64])
		if err != nil {
			t.Fatal(err)
		}
		b, err := d.Chunks().Get(t.Context(), digest, nil)
		if err != nil || !bytes.Equal(b, e.body(t)) {
			t.Errorf("chunk %s is not stored as it was sent: %v", digest.Short(), err)
		}
	}
}
