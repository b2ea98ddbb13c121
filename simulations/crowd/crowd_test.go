package crowd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/retention"
	"github.com/holdfast-mesh/holdfast/node"
	"github.com/holdfast-mesh/holdfast/node/admin"
	"github.com/holdfast-mesh/holdfast/pbs/client"
)

const (
	store    = "main"
	password = "secret12345"
	// slot is the grid on which images change: half a chunk of an image, so
	// that chunks have changed in part.
	slot = 2 << 20
)

// size is how long the crowd is let in, how many there are, and how many
// slots an image has.
func size() (time.Duration, int, int) {
	if os.Getenv("HOLDFAST_SOAK") != "" {
		return 10 * time.Minute, 16, 16
	}
	return 6 * time.Second, 4, 4
}

// A crowd is clients of one node, and what it acknowledged to them.
type crowd struct {
	t       *testing.T
	address string
	root    *admin.Client
	socket  string
	seed    uint64

	mu sync.Mutex

	made map[naming.Snapshot]uint64 // state of the image in each snapshot that was acknowledged
	gone map[naming.Snapshot]bool   // that somebody has begun to remove

	backups, restores, removed, tasks atomic.Int64
}

// Every backup that a node has acknowledged restores the same, whatever else
// goes on: other clients, prune, verification, garbage collection, removal of
// snapshots, clients that break off. Memory does not grow with time.
func TestACrowdLosesNothing(t *testing.T) {
	last, clients, slots := size()
	c := &crowd{t: t, seed: uint64(time.Now().UnixNano()), made: map[naming.Snapshot]uint64{}, gone: map[naming.Snapshot]bool{}}
	t.Logf("seed %d", c.seed)
	c.start()
	ctx, cancel := context.WithTimeout(t.Context(), last)
	defer cancel()
	half := time.AfterFunc(last/2, runtime.GC)
	defer half.Stop()
	var memory sync.Map
	g, work := errgroup.WithContext(ctx)
	for i := range clients {
		g.Go(func() error { return c.machine(work, i, slots) })
	}
	for name, do := range map[string]func(context.Context, *rand.Rand) error{"collect": c.collect, "verify": c.verify, "prune": c.prune, "forget": c.forget} {
		g.Go(func() error { return c.again(work, name, do) })
	}
	g.Go(func() error { return watchMemory(work, last, &memory) })
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		t.Fatal(err)
	}
	c.checkAll(slots)
	early, _ := memory.Load("early")
	late, _ := memory.Load("late")
	t.Logf("%d backups, %d restores, %d removals, %d tasks; heap after a collection %v KiB after a third of the time, %v KiB at the end",
		c.backups.Load(), c.restores.Load(), c.removed.Load(), c.tasks.Load(), early, late)
	if c.backups.Load() < int64(clients) || c.tasks.Load() == 0 {
		t.Error("too little happened for the test to say anything")
	}
	if e, ok := early.(uint64); ok && last > time.Minute {
		if l, ok := late.(uint64); ok && l > 2*e+64<<10 {
			t.Errorf("the heap grew from %d KiB to %d KiB", e, l)
		}
	}
}

// watchMemory notes the live heap after a third of the time, and near the end.
func watchMemory(ctx context.Context, last time.Duration, into *sync.Map) error {
	note := func(name string) {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		into.Store(name, m.HeapAlloc>>10)
	}
	for _, at := range []struct {
		name string
		in   time.Duration
	}{{"early", last / 3}, {"late", last * 6 / 10}} {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(at.in):
			note(at.name)
		}
	}
	<-ctx.Done()
	return nil
}

// start runs a node until the test ends, with a datastore whose trash does not
// wait, and an account for the machines.
func (c *crowd) start() {
	dir, err := os.MkdirTemp("", "hf") // short: it has a socket in it
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { os.RemoveAll(dir) })
	cfg := node.Config{Dir: filepath.Join(dir, "n"), Name: "home", Site: "home", Listen: "127.0.0.1:0", MeshListen: "127.0.0.1:0"}
	if err := node.Init(cfg); err != nil {
		c.t.Fatal(err)
	}
	cfg, err = node.ReadConfig(cfg.Dir)
	if err != nil {
		c.t.Fatal(err)
	}
	cfg.Log = slog.New(slog.DiscardHandler)
	n, err := node.New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	c.address, c.root = n.Address().String(), admin.NewClient(cfg.Dir)
	c.socket = filepath.Join(cfg.Dir, admin.Socket)
	c.t.Cleanup(func() {
		c.root.Close()
		cancel()
		if err := <-done; err != nil {
			c.t.Error(err)
		}
	})
	c.call("POST", "/config/datastore", url.Values{"name": {store}, "path": {filepath.Join(dir, "s")}})
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) { // it is made by a task
		if _, err := c.root.Call(c.t.Context(), "PUT", "/config/datastore/"+store, url.Values{"trash-delay": {"0s"}}); err == nil {
			break
		} else if time.Since(began) > 20*time.Second {
			c.t.Fatal(err)
		}
	}
	c.call("POST", "/access/users", url.Values{"userid": {"m@pbs"}, "password": {password}})
	c.call("PUT", "/access/acl", url.Values{"path": {"/datastore/" + store}, "role": {"DatastoreBackup"}, "auth-id": {"m@pbs"}})
}

