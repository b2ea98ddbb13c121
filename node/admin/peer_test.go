//go:build linux

package admin

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const asOther = "HOLDFAST_TEST_DIAL"

// TestMain is also the other user's program: it asks at a socket and says what
// came of it.
func TestMain(m *testing.M) {
	path := os.Getenv(asOther)
	if path == "" {
		os.Exit(m.Run())
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		_, _ = io.WriteString(conn, "GET /api2/json/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		var text []byte
		if text, err = io.ReadAll(conn); err == nil && len(text) == 0 {
			err = errors.New("hung up")
		}
		os.Stdout.Write(text)
	}
	if err != nil {
		os.Stdout.WriteString("refused: " + err.Error())
	}
}

// Another user is refused by the kernel's word, even where the rights of the
// directory and of the socket were loosened.
func TestOtherUserIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	d := open(t, echo)
	path := filepath.Join(d.dir, Socket)
	if err := errors.Join(os.Chmod(d.dir, 0o755), os.Chmod(path, 0o666)); err != nil {
		t.Fatal(err)
	}
	for uid, want := range map[uint32]bool{0: true, 65534: false} {
		self := filepath.Join(d.dir, "self") // where everybody may read it
		if err := os.Link(os.Args[0], self); err != nil {
			b, err := os.ReadFile(os.Args[0])
			if err := errors.Join(err, os.WriteFile(self, b, 0o755)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(self, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(context.Background(), self)
		cmd.Dir, cmd.Env = "/", []string{asOther + "=" + path}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("user %d: %v: %s", uid, err, out)
		}
		if got := strings.Contains(string(out), "200 OK"); got != want {
			t.Errorf("user %d is let in: %v, want %v: %s", uid, got, want, out)
		}
		os.Remove(self)
	}
	conn, other := net.Pipe()
	conn.Close()
	other.Close()
	if err := mayEnter(conn); err == nil {
		t.Error("what is no unix socket is let in")
	}
}
