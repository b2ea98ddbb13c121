package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A site is a node that has joined.
type site struct {
	name    string
	dir     string // of its data, below that of the demo
	address string // HOST:PORT
	node    *exec.Cmd
	log     string
	client  []string // the environment of who backs up there
}

// at is the binary as the operator of a site calls it.
func (d *demo) at(ctx context.Context, s *site, args ...string) *exec.Cmd {
	cmd := d.command(ctx, args, "PBS_REPOSITORY=")
	cmd.Env = append(cmd.Env, "HOLDFAST_DATA="+filepath.Join(d.dir, s.dir))
	return cmd
}

// join makes two more nodes, which join the first with a token each and are
// linked to it by a tunnel of their own.
func (d *demo) join(ctx context.Context) error {
	key, err := os.ReadFile(filepath.Join(d.dir, "node", "operator.key"))
	if err == nil {
		err = os.WriteFile(d.operatorKey(), key, 0o600) // off the machine, as the node has advised
	}
	if err != nil {
		return err
	}
	for _, name := range []string{"dc", "vps"} {
		s, err := d.joinAs(ctx, name)
		if err != nil {
			return err
		}
		if err := d.equip(ctx, s); err != nil {
			return err
		}
	}
	d.say("two more sites joined with one command each; users, tokens and rights of the first are known there")
	return nil
}

// newSite is a site that is not there yet.
func (d *demo) newSite(name string) (*site, error) {
	port, err := freePort()
	return &site{name: name, dir: name, address: fmt.Sprintf("127.0.0.1:%d", port), log: filepath.Join(d.dir, name+".log")}, err
}

// joinAs makes a node that joins with a token, of a role if one is named.
func (d *demo) joinAs(ctx context.Context, name string, role ...string) (*site, error) {
	s, err := d.newSite(name)
	if err != nil {
		return nil, err
	}
	mesh, err := freePort()
	if err != nil {
		return nil, err
	}
	token, err := d.must(d.at(ctx, d.alive(), append([]string{"invite", "create", "-q", "--operator-key", d.operatorKey()}, role...)...))
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if _, err := d.must(d.at(ctx, s, "node", "join", firstLine(token), "--name", name, "--site", name,
		"--listen", s.address, "--mesh-listen", fmt.Sprintf("127.0.0.1:%d", mesh))); err != nil {
		return nil, err
	}
	fmt.Printf("  joined after %v\n", time.Since(began).Round(10*time.Millisecond))
	d.sites = append(d.sites, s)
	return s, d.run(ctx, s)
}

func (d *demo) operatorKey() string { return filepath.Join(d.dir, "operator.key") }

// all are the sites whose machines are there, home first.
func (d *demo) all() []*site {
	if d.node == nil {
		return d.sites
	}
	return append([]*site{{name: "home", dir: "node", node: d.node}}, d.sites...)
}

// alive is the first site whose node runs.
func (d *demo) alive() *site {
	all := d.all()
	return all[slices.IndexFunc(all, func(s *site) bool { return s.node.ProcessState == nil })]
}

