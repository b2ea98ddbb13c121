package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Two of three operators sign, each with a key on a machine of their own; one
// alone can do nothing.
func TestTwoOperatorsSign(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	t.Parallel()
	root, err := os.MkdirTemp("", "hf") // short: there are sockets in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	a := &daemon{t: t, name: "a", dir: filepath.Join(root, "a")}
	b := &daemon{t: t, name: "b", dir: filepath.Join(root, "b")}
	for _, d := range []*daemon{a, b} {
		t.Cleanup(func() { d.kill(syscall.SIGKILL) })
	}
	a.must("node", "init", "--name", "a", "--listen", "127.0.0.1:0", "--mesh-listen", freeMeshPort(t))
	a.start()
	var who struct {
		Operators []string
		Threshold int
	}
	list := func() {
		if err := json.Unmarshal([]byte(a.must("operator", "list", "--output-format", "json")), &who); err != nil {
			t.Fatal(err)
		}
	}
	list()
	first, second, third := filepath.Join(a.dir, "operator.key"), filepath.Join(root, "second.key"), filepath.Join(root, "third.key")
	ids := append([]string{}, who.Operators...)
	for _, file := range []string{second, third} {
		ids = append(ids, strings.TrimSpace(a.must("operator", "create-key", file)))
	}
	if len(ids) != 3 || who.Threshold != 1 {
		t.Fatalf("%+v, %v", who, ids)
	}
	paper := filepath.Join(root, "request.json")
	refused := func(what string, args ...string) {
		t.Helper()
		if out, err := a.holdfastAll(args...); err == nil || !strings.Contains(out, what) {
			t.Errorf("holdfast %s: %v, want %q\n%s", strings.Join(args, " "), err, what, out)
		}
	}
	set := append([]string{"operator", "set", "--threshold", "2"}, ids...)
	refused("1 operator has signed, and 3 have to", append(set, "--sign-to", paper)...)
	refused("not every new operator has signed", "operator", "submit", paper)
	for _, file := range []string{second, third} {
		if out := b.must("operator", "sign", paper, "--operator-key", file); !strings.Contains(out, "and 3 have to") {
			t.Errorf("%s", out)
		}
	}
	a.must("operator", "submit", paper)
	if list(); len(who.Operators) != 3 || who.Threshold != 2 {
		t.Fatalf("the operators are %+v", who)
	}

	a.wait(patience, "its mesh port is open", func() bool {
		_, err := a.holdfast("invite", "create", "-q", "--role", "replica", "--approve")
		return err == nil
	})
	refused("--sign-to", "invite", "create", "--role", "full")
	refused("1 operator has signed, and 2 have to", "invite", "create", "--role", "full", "--sign-to", paper)
	refused("want 2", "operator", "submit", paper)
	b.must("operator", "sign", paper, "--operator-key", first) // once more the same
	refused("want 2", "operator", "submit", paper)
	b.must("operator", "sign", paper, "--operator-key", third)
	submitsOnlyWhatIsSigned(t, a, paper)
	var invite struct{ Token string }
	if err := json.Unmarshal([]byte(a.must("operator", "submit", paper, "--output-format", "json")), &invite); err != nil {
		t.Fatal(err)
	}
	if _, err := b.holdfastWith(invite.Token, "node", "join", "-", "--name", "b", "--listen", "127.0.0.1:0", "--mesh-listen", freeMeshPort(t)); err != nil {
		t.Fatal(err)
	}
	refused("1 operator has signed", "member", "demote", "b")
	a.must("member", "demote", "b", "--operator-key", second, "--operator-key", third)
	if out := a.must("member", "show", "b"); !strings.Contains(out, "may-vote") || strings.Contains(out, "may-vote  yes") {
		t.Errorf("it may vote still:\n%s", out)
	}
	a.kill(syscall.SIGTERM)
}

// submitsOnlyWhatIsSigned changes the call in a file that enough operators have
// signed: `operator submit` made a user with every right from such a one.
func submitsOnlyWhatIsSigned(t *testing.T, a *daemon, paper string) {
	t.Helper()
	text, err := os.ReadFile(paper)
	if err != nil {
		t.Fatal(err)
	}
	forged := filepath.Join(filepath.Dir(paper), "forged.json")
	for _, change := range []map[string]any{
		{"method": "POST", "path": "/access/users", "params": map[string][]string{"userid": {"evil@pbs"}}},
		{"method": "PUT", "path": "/access/acl", "params": map[string][]string{"path": {"/"}, "role": {"Admin"}, "auth-id": {"evil@pbs"}}},
		{"link": ""},
	} {
		var file map[string]any
		if err := json.Unmarshal(text, &file); err != nil {
			t.Fatal(err)
		}
		for name, value := range change {
			file[name] = value
		}
		b, err := json.Marshal(file)
		if err == nil {
			err = os.WriteFile(forged, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, verb := range [][]string{{"submit", forged}, {"sign", forged, "--operator-key", filepath.Join(a.dir, "operator.key")}} {
			if out, err := a.holdfastAll(append([]string{"operator"}, verb...)...); err == nil || !strings.Contains(out, "do not sign or submit this one") {
				t.Errorf("operator %s of %v: %v\n%s", verb[0], change, err, out)
			}
		}
	}
	if users := a.must("user", "list"); strings.Contains(users, "evil@pbs") {
		t.Errorf("there is a new user:\n%s", users)
	}
}
