package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// A node is the built binary that serves, in a directory of its own.
type node struct {
	b     *bench
	addr  string
	cmd   *exec.Cmd
	login []string // environment of clients
}

const (
	user  = "bench@pbs"
	token = user + "!tok"
)

// startNode makes a node and starts it, as an operator would.
func (b *bench) startNode(ctx context.Context) (*node, error) {
	n := &node{b: b}
	ports := [2]string{}
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		ports[i] = l.Addr().String()
		l.Close()
	}
	n.addr = ports[0]
	if _, err := n.operator(ctx, "node", "init", "--name", "bench", "--site", "bench", "--listen", ports[0], "--mesh-listen", ports[1]); err != nil {
		return nil, err
	}
	log, err := os.Create(b.path("node.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	n.cmd = exec.Command(b.bin, "--data", b.path("node"), "node", "run")
	n.cmd.Stdout, n.cmd.Stderr = log, log
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	if err := errors.Join(n.await(ctx), n.admit(ctx)); err != nil {
		return nil, errors.Join(err, n.stop())
	}
	return n, nil
}

// await waits until the node answers.
func (n *node) await(ctx context.Context) error {
	for began := time.Now(); ; {
		conn, err := net.Dial("tcp", n.addr)
		if err == nil {
			return conn.Close()
		}
		if time.Since(began) > 10*time.Second || ctx.Err() != nil {
			text, _ := os.ReadFile(n.b.path("node.log"))
			return fmt.Errorf("%w; its log: %s", err, text)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// admit makes a token for clients.
func (n *node) admit(ctx context.Context) error {
	if _, err := n.operator(ctx, "user", "create", user); err != nil {
		return err
	}
	var secret struct{ Value string }
	var cert struct{ Fingerprint string }
	for _, ask := range []struct {
		into any
		args []string
	}{{&secret, []string{"user", "generate-token", user, "tok"}}, {&cert, []string{"cert", "info"}}} {
		out, err := n.operator(ctx, append(ask.args, "--output-format", "json")...)
		if err == nil {
			err = json.Unmarshal(out, ask.into)
		}
		if err != nil {
			return err
		}
	}
	for _, who := range []string{user, token} {
		if _, err := n.operator(ctx, "acl", "update", "/", "Admin", "--auth-id", who); err != nil {
			return err
		}
	}
	n.login = append(os.Environ(), "PBS_PASSWORD="+secret.Value, "PBS_FINGERPRINT="+cert.Fingerprint)
	return nil
}

// operator runs a command as the node's operator.
func (n *node) operator(ctx context.Context, args ...string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, n.b.bin, append([]string{"--data", n.b.path("node")}, args...)...).Output()
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		err = fmt.Errorf("holdfast %v: %w: %s", args, err, failed.Stderr)
	}
	return out, err
}

// create makes a datastore.
func (n *node) create(ctx context.Context, store string) error {
	_, err := n.operator(ctx, "datastore", "create", store, "--path", n.b.path(store))
	return err
}

// remove takes a datastore away with all that is in it.
func (n *node) remove(ctx context.Context, store string) error {
	_, err := n.operator(ctx, "datastore", "remove", store)
	return errors.Join(err, os.RemoveAll(n.b.path(store)))
}

// client is the command of a client of a datastore; at overrules the node's
// address.
func (n *node) client(ctx context.Context, at, store string, args ...string) *exec.Cmd {
	cmd := n.b.direct(ctx, fmt.Sprintf("%s@%s:%s", token, at, store), args...)
	cmd.Env = n.login
	return cmd
}

// direct is the command of a client of a store in a directory, or anywhere.
func (b *bench) direct(ctx context.Context, repository string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, b.bin, append([]string{"--quiet", "--repository", repository}, args...)...)
}

// stop ends the node.
func (n *node) stop() error {
	return errors.Join(n.cmd.Process.Signal(syscall.SIGTERM), n.cmd.Wait())
}