// firstLine is the token, which is the only line of standard output; what is
// printed beside it goes to the standard error, and both are shown.
func firstLine(out string) string {
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "hf1.") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// run starts the daemon of a site.
func (d *demo) run(ctx context.Context, s *site) error {
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	s.node = d.at(ctx, s, "node", "run")
	s.node.Stdout, s.node.Stderr = log, log
	s.node.Cancel = func() error { return s.node.Process.Signal(syscall.SIGTERM) }
	if err := s.node.Start(); err != nil {
		return err
	}
	return d.wait(ctx, startTime, s.name+" answers", func() bool {
		conn, err := net.Dial("tcp", s.address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// equip gives a site a datastore. The token of the first is good there, too.
func (d *demo) equip(ctx context.Context, s *site) error {
	if err := d.knows(ctx, s); err != nil {
		return err
	}
	_, err := d.must(d.at(ctx, s, "datastore", "create", storeName, "--path", filepath.Join(d.dir, s.name+"-store")))
	if err != nil {
		return err
	}
	s.client, err = d.mayBackUp(ctx, s, storeName)
	return err
}

// knows waits until a site that has joined has heard what there is.
func (d *demo) knows(ctx context.Context, s *site) error {
	return d.wait(ctx, time.Minute, s.name+" knows the accounts", func() bool {
		out, err := d.at(ctx, s, "user", "list").Output()
		return err == nil && strings.Contains(string(out), user)
	})
}

// mayBackUp is the environment of who backs up to a datastore of a site.
func (d *demo) mayBackUp(ctx context.Context, s *site, store string) ([]string, error) {
	var cert struct{ Fingerprint string }
	err := d.ask(d.at(ctx, s, "cert", "info", "--output-format", "json"), &cert)
	return []string{"PBS_REPOSITORY=" + tokenID + "@" + s.address + ":" + store, d.token[1], "PBS_FINGERPRINT=" + cert.Fingerprint}, err
}

// wait asks again and again until something is so.
func (d *demo) wait(ctx context.Context, most time.Duration, what string, so func() bool) error {
	for began := time.Now(); !so(); time.Sleep(100 * time.Millisecond) {
		if time.Since(began) > most || ctx.Err() != nil {
			return fmt.Errorf("not after %s: %s", most, what)
		}
	}
	return nil
}

// quorum is what of the status matters here.
type quorum struct {
	Quorum bool
	Leader string
	Voters int
}

func status(cmd *exec.Cmd) (q quorum) {
	out, err := cmd.Output()
	if err != nil || json.Unmarshal(out, &q) != nil {
		return quorum{}
	}
	return q
}

// withoutLeader kills the node that leads, and backs up at each site that is
// left.
func (d *demo) withoutLeader(ctx context.Context) error {
	home := &site{name: "home", dir: "node", node: d.node, client: d.token}
	all := append([]*site{home}, d.sites...)
	asJSON := []string{"status", "--output-format", "json"}
	if err := d.wait(ctx, 2*time.Minute, "three sites vote", func() bool {
		q := status(d.at(ctx, all[0], asJSON...))
		return q.Quorum && q.Voters == 3
	}); err != nil {
		return err
	}
	for _, s := range all {
		if _, err := d.must(d.at(ctx, s, "status")); err != nil {
			return err
		}
	}
	leader := status(d.at(ctx, all[0], asJSON...)).Leader
	i := slices.IndexFunc(all, func(s *site) bool { return s.name == leader })
	if i < 0 {
		return fmt.Errorf("%q leads, which is none of the three", leader)
	}
	if err := all[i].node.Process.Kill(); err != nil {
		return err
	}
	_ = all[i].node.Wait() // it was killed, and says so
	fmt.Printf("  killed %s, which led\n", leader)
	left := slices.Delete(slices.Clone(all), i, i+1)
	for _, s := range left {
		time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) // snapshots have whole seconds
		if _, err := d.must(d.command(ctx, []string{"backup", "guest.conf:" + d.conf(), "--backup-id", "alone"}, s.client...)); err != nil {
			return err
		}
	}
	began := time.Now()
	if err := d.wait(ctx, time.Minute, "the others have a leader", func() bool {
		q := status(d.at(ctx, left[0], asJSON...))
		return q.Quorum && q.Leader != leader
	}); err != nil {
		return err
	}
	fmt.Printf("  another one leads after %v\n", time.Since(began).Round(100*time.Millisecond))
	if _, err := d.must(d.at(ctx, left[1], "status")); err != nil {
		return err
	}
	d.say("the node that led was killed: backups at the other sites went on at once, and another one leads")
	return nil
}

// stopSites ends the daemons of the sites that have joined.
func (d *demo) stopSites() {
	for _, s := range d.sites {
		if s.node == nil || s.node.Process == nil {
			continue
		}
		if err := s.node.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			fmt.Fprintln(os.Stderr, "demo: stop "+s.name+":", err)
		}
		_ = s.node.Wait() // it is not asked how it went
	}
}