// call asks the node for something as its operator.
func (c *crowd) call(method, path string, params url.Values) {
	c.t.Helper()
	if _, err := c.root.Call(c.t.Context(), method, path, params); err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
}

// machine backs up over TLS again and again, with a few changes each time, and
// restores now and then; sometimes it breaks off.
func (c *crowd) machine(ctx context.Context, id, slots int) error {
	rng := rand.New(rand.NewPCG(c.seed, uint64(id)))
	cl, err := c.dial()
	if err != nil {
		return err
	}
	defer cl.Close()
	group := naming.Group{Type: naming.VM, ID: strconv.Itoa(100 + id)}
	file := filepath.Join(c.t.TempDir(), "disk")
	for at := int64(1_700_000_000); ctx.Err() == nil; at++ {
		state := rng.Uint64()
		if err := os.WriteFile(file, image(state, slots), 0o600); err != nil {
			return err
		}
		snap := naming.Snapshot{Group: group, Time: at}
		err := c.backUp(ctx, cl, snap, file, rng.IntN(6) == 0)
		switch {
		case errors.Is(err, errBrokeOff) || ctx.Err() != nil:
			continue
		case err != nil:
			return fmt.Errorf("back up %s: %w", snap, err)
		}
		c.mu.Lock()
		c.made[snap] = state
		c.mu.Unlock()
		c.backups.Add(1)
		if rng.IntN(3) == 0 {
			if err := c.restore(ctx, cl, snap, slots); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
	return nil
}

func (c *crowd) dial() (*client.Client, error) {
	host, port, _ := strings.Cut(c.address, ":")
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	cert, err := c.root.Call(c.t.Context(), "GET", "/nodes/localhost/certificates/info", nil)
	if err != nil {
		return nil, err
	}
	var info []struct{ Fingerprint string }
	if err := cert.Into(&info); err != nil {
		return nil, err
	}
	return client.New(client.Config{
		Repository: client.Repository{User: "m@pbs", Host: host, Port: uint16(n), Store: store},
		Password:   password, Fingerprint: info[0].Fingerprint, InFlight: 40 << 20,
	})
}

var errBrokeOff = errors.New("the client broke off, as it was meant to")

// backUp makes a snapshot of the file, or goes away in the middle.
func (c *crowd) backUp(ctx context.Context, cl *client.Client, snap naming.Snapshot, file string, breakOff bool) error {
	b, err := c.begin(ctx, cl, snap)
	if err != nil {
		return err
	}
	defer b.Abort()
	src, err := archive.ParseSource("disk.img:" + file)
	if err != nil {
		return err
	}
	man, _, err := archive.Backup(ctx, archive.Config{Target: b, Snapshot: snap, Sources: []archive.Source{src}})
	if err != nil {
		return err
	}
	if breakOff {
		return errBrokeOff
	}
	return b.Finish(ctx, man)
}

// begin begins a snapshot. The server may not have noticed yet that the last
// session of the group has ended, which takes it no longer than a moment.
func (c *crowd) begin(ctx context.Context, cl *client.Client, snap naming.Snapshot) (*client.Backup, error) {
	const patience = 10 * time.Second
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		b, err := cl.Begin(ctx, "", snap, nil)
		if err == nil || time.Since(began) > patience || !strings.Contains(err.Error(), "another backup is already running") {
			return b, err
		}
	}
}

// image is the content of a disk in a state. States have slots in common, so
// that backups have chunks in common.
func image(state uint64, slots int) []byte {
	var b bytes.Buffer
	for i := range slots {
		kind := state >> (i % 60) % 5 // few kinds of each slot
		r := rand.NewChaCha8([32]byte{byte(i), byte(kind)})
		piece := make([]byte, slot)
		r.Read(piece[:slot/8]) // the rest are zeros, which cost nothing
		b.Write(piece)
	}
	return b.Bytes()
}

// restore reads a snapshot that is there and compares. One that is removed
// meanwhile is no loss.
func (c *crowd) restore(ctx context.Context, cl *client.Client, snap naming.Snapshot, slots int) error {
	err := c.compare(ctx, cl, snap, slots)
	c.mu.Lock()
	gone := c.gone[snap]
	c.mu.Unlock()
	if err != nil && !gone {
		return fmt.Errorf("restore %s: %w", snap, err)
	}
	c.restores.Add(1)
	return nil
}

func (c *crowd) compare(ctx context.Context, cl *client.Client, snap naming.Snapshot, slots int) error {
	s, err := cl.OpenSnapshot(ctx, "", snap)
	if err != nil {
		return err
	}
	defer s.Close()
	c.mu.Lock()
	state := c.made[snap]
	c.mu.Unlock()
	got := &bytes.Buffer{}
	if err := archive.Open(s, archive.Options{}).Stream(ctx, "disk.img.fidx", got); err != nil {
		return err
	}
	if !bytes.Equal(got.Bytes(), image(state, slots)) {
		return errors.New("it is not what was backed up")
	}
	return nil
}

// again does something as the operator again and again.
func (c *crowd) again(ctx context.Context, name string, do func(context.Context, *rand.Rand) error) error {
	rng := rand.New(rand.NewPCG(c.seed, uint64(name[0])))
	for ctx.Err() == nil {
		if err := do(ctx, rng); err != nil && ctx.Err() == nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(100+rng.IntN(400)) * time.Millisecond):
		}
	}
	return nil
}

