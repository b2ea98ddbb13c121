package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A daemon is one node of a cluster of real processes on loopback.
type daemon struct {
	t    *testing.T
	name string
	dir  string
	env  []string // more of it for verbs
	cmd  *exec.Cmd
	done chan struct{}
}

func (d *daemon) holdfast(args ...string) (string, error) {
	return d.holdfastWith("", args...)
}

func (d *daemon) holdfastWith(stdin string, args ...string) (string, error) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(append(os.Environ(), asHoldfast+"=1", "HOLDFAST_DATA="+d.dir, "PBS_REPOSITORY="), d.env...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: holdfast %s: %w: %s", d.name, strings.Join(args, " "), err, errs.String())
	}
	return string(out), err
}

func (d *daemon) must(args ...string) string {
	d.t.Helper()
	out, err := d.holdfast(args...)
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}

func (d *daemon) start() {
	d.t.Helper()
	log, err := os.OpenFile(d.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer log.Close()
	d.cmd = exec.Command(os.Args[0], "node", "run")
	d.cmd.Env = append(os.Environ(), asHoldfast+"=1", "HOLDFAST_DATA="+d.dir, "PBS_REPOSITORY=")
	d.cmd.Stdout, d.cmd.Stderr = log, log
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.done = make(chan struct{})
	go func() { _ = d.cmd.Wait(); close(d.done) }()
	d.wait(20*time.Second, "it answers", func() bool {
		c, err := net.Dial("unix", filepath.Join(d.dir, "admin.sock"))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func (d *daemon) kill(s syscall.Signal) {
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Signal(s) // it may have ended
	<-d.done
	d.cmd = nil
}

func (d *daemon) wait(most time.Duration, what string, until func() bool) {
	d.t.Helper()
	for began := time.Now(); !until(); time.Sleep(100 * time.Millisecond) {
		if time.Since(began) > most {
			log, _ := os.ReadFile(d.dir + ".log")
			status, _ := d.holdfast("status")
			d.t.Fatalf("%s: not after %s: %s\n%s\nlog:\n%s", d.name, most, what, status, log)
		}
	}
}

type meshStatus struct {
	Quorum  bool
	Leader  string
	Voters  int
	Members []struct {
		Name, Path string
		Voter      bool
		Reachable  bool
	}
}

func (d *daemon) status() (s meshStatus) {
	out, err := d.holdfast("status", "--output-format", "json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	if err != nil {
		return meshStatus{}
	}
	return s
}

func (d *daemon) users() string {
	out, _ := d.holdfast("user", "list")
	return out
}

// newDaemons makes three nodes: the first founds a cluster, and the others join
// it by token. The text is the recovery key.
func newDaemons(t *testing.T) (all []*daemon, recovery string) {
	t.Helper()
	root, err := os.MkdirTemp("", "hf") // short: there are sockets in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	for _, name := range []string{"a", "b", "c"} {
		d := &daemon{t: t, name: name, dir: filepath.Join(root, name)}
		t.Cleanup(func() { d.kill(syscall.SIGKILL) })
		flags := []string{"--name", name, "--site", "site-" + name, "--listen", "127.0.0.1:0", "--mesh-listen", freeMeshPort(t)}
		if name == "a" {
			var made struct {
				Recovery string `json:"recovery-key"`
			}
			if err := json.Unmarshal([]byte(d.must(append([]string{"node", "init", "--output-format", "json"}, flags...)...)), &made); err != nil {
				t.Fatal(err)
			}
			recovery = made.Recovery
		} else {
			token := all[0].must("invite", "create", "-q")
			began := time.Now()
			if _, err := d.holdfastWith(token, append([]string{"node", "join", "-"}, flags...)...); err != nil {
				t.Fatal(err)
			}
			t.Logf("%s joined in %s", name, time.Since(began).Round(time.Millisecond))
		}
		d.start()
		all = append(all, d)
		if name == "a" {
			d.wait(10*time.Second, "its mesh port is open", func() bool {
				_, err := d.holdfast("invite", "create", "-q", "--role", "replica")
				return err == nil
			})
		}
	}
	return all, recovery
}

// freeMeshPort returns an address whose port is free for TCP and UDP just now.
func freeMeshPort(t *testing.T) string {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		at := l.Addr().String()
		u, err := net.ListenPacket("udp", at)
		l.Close()
		if err == nil {
			u.Close()
			return at
		}
	}
	t.Fatal("no port is free")
	return ""
}

// Three daemons become one cluster, survive the loss of any one, and the loss
// of two with the key on paper. A node that was killed and is alone still knows
// everything.
func TestClusterOfProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("takes two minutes")
	}
	t.Parallel()
	all, recovery := newDaemons(t)
	a, b, c := all[0], all[1], all[2]
	for _, d := range all {
		d.wait(90*time.Second, "three vote, and all reach each other", func() bool {
			s := d.status()
			for _, m := range s.Members {
				if !m.Reachable || !m.Voter {
					return false
				}
			}
			return s.Quorum && s.Voters == 3 && len(s.Members) == 3
		})
	}
	b.must("user", "create", "one@pbs")
	for _, d := range all {
		d.wait(10*time.Second, "it knows what was changed elsewhere", func() bool { return strings.Contains(d.users(), "one@pbs") })
	}

	// The leader dies without a word. What it knew is known, and more can be
	// changed; when it comes back, it learns that.
	leader := all[strings.Index("abc", a.status().Leader)]
	others := append([]*daemon{}, all...)
	others = append(others[:strings.Index("abc", leader.name)], others[strings.Index("abc", leader.name)+1:]...)
	leader.kill(syscall.SIGKILL)
	began := time.Now()
	others[0].wait(60*time.Second, "a change without the one that led", func() bool {
		_, err := others[0].holdfast("user", "create", "two@pbs")
		return err == nil || strings.Contains(err.Error(), "already exists")
	})
	t.Logf("a change after the loss of the leader took %s", time.Since(began).Round(time.Millisecond))
	leader.start()
	leader.wait(60*time.Second, "it learns what it missed", func() bool { return strings.Contains(leader.users(), "two@pbs") })

	// Two are lost. The third knows all, and says that it can change nothing.
	b.kill(syscall.SIGKILL)
	c.kill(syscall.SIGKILL)
	a.kill(syscall.SIGKILL) // and again, alone
	a.start()
	if users := a.users(); !strings.Contains(users, "one@pbs") || !strings.Contains(users, "two@pbs") {
		t.Fatalf("alone after a reboot it knows only:\n%s", users)
	}
	a.wait(30*time.Second, "it says that there is no quorum", func() bool { return !a.status().Quorum })
	if out, _ := a.holdfast("status"); !strings.HasPrefix(out, "quorum: NO") {
		t.Errorf("status begins with %.80q", out)
	}
	if _, err := a.holdfast("user", "create", "three@pbs"); err == nil || !strings.Contains(err.Error(), "recover-quorum") {
		t.Errorf("a change without a quorum: %v", err)
	}
	if out := a.must("draft", "list"); !strings.Contains(out, "users/three@pbs") || strings.Contains(a.users(), "three@pbs") {
		t.Errorf("it is no draft:\n%s", out)
	}
	if out := a.must("member", "recover-quorum", "--plan"); strings.Count(out, "is not reached: ") != 2 || strings.Contains(out, "12D3Koo") {
		t.Errorf("the plan is:\n%s", out) // it once named nodes by their IDs
	}
	if _, err := a.holdfastWith(strings.Repeat("AAAA-", 14)+"AA\n", "member", "recover-quorum", "--recovery-key"); err == nil {
		t.Error("it was recovered with a wrong key")
	}
	if _, err := a.holdfastWith(recovery+"\n", "member", "recover-quorum", "--recovery-key"); err != nil {
		t.Fatal(err)
	}
	a.wait(20*time.Second, "it goes on alone, with what was a draft", func() bool { return strings.Contains(a.users(), "three@pbs") })

	// The others come back, and are standbys of the new incarnation.
	b.start()
	c.start()
	for _, d := range []*daemon{b, c} {
		d.wait(60*time.Second, "it follows the recovered cluster", func() bool { return strings.Contains(d.users(), "three@pbs") })
	}
	for _, d := range all {
		d.kill(syscall.SIGTERM)
	}
}
