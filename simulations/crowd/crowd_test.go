package crowd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
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
	node    int // process

	// removing is held from before somebody has a snapshot removed until it is
	// written down which.
	removing sync.Mutex

	mu sync.Mutex

	made map[naming.Snapshot]uint64 // state of the image in each snapshot that was acknowledged
	gone map[naming.Snapshot]string // that were removed, and by whom

	backups, restores, removed, tasks atomic.Int64
}

// Every backup that a node has acknowledged restores the same, whatever else
// goes on: other clients, prune, verification, garbage collection, removal of
// snapshots, clients that break off. Memory does not grow with time.
func TestACrowdLosesNothing(t *testing.T) {
	last, clients, slots := size()
	c := &crowd{t: t, seed: uint64(time.Now().UnixNano()), made: map[naming.Snapshot]uint64{}, gone: map[naming.Snapshot]string{}}
	t.Logf("seed %d", c.seed)
	c.start()
	ctx, cancel := context.WithTimeout(t.Context(), last)
	defer cancel()
	var memory []int64
	g, work := errgroup.WithContext(ctx)
	for i := range clients {
		g.Go(func() error { return c.machine(work, i, slots) })
	}
	for name, do := range map[string]func(context.Context, *rand.Rand) error{"collect": c.collect, "verify": c.verify, "prune": c.prune, "forget": c.forget} {
		g.Go(func() error { return c.again(work, name, do) })
	}
	g.Go(func() error {
		var err error
		memory, err = watchMemory(work, c.node)
		return err
	})
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		t.Fatal(err)
	}
	c.checkAll(slots)
	third := len(memory) / 3
	early, late := mean(memory[third:2*third]), mean(memory[2*third:])
	t.Logf("%d backups, %d restores, %d removals, %d tasks; memory of the node's process: %d KiB on average in the second third of the time, %d KiB in the last, at most %d KiB",
		c.backups.Load(), c.restores.Load(), c.removed.Load(), c.tasks.Load(), early, late, slices.Max(memory))
	if c.backups.Load() < int64(clients) || c.tasks.Load() == 0 {
		t.Error("too little happened for the test to say anything")
	}
	if last > time.Minute && late > early+early/4+32<<10 {
		t.Errorf("the node grew from %d KiB to %d KiB", early, late)
	}
}

func mean(of []int64) int64 {
	sum := int64(0)
	for _, n := range of {
		sum += n
	}
	return sum / max(1, int64(len(of)))
}

// watchMemory notes what a process has in memory that is not in a file, in KiB,
// twice a second.
func watchMemory(ctx context.Context, pid int) (all []int64, err error) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return all, err
		}
		var kib int64
		_, rest, _ := strings.Cut(string(status), "RssAnon:")
		if _, err := fmt.Sscan(rest, &kib); err != nil {
			return all, err
		}
		all = append(all, kib)
		select {
		case <-ctx.Done():
			return all, nil
		case <-tick.C:
		}
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
	if err == nil {
		c.restores.Add(1)
		return nil
	}
	c.removing.Lock() // whoever has removed it has written that down
	c.mu.Lock()
	gone := c.gone[snap]
	c.mu.Unlock()
	c.removing.Unlock()
	if err != nil && gone == "" {
		return fmt.Errorf("restore %s: %w", snap, err)
	}
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

// undisturbed is ctx for what must not end in the middle: nobody would know
// what had been removed.
func undisturbed(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
}

// removedBy writes down that a snapshot is gone.
func (c *crowd) removedBy(who string, s naming.Snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone[s] == "" {
		c.removed.Add(1)
	}
	c.gone[s] = who
}

// prune keeps the last three of each group, and not one fewer.
func (c *crowd) prune(ctx context.Context, _ *rand.Rand) error {
	const keep = 3
	groups := map[naming.Group]bool{}
	c.mu.Lock()
	for s := range c.made {
		groups[s.Group] = true
	}
	c.mu.Unlock()
	cl, err := c.operator()
	if err != nil {
		return err
	}
	defer cl.Close()
	for g := range groups {
		if ctx.Err() != nil {
			return nil
		}
		if err := c.pruneGroup(ctx, cl, g, keep); err != nil {
			return err
		}
	}
	return nil
}

func (c *crowd) pruneGroup(ctx context.Context, cl *client.Client, g naming.Group, keep int) error {
	ctx, cancel := undisturbed(ctx)
	defer cancel()
	c.removing.Lock()
	defer c.removing.Unlock()
	all, err := cl.Prune(ctx, "", g, retention.Keep{Last: keep}, false)
	kept := 0
	for _, p := range slices.Backward(all) {
		if p.Keep {
			kept++
			continue
		}
		c.removedBy("prune", p.Snapshot())
		if kept < keep {
			return fmt.Errorf("prune removed %s, and kept %d newer ones, not %d", p.Snapshot(), kept, keep)
		}
	}
	return err
}

func (c *crowd) operator() (*client.Client, error) {
	return client.New(client.Config{Repository: client.Repository{Store: store}, Socket: c.socket})
}

// forget removes one snapshot. That it is in use is no failure.
func (c *crowd) forget(ctx context.Context, rng *rand.Rand) error {
	cl, err := c.operator()
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := undisturbed(ctx)
	defer cancel()
	c.removing.Lock()
	defer c.removing.Unlock()
	all, err := cl.Snapshots(ctx, "", naming.Group{})
	if err != nil || len(all) == 0 {
		return err
	}
	victim := all[rng.IntN(len(all))].Snapshot()
	switch err := cl.Forget(ctx, "", victim); {
	case err == nil:
		c.removedBy("forget", victim)
	case strings.Contains(err.Error(), "in use"):
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
		if !left[s] && c.gone[s] == "" {
			c.t.Errorf("%s was acknowledged, and is gone", s)
		}
	}
}