// task starts a task and waits for its end. A task that finds another of its
// kind at work is no failure.
func (c *crowd) task(ctx context.Context, path string, params url.Values) error {
	r, err := c.root.Call(ctx, "POST", path, params)
	if err != nil {
		return err
	}
	var upid string
	if err := r.Into(&upid); err != nil {
		return err
	}
	for {
		var status struct{ Status, Exitstatus string }
		r, err := c.root.Call(ctx, "GET", "/nodes/localhost/tasks/"+url.PathEscape(upid)+"/status", nil)
		if err == nil {
			err = r.Into(&status)
		}
		switch {
		case err != nil:
			return err
		case status.Status == "running":
			time.Sleep(20 * time.Millisecond)
			continue
		case status.Exitstatus != "OK" && !strings.HasPrefix(status.Exitstatus, "WARNINGS"):
			return fmt.Errorf("task %s ended with %s", upid, status.Exitstatus)
		}
		c.tasks.Add(1)
		return nil
	}
}

func (c *crowd) collect(ctx context.Context, _ *rand.Rand) error {
	return c.task(ctx, "/admin/datastore/"+store+"/gc", nil)
}

func (c *crowd) verify(ctx context.Context, _ *rand.Rand) error {
	return c.task(ctx, "/admin/datastore/"+store+"/verify", url.Values{"ignore-verified": {"0"}})
}

// doomed notes which snapshots may be gone from now on.
func (c *crowd) doomed(which func(naming.Snapshot) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.made {
		if which(s) {
			c.gone[s] = true
		}
	}
}

// prune keeps the last three of each group. Which those are changes meanwhile:
// all that are not the very newest now may go.
func (c *crowd) prune(ctx context.Context, _ *rand.Rand) error {
	const keep = 3
	newest := map[naming.Group]int64{}
	c.mu.Lock()
	for s := range c.made {
		newest[s.Group] = max(newest[s.Group], s.Time)
	}
	c.mu.Unlock()
	c.doomed(func(s naming.Snapshot) bool { return s.Time < newest[s.Group] })
	for g := range newest {
		cl, err := c.operator()
		if err != nil {
			return err
		}
		_, err = cl.Prune(ctx, "", g, retention.Keep{Last: keep}, false)
		cl.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *crowd) operator() (*client.Client, error) {
	return client.New(client.Config{Repository: client.Repository{Store: store}, Socket: c.socket})
}

// forget removes one snapshot that is not the last of its group. That it is in
// use is no failure.
func (c *crowd) forget(ctx context.Context, rng *rand.Rand) error {
	cl, err := c.operator()
	if err != nil {
		return err
	}
	defer cl.Close()
	all, err := cl.Snapshots(ctx, "", naming.Group{})
	if err != nil || len(all) == 0 {
		return err
	}
	victim := all[rng.IntN(len(all))].Snapshot()
	c.doomed(func(s naming.Snapshot) bool { return s == victim })
	switch err := cl.Forget(ctx, "", victim); {
	case err == nil:
		c.removed.Add(1)
	case strings.Contains(err.Error(), "in use"), strings.Contains(err.Error(), "ENOENT"), strings.Contains(err.Error(), "does not exist"):
	default:
		return err
	}
	return nil
}

// checkAll restores every snapshot that is left, and looks whether one is
// missing that nobody removed.
func (c *crowd) checkAll(slots int) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cl, err := c.operator()
	if err != nil {
		c.t.Fatal(err)
	}
	defer cl.Close()
	all, err := cl.Snapshots(ctx, "", naming.Group{})
	if err != nil {
		c.t.Fatal(err)
	}
	left := map[naming.Snapshot]bool{}
	for _, i := range all {
		if _, acknowledged := c.made[i.Snapshot()]; !acknowledged {
			continue // the answer was lost when the time was over
		}
		left[i.Snapshot()] = true
		if err := c.compare(ctx, cl, i.Snapshot(), slots); err != nil {
			c.t.Errorf("%s: %v", i.Snapshot(), err)
		}
	}
	for s := range c.made {
		if !left[s] && !c.gone[s] {
			c.t.Errorf("%s was acknowledged, and is gone", s)
		}
	}
}
