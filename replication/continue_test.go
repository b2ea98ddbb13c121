package replication_test

import (
	"context"
	"net"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/replication"
	"github.com/holdfast-mesh/holdfast/replication/plan"
)

// A meter counts what a puller reads, and calls at when that reaches until.
type meter struct {
	mu    sync.Mutex
	read  int
	until int
	at    func()
}

type metered struct {
	net.Conn
	m *meter
}

func (c metered) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p[:min(len(p), 16<<10)]) // as from a network, not all that was written at once
	time.Sleep(3 * time.Millisecond)               // and so slow that beginnings of chunks are worth keeping
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	if c.m.at == nil {
		c.m.read += n
		return n, err
	}
	if c.m.read += n; c.m.read >= c.m.until {
		c.m.at()
		c.m.at, c.m.until = func() {}, 1<<62
	}
	return n, err
}

const largeOnes = 24

// killAt pulls until so many bytes were read in all, and has the process die: what
// is on its disk then is all that is left.
func killAt(t *testing.T, home, dc *site, l *link, m *meter, bytes int) {
	t.Helper()
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	var disk *disktest.Mem
	m.mu.Lock()
	m.until, m.at = bytes, func() { disk = dc.mem.CrashKeeping(); kill() }
	m.mu.Unlock()
	before := m.read
	_, err := puller(t, dc, &taskLog{}, home.source(l, nil)).Run(ctx, job(plan.Options{}))
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil || disk == nil {
		t.Fatalf("it was not killed: %v", err)
	}
	m.read, m.at = max(bytes, before), nil
	dc.mem = disk
	dc.open()
}

func largeSites(t *testing.T) (home, dc *site, l *link, m *meter) {
	seeds := make([]uint64, largeOnes)
	for i := range seeds {
		seeds[i] = uint64(large + i)
	}
	home, dc = newSite(t, "home"), newSite(t, "dc")
	home.backUp("", at("vm/100", 0), owner, seeds...)
	l, m = home.serve(nil), &meter{}
	l.wrap = func(c net.Conn) net.Conn { return metered{c, m} }
	t.Cleanup(l.close)
	return home, dc, l, m
}

// A process that is killed again and again fetches almost nothing twice, though
// chunks are large and a kill hits several of them in their midst.
func TestKilledInTheMidstOfChunks(t *testing.T) {
	home, dc, l, m := largeSites(t)
	const kills, all = 6, largeOnes << 20
	for i := range kills {
		killAt(t, home, dc, l, m, (i+1)*all/(kills+1)+i*12345)
	}
	log := &taskLog{}
	report, err := puller(t, dc, log, home.source(l, nil)).Run(t.Context(), job(plan.Options{}))
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	dc.same("", home, "", at("vm/100", 0))
	const lost = 8 * 96 << 10 // of each of eight streams about a step
	if twice := m.read - all; twice > kills*lost {
		t.Errorf("killed %d times, %d KiB of %d were fetched twice", kills, twice>>10, all>>10)
	}
	if report.Swarm.Kept == 0 {
		t.Error("no chunk was continued")
	}
	for _, name := range dc.mem.Names() {
		if strings.Contains(name, "/partial/") && strings.HasSuffix(name, ".part") {
			t.Errorf("%s is left when all is done", name)
		}
	}
}

// What a power cut made of the beginnings of chunks costs these chunks once more,
// and no source its name.
func TestDamagedBeginningsAreFetchedAgain(t *testing.T) {
	home, dc, l, m := largeSites(t)
	killAt(t, home, dc, l, m, largeOnes<<19)
	damaged := 0
	for _, name := range dc.mem.Names() {
		if strings.HasSuffix(name, ".part") && len(dc.mem.Bytes(name)) > 4096+200 {
			dc.mem.FlipBit(name, 4096+200)
			damaged++
		}
	}
	report, err := puller(t, dc, &taskLog{}, home.source(l, nil)).Run(t.Context(), job(plan.Options{}))
	if err != nil || damaged == 0 {
		t.Fatalf("%v, %d were damaged", err, damaged)
	}
	dc.same("", home, "", at("vm/100", 0))
	if by := report.Swarm.BySource[0]; by.Bad > 0 || report.Swarm.Twice == 0 || report.Swarm.Kept > 0 {
		t.Errorf("%+v: want no blame, and what was continued in vain counted", report.Swarm)
	}
}

// Another job does not touch what one has begun, and a run that is stopped keeps it.
func TestStoppedRunsKeepWhatTheyBegan(t *testing.T) {
	home, dc, l, m := largeSites(t)
	ctx, stop := context.WithCancel(t.Context())
	m.until, m.at = largeOnes<<18, stop
	p := puller(t, dc, &taskLog{}, home.source(l, nil))
	if _, err := p.Run(ctx, job(plan.Options{})); err == nil {
		t.Fatal("it was not stopped")
	}
	dir := path.Join("/store/partial", job(plan.Options{}).ID)
	if list, err := dc.mem.ReadDir(dir); err != nil || len(list) == 0 {
		t.Errorf("%v is kept (%v)", list, err)
	}
	other := replication.Job{ID: "other", Options: plan.Options{Owner: owner, To: "other"}}
	if _, err := p.Run(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if list, err := dc.mem.ReadDir(dir); err != nil || len(list) == 0 {
		t.Errorf("%v is kept after the run of another job (%v)", list, err)
	}
}
