package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
)

// A site that is cut off: b, whose ledger's only voter a is gone, and c, which it
// reaches. Both were rebooted since.
type cutOff struct {
	t       *testing.T
	root    string
	a, b, c *daemon
	address string // of b, for clients
	print   string // of its certificate
	secret  string // of the token op@pbs!pve
	tree    string // what is backed up
}

func newCutOff(t *testing.T) *cutOff {
	t.Helper()
	root, err := os.MkdirTemp("", "hf") // short: there are sockets in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	s := &cutOff{t: t, root: root, address: freeMeshPort(t), tree: randomTree(t, 4, 100_000)}
	node := func(name string) *daemon {
		d := &daemon{t: t, name: name, dir: filepath.Join(root, name)}
		t.Cleanup(func() { d.kill(syscall.SIGKILL) })
		return d
	}
	s.a, s.b, s.c = node("a"), node("b"), node("c")
	s.a.must("node", "init", "--name", "a", "--listen", "127.0.0.1:0", "--mesh-listen", freeMeshPort(t))
	s.a.start()
	for d, where := range map[*daemon][2]string{s.b: {"full", s.address}, s.c: {"replica", "127.0.0.1:0"}} {
		var token string
		s.a.wait(patience, "its mesh port is open", func() bool {
			token, err = s.a.holdfast("invite", "create", "-q", "--role", where[0])
			return err == nil
		})
		if _, err := d.holdfastWith(token, "node", "join", "-", "--name", d.name, "--listen", where[1], "--mesh-listen", freeMeshPort(t)); err != nil {
			t.Fatal(err)
		}
		d.start()
		d.wait(patience, "it takes part", func() bool { return d.status().Quorum })
		d.must("datastore", "create", "main", "--path", d.dir+"-store")
		d.must("backup", "tree.pxar:"+s.tree, "--backup-id", "of-"+d.name, "-q")
	}
	s.b.must("user", "create", "op@pbs")
	var made struct{ Value string }
	if err := json.Unmarshal([]byte(s.b.must("user", "generate-token", "op@pbs", "pve", "--output-format", "json")), &made); err != nil {
		t.Fatal(err)
	}
	s.secret, s.print = made.Value, fingerprintOf(s.b.must("cert", "info"))
	for _, who := range []string{"op@pbs", "op@pbs!pve"} {
		s.b.must("acl", "update", "/datastore/main", "DatastorePowerUser", "--auth-id", who)
	}
	for _, d := range []*daemon{s.b, s.c} {
		from := map[*daemon]string{s.b: "c", s.c: "b"}[d]
		d.wait(patience, "it can make a job", func() bool {
			_, err := d.holdfast("job", "create", "pull", "copies", "--remote", from, "--remote-store", "main", "--store", "main", "--ns", from)
			return err == nil
		})
	}
	s.bucket()
	s.b.wait(patience, "all reach each other", func() bool {
		reached := 0
		for _, m := range s.b.status().Members {
			if m.Reachable {
				reached++
			}
		}
		return reached == 3
	})
	// The voter is lost, and power fails at both other sites.
	for _, d := range []*daemon{s.a, s.b, s.c} {
		d.kill(syscall.SIGKILL)
	}
	s.c.start()
	s.b.start()
	s.b.wait(patience, "it reaches c, and has no quorum", func() bool {
		is := s.b.status()
		for _, m := range is.Members {
			if m.Name == "c" && m.Reachable {
				return !is.Quorum
			}
		}
		return false
	})
	return s
}

// bucket gives b a datastore whose home is a bucket.
func (s *cutOff) bucket() {
	s.t.Helper()
	server := cloudtest.Start(s.t)
	s.b.env = []string{"HOLDFAST_S3_SECRET=" + cloudtest.Secret}
	s.b.must("s3", "endpoint", "create", "near", "--endpoint", server.URL, "--access-key", cloudtest.Key, "--path-style")
	s.b.must("datastore", "create", "cloud", "--s3", "near", "--bucket", "backups", "--cache-dir", s.b.dir+"-cache", "--cache-size", "64MiB",
		"--offload-after", "0", "--encrypt", "--recovery-key", filepath.Join(s.root, "key"))
}

