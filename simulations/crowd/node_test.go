package crowd

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/node"
	"github.com/holdfast-mesh/holdfast/node/admin"
)

// role is the variable that makes the test program a node instead: its value is
// the node's directory. A process of its own has memory of its own.
const role = "HOLDFAST_CROWD_NODE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(role); dir != "" {
		if err := run(dir); err != nil {
			fmt.Fprintln(os.Stderr, "node:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// run is the daemon, until it is told to end.
func run(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg, err := node.ReadConfig(dir)
	if err != nil {
		return err
	}
	n, err := node.New(cfg)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "..", "address"), []byte(n.Address().String()), 0o600); err != nil {
		return err
	}
	return n.Run(ctx)
}

// start runs a node until the test ends, with a datastore whose trash does not
// wait, and an account for the machines.
func (c *crowd) start() {
	dir, err := os.MkdirTemp("", "hf") // short: it has a socket in it
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		if c.t.Failed() && os.Getenv("HOLDFAST_SOAK") != "" {
			c.t.Logf("what the node had is left in %s", dir)
			return
		}
		os.RemoveAll(dir)
	})
	cfg := node.Config{Dir: filepath.Join(dir, "n"), Name: "home", Site: "home", Listen: "127.0.0.1:0", MeshListen: "127.0.0.1:0"}
	if err := node.Init(cfg); err != nil {
		c.t.Fatal(err)
	}
	daemon := exec.Command(os.Args[0])
	daemon.Env = append(os.Environ(), role+"="+cfg.Dir)
	daemon.Stderr = os.Stderr
	if err := daemon.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.node = daemon.Process.Pid
	c.root, c.socket = admin.NewClient(cfg.Dir), filepath.Join(cfg.Dir, admin.Socket)
	c.t.Cleanup(func() {
		c.root.Close()
		daemon.Process.Signal(syscall.SIGTERM)
		if err := daemon.Wait(); err != nil {
			c.t.Errorf("the node ended with %v", err)
		}
	})
	c.patiently(func() error {
		_, err := c.root.Call(c.t.Context(), "GET", "/version", nil)
		return err
	})
	address, err := os.ReadFile(filepath.Join(dir, "address"))
	if err != nil {
		c.t.Fatal(err)
	}
	c.address = strings.TrimSpace(string(address))
	c.call("POST", "/config/datastore", url.Values{"name": {store}, "path": {filepath.Join(dir, "s")}})
	c.patiently(func() error { // it is made by a task
		_, err := c.root.Call(c.t.Context(), "PUT", "/config/datastore/"+store, url.Values{"trash-delay": {"0s"}})
		return err
	})
	c.call("POST", "/access/users", url.Values{"userid": {"m@pbs"}, "password": {password}})
	c.call("PUT", "/access/acl", url.Values{"path": {"/datastore/" + store}, "role": {"DatastoreBackup"}, "auth-id": {"m@pbs"}})
}

// patiently does something until it works.
func (c *crowd) patiently(do func() error) {
	c.t.Helper()
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err := do()
		if err == nil {
			return
		}
		if time.Since(began) > 20*time.Second {
			c.t.Fatal(err)
		}
	}
}

// call asks the node for something as its operator.
func (c *crowd) call(method, path string, params url.Values) {
	c.t.Helper()
	if _, err := c.root.Call(c.t.Context(), method, path, params); err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
}
