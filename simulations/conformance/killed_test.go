package conformance

import (
	"context"
	"fmt"
	"math/rand/v2"
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
	"github.com/holdfast-mesh/holdfast/pbs/pbstest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// role is the variable that makes the test program the daemon instead: its
// value is the node's directory.
const role = "HOLDFAST_CONFORMANCE_NODE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(role); dir != "" {
		if err := daemon(dir); err != nil {
			fmt.Fprintln(os.Stderr, "node:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// daemon runs a node until it is told to end, or killed.
func daemon(dir string) error {
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

// A victim is a node in a process of its own.
type victim struct {
	*home
	process *exec.Cmd
}

func newVictim(t *testing.T) *victim {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf") // short: it has a socket in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cfg := initialised(t, dir)
	v := &victim{home: &home{wire: wire{t: t}, dir: dir, operator: admin.NewClient(cfg.Dir)}}
	v.start()
	t.Cleanup(v.kill)
	v.furnish()
	return v
}

// start starts the process, and waits until it answers.
func (v *victim) start() {
	v.t.Helper()
	v.process = exec.Command(os.Args[0])
	v.process.Env = append(os.Environ(), role+"="+filepath.Join(v.dir, "n"))
	v.process.Stderr = os.Stderr
	if err := v.process.Start(); err != nil {
		v.t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		if _, err := v.operator.Call(v.t.Context(), "GET", "/version", nil); err == nil {
			break
		} else if time.Now().After(deadline) {
			v.t.Fatal(err)
		}
	}
	address, err := os.ReadFile(filepath.Join(v.dir, "address"))
	if err != nil {
		v.t.Fatal(err)
	}
	v.addr = string(address)
}

// kill ends the process as a power cut would.
func (v *victim) kill() {
	v.process.Process.Kill()
	v.process.Wait()
	v.operator.Close()
}

// begin begins a recorded session on a datastore.
func (v *victim) begin(session []recorded, store string) *pbstest.Client {
	v.t.Helper()
	target := strings.Replace(session[0].Target, "store=store1", "store="+store, 1)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		c, a := pbstest.Connect(v.t, v.addr, target, "upgrade: "+upgrade.Backup, v.admin())
		if c != nil {
			return c
		}
		if time.Now().After(deadline) || !strings.Contains(string(a.Body), "another backup is already running") {
			v.t.Fatalf("%s: %d %s", target, a.Status, a.Body)
		}
	}
}

// send sends requests of a session that must succeed.
func (v *victim) send(c *pbstest.Client, requests []recorded) {
	v.t.Helper()
	for _, r := range requests {
		_, kind, _ := strings.Cut(r.Headers[0], ": ")
		a, err := c.Do(r.Method, r.Target, kind, r.body(v.t))
		if err != nil || a.Status != r.Status {
			v.t.Errorf("%s: %d %s, %v, want %d", r.call(), a.Status, a.Body, err, r.Status)
		}
	}
}

// found returns how many snapshots a datastore has.
func (v *victim) found(store string) int {
	v.t.Helper()
	var all []listed
	v.read(v.call("GET", "/admin/datastore/"+store+"/snapshots", nil), &all)
	for _, s := range all {
		if s.Size == nil {
			v.t.Errorf("%s: %s is there in part", store, s)
		}
	}
	return len(all)
}

// verify verifies all of a datastore.
func (v *victim) verify(store string) {
	v.t.Helper()
	v.task("POST", "/admin/datastore/"+store+"/verify", url.Values{"ignore-verified": {"0"}})
}

// The server is killed at every request of two recorded sessions, a first backup
// and one that builds on it, while that request is on its way. When it runs
// again, its datastores are whole, nobody sees anything of a backup that was not
// finished, all that was is there, and the same backup can be made.
func TestServerKilledAtEveryRequest(t *testing.T) {
	t.Parallel()
	recording := func(name string) (session []recorded) {
		for _, r := range readRecorded(t, "real-server", func(file string) bool { return file == name }) {
			if r.H2 || r.Status == 101 {
				session = append(session, r)
			}
		}
		return session
	}
	first, second := recording("20-backup-first"), recording("21-backup-incremental")
	v := newVictim(t)
	c := v.begin(first, "store1")
	v.send(c, first[1:])
	c.Close()
	for k := range max(len(first), len(second)) + 1 {
		fresh := fmt.Sprint("fresh", k) // so that all chunks are new
		v.task("POST", "/config/datastore", url.Values{"name": {fresh}, "path": {filepath.Join(v.dir, fresh)}})
		finished := map[string]bool{fresh: v.killedIn(first, fresh, k), "store1": v.killedIn(second, "store1", k)}
		time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
		v.kill()
		v.start()
		for store, finished := range finished {
			session, before := first, 0
			if store == "store1" {
				session, before = second, 1
			}
			v.settled(session, store, k, before, finished)
		}
		v.call("DELETE", "/config/datastore/"+fresh, nil) // in its time
		v.call("DELETE", "/admin/datastore/store1/snapshots", url.Values{"backup-type": {"host"}, "backup-id": {"g1"}, "backup-time": {"1700003600"}})
	}
}

// settled looks at a datastore after the kill, and makes the backup that was in
// the making, unless it was finished.
func (v *victim) settled(session []recorded, store string, k, before int, finished bool) {
	v.t.Helper()
	want := before
	if finished {
		want++
	}
	found := v.found(store)
	inFlight := k == len(session)-2 && found == want+1 // to finish was on its way, and came
	if found != want && !inFlight {
		v.t.Errorf("killed at request %d: %s has %d snapshots, want %d", k, store, found, want)
	}
	if found == before {
		c := v.begin(session, store)
		v.send(c, session[1:])
		c.Close()
		if found = v.found(store); found != before+1 {
			v.t.Errorf("after the backup was made again, %s has %d snapshots, want %d", store, found, before+1)
		}
	}
	v.verify(store)
}

// killedIn sends k requests of a session, and one more whose answer nobody
// waits for. It tells whether the session was finished before that.
func (v *victim) killedIn(session []recorded, store string, k int) (finished bool) {
	v.t.Helper()
	c := v.begin(session, store)
	requests := session[1:]
	if k >= len(requests) {
		v.send(c, requests)
		return true
	}
	v.send(c, requests[:k])
	r := requests[k]
	_, kind, _ := strings.Cut(r.Headers[0], ": ")
	go c.Do(r.Method, r.Target, kind, r.body(v.t))
	return false
}