// client runs a verb as somebody on another machine does, with the token.
func (s *cutOff) client(args ...string) error {
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), asHoldfast+"=1", "HOLDFAST_DATA="+filepath.Join(s.root, "nowhere"),
		"PBS_REPOSITORY=op@pbs!pve@"+s.address+":main", "PBS_PASSWORD="+s.secret, "PBS_FINGERPRINT="+s.print)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("holdfast %s: %w: %s", strings.Join(args, " "), err, out.String())
	}
	return nil
}

// does runs a verb at b.
func (s *cutOff) does(args ...string) error {
	_, err := s.b.holdfast(args...)
	return err
}

// shows fails unless what a verb at b prints has a text in it.
func (s *cutOff) shows(text string, args ...string) error {
	out, err := s.b.holdfast(args...)
	if err == nil && !strings.Contains(out, text) {
		err = fmt.Errorf("holdfast %s shows no %q: %s", strings.Join(args, " "), text, out)
	}
	return err
}

// isDraft fails unless a verb at b makes a draft.
func (s *cutOff) isDraft(args ...string) error {
	if out, err := s.b.holdfastAll(args...); !strings.Contains(out, "is kept as draft") {
		return fmt.Errorf("holdfast %s is no draft: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// isRefused fails unless a verb at b fails, and says a text.
func (s *cutOff) isRefused(text string, args ...string) error {
	if out, err := s.b.holdfastAll(args...); err == nil || !strings.Contains(out, text) {
		return fmt.Errorf("holdfast %s: %w, want %q: %s", strings.Join(args, " "), err, text, out)
	}
	return nil
}

// snapshot is the name of the snapshot of a group in the datastore main of b.
func (s *cutOff) snapshot(id string) string {
	var all []struct {
		ID   string `json:"backup-id"`
		Time int64  `json:"backup-time"`
	}
	if err := json.Unmarshal([]byte(s.b.must("snapshot", "list", "--store", "main", "--output-format", "json")), &all); err != nil {
		s.t.Fatal(err)
	}
	for _, a := range all {
		if a.ID == id {
			return fmt.Sprintf("host/%s/%s", id, time.Unix(a.Time, 0).UTC().Format(time.RFC3339))
		}
	}
	s.t.Fatalf("there is no snapshot of %s", id)
	return ""
}

// inTurn returns the first error.
func inTurn(all ...func() error) error {
	for _, f := range all {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// operator are the flags with the operator's key.
func (s *cutOff) operator() []string {
	return []string{"--operator-key", filepath.Join(s.a.dir, "operator.key")}
}

// withoutQuorum is the table of consensus.md §1.8, a case for each row. Where
// the row needs what no daemon on one machine has, see names the test of it.
var withoutQuorum = []struct {
	row   string
	see   string // FILE TestNAME, below the root of the repository
	check func(*cutOff) error
}{
	{row: "backup by existing user/token", check: func(s *cutOff) error {
		return s.client("backup", "tree.pxar:"+s.tree, "--backup-id", "alone", "-q")
	}},
	{row: "create group / namespace in own datastore", check: func(s *cutOff) error {
		return inTurn(
			func() error { return s.does("namespace", "create", "main:alone") },
			func() error { return s.client("backup", "tree.pxar:"+s.tree, "--ns", "alone", "-q") })
	}},
	{row: "mount", see: "catalog/mount/mount_test.go TestATreeLooksAsItWasBackedUp"},
	{row: "keys that are wrapped to this node", see: "node/keyring/keyring_test.go TestSeal"},
	{row: "restore, browse, download", check: func(s *cutOff) error {
		to := filepath.Join(s.root, "back")
		err := inTurn(
			func() error { return s.client("snapshot", "files", "host/alone") },
			func() error { return s.client("restore", "host/alone", "tree.pxar", to, "-q") })
		if err == nil {
			sameTrees(s.t, s.tree, to)
		}
		return err
	}},
	{row: "verify, scrub, quarantine, heal from reachable peers", see: "cmd/holdfast/heal_test.go TestHealBetweenProcesses", check: func(s *cutOff) error {
		return s.does("datastore", "verify", "main")
	}},
	{row: "pull from peers that are reachable and known", check: func(s *cutOff) error {
		return inTurn(
			func() error { return s.does("job", "run", "copies") },
			func() error { return s.shows("of-c", "snapshot", "list", "--store", "main", "--ns", "c") })
	}},
	{row: "serve chunks to peers", check: func(s *cutOff) error {
		_, err := s.c.holdfast("job", "run", "copies")
		return err
	}},
	{row: "prune: mark snapshots as deletable", check: func(s *cutOff) error {
		return inTurn(
			func() error {
				time.Sleep(time.Second) // a group has one backup in a second
				return s.client("backup", "tree.pxar:"+s.tree, "--backup-id", "alone", "-q")
			},
			func() error { return s.client("prune", "host/alone", "--keep-last", "1") },
			func() error { return s.shows("host/alone", "snapshot", "list", "--store", "main", "--trash") })
	}},
	{row: "GC sweep: only while the ledger is at most 24 h old", see: "node/warden/warden_test.go TestTrashWaitsForTheLedger", check: func(s *cutOff) error {
		return s.does("datastore", "gc", "main")
	}},
	{row: "cloud upload and root, while the bucket's epoch is held; a stale one fails", see: "chunks/cloud/owner_test.go TestOneOwner", check: func(s *cutOff) error {
		return inTurn(
			func() error { return s.does("backup", "tree.pxar:"+s.tree, "--store", "cloud", "-q") },
			func() error { return s.does("datastore", "offload", "cloud") })
	}},
	{row: "no cloud delete, nor repack", check: func(s *cutOff) error {
		return s.isRefused("no quorum", "datastore", "gc", "cloud")
	}},
	{row: "no takeover of a floating job", see: "consensus/claims/turn_test.go TestTurnWithoutQuorum"},
	{row: "block a peer here", check: func(s *cutOff) error {
		return inTurn(
			func() error { return s.does("node", "block", "a", "--local", "--reason", "it is strange") },
			func() error { return s.shows("it is strange", "guard", "show") })
	}},
	{row: "lengthen retention here", check: func(s *cutOff) error {
		return inTurn(
			func() error { return s.does("guard", "raise", "main", "--min-age", "720h") },
			func() error { return s.isRefused("720h", "snapshot", "forget", s.snapshot("of-b"), "--store", "main") })
	}},
	{row: "no shortening of retention but after its delay", check: func(s *cutOff) error {
		return inTurn(
			func() error {
				return s.does(append([]string{"guard", "release", "main", "--reason", "too long"}, s.operator()...)...)
			},
			func() error { return s.shows("waits", "guard", "show") },
			func() error { return s.isRefused("720h", "snapshot", "forget", s.snapshot("of-b"), "--store", "main") })
	}},
	{row: "new user, token, ACL, datastore, job, subscription: drafts", check: func(s *cutOff) error {
		return inTurn(
			func() error { return s.isDraft("user", "create", "new@pbs") },
			func() error {
				return s.isDraft("acl", "update", "/datastore/main", "DatastoreReader", "--auth-id", "new@pbs")
			},
			func() error { return s.isDraft("user", "generate-token", "new@pbs", "pve") },
			func() error { return s.isDraft("datastore", "create", "second", "--path", s.b.dir+"-second") },
			func() error {
				return s.isDraft("job", "create", "prune", "weekly", "--store", "main", "--schedule", "daily", "--keep-last", "9")
			},
			func() error {
				return s.isDraft("job", "create", "pull", "more", "--remote", "c", "--remote-store", "main", "--store", "main", "--ns", "more")
			},
			func() error { return s.isDraft("user", "create", "both@pbs", "--comment", "of b") },
			func() error { return s.isRefused("already exists", "user", "create", "new@pbs") },
			func() error { return s.shows("users/new@pbs", "draft", "list") },
			func() error {
				if strings.Contains(s.b.users(), "new@pbs") {
					return fmt.Errorf("a draft is in force")
				}
				return nil
			})
	}},
	{row: "no join, no invite, no change of roles", check: func(s *cutOff) error {
		return inTurn(
			func() error { return s.isRefused("no leader", "invite", "create", "--role", "replica") },
			func() error {
				return s.isRefused("no leader", append([]string{"member", "demote", "c"}, s.operator()...)...)
			})
	}},
	{row: "break-glass administration over the local socket", check: func(s *cutOff) error {
		return inTurn(
			func() error {
				return s.does("backup", "tree.pxar:"+s.tree, "--store", "main", "--backup-id", "glass", "-q")
			},
			func() error {
				return s.does("restore", "host/glass", "tree.pxar", filepath.Join(s.root, "glass"), "--store", "main", "-q")
			})
	}},
	{row: "status of the whole mesh, aged", check: func(s *cutOff) error {
		out, err := s.b.holdfast("status")
		for _, want := range []string{"quorum: NO", "a ", "b ", "c ", "holdfast draft list"} {
			if err == nil && !strings.Contains(out, want) {
				err = fmt.Errorf("no %q in the status: %s", want, out)
			}
		}
		return err
	}},
}

// A site without a quorum, rebooted alone, does all that it promises, and no more;
// what was decided there is applied when the quorum is back, and told if it cannot be.
func TestWithoutQuorum(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	t.Parallel()
	s := newCutOff(t)
	for _, tt := range withoutQuorum {
		t.Run(tt.row, func(t *testing.T) {
			if tt.see != "" {
				file, name, _ := strings.Cut(tt.see, " ")
				text, err := os.ReadFile(filepath.Join("..", "..", file))
				if err != nil || !bytes.Contains(text, []byte("func "+name+"(")) {
					t.Errorf("%s is tested nowhere: %v", tt.see, err)
				}
			}
			if tt.check != nil {
				if err := tt.check(s); err != nil {
					t.Error(err)
				}
			}
		})
	}
	s.heal()
}

// heal brings the quorum back, with a user that b has made, too.
func (s *cutOff) heal() {
	s.b.kill(syscall.SIGKILL)
	s.a.start()
	s.a.wait(patience, "it leads", func() bool { return s.a.status().Quorum })
	s.a.must("user", "create", "both@pbs", "--comment", "of a")
	s.t.Log(s.a.must("draft", "list"))
	s.b.start()
	if out := s.b.must("draft", "list"); !strings.Contains(out, "users/new@pbs") {
		s.t.Errorf("a reboot loses drafts:\n%s", out)
	}
	// It has blocked a, which only operators lift.
	var a struct{ ID string }
	if err := json.Unmarshal([]byte(s.b.must("member", "show", "a", "--output-format", "json")), &a); err != nil {
		s.t.Fatal(err)
	}
	s.b.must(append([]string{"guard", "release", "--member", a.ID, "--reason", "it is not strange"}, s.operator()...)...)
	s.b.wait(patience, "drafts are applied, but one", func() bool {
		out := s.b.must("draft", "list")
		return strings.Count(out, "\n") == 2 && strings.Contains(out, "not applied")
	})
	if out := s.b.must("draft", "list"); !strings.Contains(out, "both@pbs") || !strings.Contains(out, "there already") {
		s.t.Errorf("what is in the way is not told:\n%s", out)
	}
	s.a.wait(patience, "a knows what was decided at b", func() bool { return strings.Contains(s.a.users(), "new@pbs") })
	for _, verb := range [][]string{{"snapshot", "list", "--store", "second"}, {"job", "show", "more"}, {"job", "show", "weekly"}, {"draft", "discard", "7"}} {
		if err := s.does(verb...); err != nil {
			s.t.Error(err)
		}
	}
	if out := s.a.must("acl", "list"); !strings.Contains(out, "new@pbs") {
		s.t.Errorf("the permission of the draft is not there:\n%s", out)
	}
	if out := s.b.must("status"); strings.Contains(out, "holdfast draft list") {
		s.t.Errorf("the status warns still:\n%s", out)
	}
	for _, d := range []*daemon{s.a, s.b, s.c} {
		d.kill(syscall.SIGTERM)
	}
}
