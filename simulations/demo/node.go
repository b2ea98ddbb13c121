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
	"syscall"
	"time"
)

const (
	storeName = "main"
	user      = "backup@pbs"
	tokenID   = user + "!demo"
)

func (d *demo) store() string { return filepath.Join(d.dir, storeName) }

// setUp makes a node, as an operator would, and a token for the machine that is
// to be backed up.
func (d *demo) setUp(ctx context.Context) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	mesh, err := freePort()
	if err != nil {
		return err
	}
	d.address = fmt.Sprintf("127.0.0.1:%d", port)
	if _, err := d.must(d.operator(ctx, "node", "init", "--name", "home", "--site", "home", "--listen", d.address, "--mesh-listen", fmt.Sprintf("127.0.0.1:%d", mesh))); err != nil {
		return err
	}
	if err := d.start(ctx); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"datastore", "create", storeName, "--path", d.store()},
		// What is forgotten would wait for a day otherwise.
		{"datastore", "update", storeName, "--trash-delay", "0s"},
		{"user", "create", user},
	} {
		if _, err := d.must(d.operator(ctx, args...)); err != nil {
			return err
		}
	}
	var token struct{ Value string }
	if err := d.ask(d.operator(ctx, "user", "generate-token", user, "demo", "--output-format", "json"), &token); err != nil {
		return err
	}
	for _, who := range []string{user, tokenID} {
		if _, err := d.must(d.operator(ctx, "acl", "update", "/datastore/"+storeName, "DatastoreBackup", "--auth-id", who)); err != nil {
			return err
		}
	}
	var cert struct{ Fingerprint string }
	if err := d.ask(d.operator(ctx, "cert", "info", "--output-format", "json"), &cert); err != nil {
		return err
	}
	d.token = []string{
		"PBS_REPOSITORY=" + tokenID + "@" + d.address + ":" + storeName,
		"PBS_PASSWORD=" + token.Value,
		"PBS_FINGERPRINT=" + cert.Fingerprint,
	}
	fmt.Printf("\n  On a Proxmox VE host, this would add the node as a place for backups:\n\n"+
		"    pvesm add pbs holdfast --server 127.0.0.1 --port %d --datastore %s \\\n      --username '%s' --password '%s' \\\n      --fingerprint %s\n\n",
		port, storeName, tokenID, token.Value, cert.Fingerprint)
	d.say("a node was set up with six commands; its token may back up, and nothing else")
	return nil
}

// ask runs the binary and reads the JSON that it prints.
func (d *demo) ask(cmd *exec.Cmd, v any) error {
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, v)
	}
	if err != nil {
		return fmt.Errorf("holdfast %v: %w: %s", cmd.Args[1:], err, out)
	}
	return nil
}

// freePort returns a port that nobody listens on just now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// startTime is how long the node may take until it answers.
const startTime = 10 * time.Second

// start starts the daemon and waits until it answers.
func (d *demo) start(ctx context.Context) error {
	fmt.Println("$ holdfast node run &")
	log, err := os.OpenFile(filepath.Join(d.dir, "node.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	d.node = d.operator(ctx, "node", "run")
	d.node.Stdout, d.node.Stderr = log, log
	d.node.Cancel = func() error { return d.node.Process.Signal(syscall.SIGTERM) }
	if err := d.node.Start(); err != nil {
		return err
	}
	began := time.Now()
	for {
		conn, err := net.Dial("tcp", d.address)
		if err == nil {
			fmt.Printf("  it answers at %s after %v\n", d.address, time.Since(began).Round(10*time.Millisecond))
			return conn.Close()
		}
		if time.Since(began) > startTime || ctx.Err() != nil {
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("the node does not answer: %w; its log:\n%s", err, text)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// stop ends the daemon.
func (d *demo) stop() {
	if d.node == nil || d.node.Process == nil {
		return
	}
	if err := d.node.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		fmt.Fprintln(os.Stderr, "demo: stop the node:", err)
	}
	_ = d.node.Wait() // it is not asked how it went
}
