package labs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/simulations/netns"
	"github.com/holdfast-mesh/holdfast/simulations/wan"
)

const (
	nobody   = 65534           // who the daemons run as: nothing here needs root but the lab
	patience = 4 * time.Minute // for what takes seconds on an idle machine
)

// A mesh is some daemons, each on a host of its own site.
type mesh struct {
	t     *testing.T
	lab   *netns.Lab
	bin   string
	dir   string
	nodes []*daemon
}

// A daemon is one node.
type daemon struct {
	m    *mesh
	name string
	host *netns.Host
	data string
	p    *netns.Process // nil: it does not run
}

// newMesh builds the program and a lab without sites.
func newMesh(t *testing.T, path wan.Link) *mesh {
	t.Helper()
	lab := netns.New(t, netns.Config{Seed: 1, Path: path})
	dir, err := os.MkdirTemp("", "hf") // short: there are sockets in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &mesh{t: t, lab: lab, bin: filepath.Join(dir, "holdfast"), dir: dir}
	build := exec.Command("go", "build", "-o", m.bin, "github.com/holdfast-mesh/holdfast/cmd/holdfast")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build holdfast: %v: %s", err, out)
	}
	if err := errors.Join(os.Chmod(dir, 0o777), os.Chmod(m.bin, 0o755)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.logs)
	return m
}

// logs shows what the daemons had to say, if the test has failed.
func (m *mesh) logs() {
	if !m.t.Failed() {
		return
	}
	for _, d := range m.nodes {
		b, _ := os.ReadFile(d.data + ".log")
		m.t.Logf("%s said:\n%s", d.name, b[max(0, len(b)-4000):])
	}
}

// add makes a node on a host of a new site and runs it: the first founds the
// cluster, and the others join it with a token of the first.
func (m *mesh) add(name string, nat netns.NAT) *daemon {
	m.t.Helper()
	d := &daemon{m: m, name: name, host: m.lab.Site(name, nat).Host(name), data: filepath.Join(m.dir, name)}
	m.nodes = append(m.nodes, d)
	if err := errors.Join(os.Mkdir(d.data, 0o700), os.Chown(d.data, nobody, nobody)); err != nil {
		m.t.Fatal(err)
	}
	flags := []string{"--name", name, "--site", name}
	if len(m.nodes) == 1 {
		d.must(append([]string{"node", "init"}, flags...)...)
	} else {
		token := m.nodes[0].must("invite", "create", "-q")
		token = token[strings.Index(token, "hf1."):]
		token, _, _ = strings.Cut(token, "\n")
		began := time.Now()
		d.must(append([]string{"node", "join", token}, flags...)...)
		m.t.Logf("%s joined from behind %s in %v", name, nat, time.Since(began).Round(10*time.Millisecond))
	}
	d.run()
	return d
}

// run starts the daemon, without privileges.
func (d *daemon) run() {
	d.m.t.Helper()
	log, err := os.OpenFile(d.data+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.m.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(d.m.bin, "--data", d.data, "node", "run")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	d.p = d.host.Start(cmd)
}

// kill ends the daemon as a power cut would.
func (d *daemon) kill() {
	d.p.Kill()
	d.p = nil
}

// do runs the program on the host, for this node.
func (d *daemon) do(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(d.m.t.Context(), patience)
	defer cancel()
	return d.host.Run(ctx, d.m.bin, append([]string{"--data", d.data}, args...)...)
}

// must runs it until it succeeds: a node that has just started, or an election,
// needs a moment.
func (d *daemon) must(args ...string) (out string) {
	d.m.t.Helper()
	var err error
	d.m.until(fmt.Sprintf("%s: holdfast %s", d.name, strings.Join(args[:2], " ")), func() bool {
		out, err = d.do(args...)
		return err == nil
	}, func() any { return err })
	return out
}

// until waits for something.
func (m *mesh) until(what string, is func() bool, why func() any) {
	m.t.Helper()
	for began := time.Now(); !is(); time.Sleep(200 * time.Millisecond) {
		if time.Since(began) > patience {
			m.t.Fatalf("not after %v: %s: %v", patience, what, why())
		}
	}
}

// A status is as much of `holdfast status` as matters here.
type status struct {
	Quorum  bool
	Voters  int
	Members []struct {
		Name      string
		Reachable bool
		Path      string
	}
}

func (d *daemon) status() (s status) {
	out, err := d.do("status", "--output-format", "json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	if err != nil {
		return status{}
	}
	return s
}

// paths are how the node reaches the others, "" for who it does not.
func (d *daemon) paths() map[string]string {
	paths := map[string]string{}
	for _, m := range d.status().Members {
		if paths[m.Name] = ""; m.Reachable {
			paths[m.Name] = m.Path
		}
	}
	return paths
}

// sees waits until the node reaches exactly those others.
func (d *daemon) sees(others ...*daemon) {
	d.m.t.Helper()
	var paths map[string]string
	d.m.until(fmt.Sprintf("%s reaches %d others and no more", d.name, len(others)), func() bool {
		reached := 0
		paths = d.paths()
		for name, path := range paths {
			if name != d.name && path != "" {
				reached++
			}
		}
		for _, o := range others {
			if paths[o.name] == "" {
				return false
			}
		}
		return reached == len(others)
	}, func() any { return paths })
}

// without are the nodes but one.
func (m *mesh) without(gone ...*daemon) (others []*daemon) {
next:
	for _, d := range m.nodes {
		for _, g := range gone {
			if d == g {
				continue next
			}
		}
		others = append(others, d)
	}
	return others
}

// together waits until all nodes but those that are gone see each other only.
func (m *mesh) together(gone ...*daemon) {
	m.t.Helper()
	for _, d := range m.without(gone...) {
		d.sees(m.without(append(gone, d)...)...)
	}
}
