package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/invite"
	"github.com/holdfast-mesh/holdfast/node/admin"
)

// initialised makes a node that listens on an address of its own.
func initialised(t *testing.T) Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf") // short: it has a socket in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	dir = filepath.Join(dir, "n")
	if err := Init(Config{Dir: dir, Name: "home", Site: "here", Listen: "127.0.0.1:0", MeshListen: "127.0.0.1:0"}); err != nil {
		t.Fatal(err)
	}
	c, err := ReadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// token is one that nobody has made.
func token(t *testing.T) string {
	t.Helper()
	text, err := invite.Token{
		Cluster: [16]byte{1}, Seed: [32]byte{1}, Expires: time.Now().Add(time.Hour).Unix(), Role: "full", Genesis: [32]byte{1}, Head: [32]byte{1},
		Members: []invite.Member{{Node: "x"}},
	}.Text()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Of a token that was damaged on the way, with no --site, it was said that --site is
// missing.
func TestTokenIsCheckedFirst(t *testing.T) {
	c := Config{Name: "home", Dir: filepath.Join(t.TempDir(), "node"), MeshListen: "127.0.0.1:0"}
	for text, want := range map[string]error{"hf1.xx": invite.ErrCut, token(t) + "a": invite.ErrDamaged, "": invite.ErrNotToken} {
		if _, err := Join(t.Context(), c, text, ""); !errors.Is(err, want) || strings.Contains(err.Error(), "site") {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
		if _, err := os.Stat(c.Dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: something is made: %v", text, err)
		}
	}
}

// With a mesh port that this machine does not have, what was said was libp2p's list of
// two failures, and no hint.
func TestJoinWithAPortOfAnotherMachine(t *testing.T) {
	c := Config{Name: "home", Dir: filepath.Join(t.TempDir(), "node"), MeshListen: "203.0.113.7:1"}
	_, err := Join(t.Context(), c, token(t), "")
	var port interface{ Hint() string }
	if !errors.As(err, &port) || !strings.Contains(err.Error(), "the mesh port 203.0.113.7:1 cannot be opened") || !strings.Contains(port.Hint(), "--mesh-listen") {
		t.Error(err)
	}
}

// An address that is none is refused before anything is made: as a configuration it would
// be read by nothing but the first start.
func TestAddressesAreCheckedFirst(t *testing.T) {
	for _, bad := range []string{"foo", "1.2.3:99999", "1.2.3:80", ":", "127.0.0.1", ":70000", "[::1]:51820x", "localhost:51820"} {
		c := Config{Name: "home", Site: "here", Dir: filepath.Join(t.TempDir(), "node"), MeshListen: bad}
		_, joined := Join(t.Context(), c, token(t), "")
		for _, err := range []error{Init(c), joined} {
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("mesh-listen is %q, want", bad)) {
				t.Errorf("%q: %v", bad, err)
			}
		}
		if _, err := os.Stat(c.Dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: something is made: %v", bad, err)
		}
	}
}

// A name with a control character was written to node.toml, and what was said was
// "toml: line 5", of a file that nobody had written yet.
func TestNamesAreCheckedFirst(t *testing.T) {
	for _, bad := range []string{"a\x01b", "a\nb", "\x1b[31mred", "a\u202eb", "a b", ""} {
		for flag, c := range map[string]Config{"--name": {Name: bad, Site: "here"}, "--site": {Name: "home", Site: bad}} {
			c.Dir, c.MeshListen = filepath.Join(t.TempDir(), "node"), "127.0.0.1:0"
			wrong := map[string]error{"init": Init(c)}
			if bad != "" { // the site is that of the token, or the name
				_, wrong["join"] = Join(t.Context(), c, token(t), "")
			}
			for verb, err := range wrong {
				if err == nil || !strings.Contains(err.Error(), flag+" is ") || strings.Contains(err.Error(), "toml") || strings.ContainsAny(err.Error(), "\x01\x1b") {
					t.Errorf("%s with %s %q: %v", verb, flag, bad, err)
				}
			}
			if _, err := os.Stat(c.Dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s %q: something is made: %v", flag, bad, err)
			}
		}
	}
}

func TestInit(t *testing.T) {
	c := initialised(t)
	err := filepath.WalkDir(c.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path == filepath.Join(c.Dir, clusterDir, "raft", "snapshots") {
			return fs.SkipDir // a library makes these, in a directory of ours
		}
		if info, err := d.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("others may use %s: %v, %v", path, info.Mode(), err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	was, _ := os.ReadFile(c.at(identityFile))
	if err := Init(Config{Dir: c.Dir, Name: "other", Site: "other"}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a node over a node: %v, want fs.ErrExist", err)
	}
	if is, _ := os.ReadFile(c.at(identityFile)); string(is) != string(was) {
		t.Error("the identity was changed")
	}
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "letter.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Init(Config{Dir: foreign, Name: "x", Site: "x"}); err == nil {
		t.Error("a node in a directory with something else in it")
	}
}

// A node answers the operator and clients, lets no second one in beside it, and
// ends at once when it is told to, with nothing left of its socket.
func TestRun(t *testing.T) {
	c := initialised(t)
	n, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()

	if _, err := New(c); err == nil || !strings.Contains(err.Error(), "has it") {
		t.Errorf("a second node: %v", err)
	}
	operator := admin.NewClient(c.Dir)
	defer operator.Close()
	if _, err := operator.Call(ctx, http.MethodPost, "/access/users", url.Values{"userid": {"a@pbs"}, "password": {"secret12345"}}); err != nil {
		t.Errorf("the operator: %v", err)
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer tr.CloseIdleConnections()
	client := http.Client{Transport: tr}
	for path, want := range map[string]int{"/health": 200, "/metrics": 401, "/api2/json/access/users": 401} {
		resp, err := client.Get("https://" + n.Address().String() + path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: status %d, want %d", path, resp.StatusCode, want)
		}
	}
	if err := n.Reload(); err != nil {
		t.Errorf("Reload: %v", err)
	}
	tr.CloseIdleConnections()
	begun := time.Now()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("the end took %s", took)
	}
	if operator.Running(t.Context()) {
		t.Error("somebody still answers")
	}
	again, err := New(c) // nothing is held any more
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func TestConfigIsRefused(t *testing.T) {
	const good = "name = \"a\"\nsite = \"b\"\n"
	if _, err := parseConfig([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"", "name = \"a b\"\nsite = \"b\"", good + "lissten = \":1\"", good + "listen = \"8007\"", good + "[tls]\ncertificate = \"x\"",
		good + "[tls]\nmin-version = \"1.1\"", good + "[log]\nlevel = \"loud\"", good + "[log]\nformat = \"xml\"", good + "[limits]\nbackups = -1",
	} {
		if c, err := parseConfig([]byte(text)); err == nil {
			t.Errorf("%q was accepted: %+v", text, c)
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte("name = \"a\"\nsite = \"b\"\n"))
	f.Add([]byte((&Config{Name: "a", Site: "b", Listen: ":1", MeshListen: ":2"}).text()))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parseConfig(text)
		if err != nil {
			return
		}
		if again, err := parseConfig([]byte(c.text())); err != nil || again.Name != c.Name || again.Listen != c.Listen {
			t.Fatalf("%q reads as %+v, written and read again as %+v, %v", text, c, again, err)
		}
	})
}
