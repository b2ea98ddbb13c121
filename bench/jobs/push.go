package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A node is a daemon of a cluster of its own.
type node struct {
	b      *bench
	name   string
	dir    string
	listen string
	cmd    *exec.Cmd
}

// start makes a node with the datastore main, and runs it.
func (b *bench) start(ctx context.Context, name string) (*node, error) {
	n := &node{b: b, name: name, dir: filepath.Join(b.dir, name)}
	var mesh string
	for _, to := range []*string{&n.listen, &mesh} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		*to = l.Addr().String()
		_ = l.Close() // it was only to find a port
	}
	if _, err := n.do(ctx, "node", "init", "--name", name, "--site", name, "--listen", n.listen, "--mesh-listen", mesh); err != nil {
		return nil, err
	}
	n.cmd = exec.CommandContext(ctx, b.bin, "node", "run", "--data", n.dir)
	n.cmd.Cancel = func() error { return n.cmd.Process.Signal(syscall.SIGTERM) }
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	for began := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		_, err := n.do(ctx, "datastore", "create", "main", "--path", n.dir+"-store")
		if err == nil {
			return n, nil
		}
		if time.Since(began) > 2*time.Minute {
			return n, err
		}
	}
}

func (n *node) stop() {
	if n != nil && n.cmd != nil && n.cmd.Process != nil {
		_ = n.cmd.Process.Signal(syscall.SIGTERM) // if it has not ended already
		_ = n.cmd.Wait()                          // likewise
	}
}

func (n *node) do(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, n.b.bin, args...)
	cmd.Env = append(os.Environ(), "HOLDFAST_DATA="+n.dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("holdfast %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// remote names another node here, as a user that may do all.
func (n *node) remote(ctx context.Context, other *node) error {
	print := ""
	out, err := other.do(ctx, "cert", "info")
	for word := range strings.FieldsSeq(out) {
		if strings.Count(word, ":") == 31 {
			print = word
		}
	}
	_, err2 := other.do(ctx, "user", "create", "bench@pbs", "--password", "only-for-a-minute")
	_, err3 := other.do(ctx, "acl", "update", "/datastore/main", "DatastoreAdmin", "--auth-id", "bench@pbs")
	host, port, _ := net.SplitHostPort(other.listen)
	_, err4 := n.do(ctx, "remote", "create", other.name, "--host", host, "--port", port, "--auth-id", "bench@pbs", "--password", "only-for-a-minute", "--fingerprint", print)
	return errors.Join(err, err2, err3, err4)
}

// rounds are pushed and pulled in turn, each of data of its own.
const rounds = 3

// push has one node push an image to another, and a third pull the same from it.
func push(ctx context.Context, b *bench) (err error) {
	var all []*node
	for _, name := range []string{"source", "pushed", "pulls"} {
		n, err := b.start(ctx, name)
		defer n.stop()
		if err != nil {
			return err
		}
		all = append(all, n)
	}
	source, pushed, pulls := all[0], all[1], all[2]
	_, err = source.do(ctx, "job", "list")
	err = errors.Join(err, source.remote(ctx, pushed), pulls.remote(ctx, source))
	for _, c := range []struct {
		n    *node
		args []string
	}{
		{source, []string{"job", "create", "push", "push", "--remote", "pushed", "--remote-store", "main", "--store", "main"}},
		{pulls, []string{"job", "create", "pull", "pull", "--remote", "source", "--remote-store", "main", "--store", "main"}},
	} {
		_, e := c.n.do(ctx, c.args...)
		err = errors.Join(err, e)
	}
	if err != nil {
		return err
	}
	var ratios []float64
	for round := range rounds {
		took, err := b.round(ctx, source, pulls, round)
		if err != nil {
			return err
		}
		ratio := took[1].Seconds() / took[0].Seconds()
		ratios = append(ratios, ratio)
		fmt.Printf("round %d: %d MiB pushed in %.2f s, pulled in %.2f s: %.2f\n", round+1, b.size, took[0].Seconds(), took[1].Seconds(), ratio)
	}
	slices.Sort(ratios)
	middle := ratios[len(ratios)/2]
	b.say("push to a node of ours, against pull of the same", middle, "of its rate", ">= 0.7", middle >= 0.7)
	return nil
}

// round backs something new up, and returns how long its push and its pull took; which
// comes first changes.
func (b *bench) round(ctx context.Context, source, pulls *node, round int) (took [2]time.Duration, err error) {
	image := filepath.Join(b.dir, "image")
	f, err := os.Create(image)
	if err != nil {
		return took, err
	}
	_, err = io.CopyN(f, rand.Reader, int64(b.size)<<20)
	if err = errors.Join(err, f.Close()); err != nil {
		return took, err
	}
	if _, err := source.do(ctx, "backup", "disk.img:"+image, "--backup-id", fmt.Sprint("round", round), "-q"); err != nil {
		return took, err
	}
	for i := range took {
		which := (i + round) % 2
		n, job := source, "push"
		if which == 1 {
			n, job = pulls, "pull"
		}
		began := time.Now()
		if _, err := n.do(ctx, "job", "run", job); err != nil {
			return took, err
		}
		took[which] = time.Since(began)
	}
	return took, nil
}
