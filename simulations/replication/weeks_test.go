package replication

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/verify"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
	"github.com/holdfast-mesh/holdfast/replication"
	"github.com/holdfast-mesh/holdfast/replication/plan"
	"github.com/holdfast-mesh/holdfast/replication/rate"
)

// Whatever happens for some weeks, what a site shows of another one restores to
// what was backed up, nothing else there changes, and once the faults are over
// everything is there after one run of the job.
func TestWeeksOfFaults(t *testing.T) {
	seeds := uint64(24)
	if os.Getenv("HOLDFAST_SOAK") != "" {
		seeds = 1 << 62
	}
	// zstd makes its encoders when they are first used, which must not be within
	// a bubble.
	warm, err := chunks.Encode(nil, make([]byte, 1000), chunks.EncodeOptions{Compress: true})
	if err == nil {
		_, err = warm.Decode(nil, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			defer watch(fmt.Sprint("seed ", seed)).Stop()
			synctest.Test(t, func(t *testing.T) { newWorld(t, seed).live() })
		})
		if t.Failed() {
			return
		}
	}
}

// watch ends the test with the stacks of all goroutines when what takes seconds
// takes many minutes. In a bubble time stands still for as long as anybody
// waits for a mutex, so that no timer of the test itself can say so.
func watch(what string) *time.Timer {
	return time.AfterFunc(4*time.Minute, func() {
		debug.SetTraceback("all")
		panic(what + " hangs")
	})
}

const limit = 1 << 20 // bytes a second that dc receives

// A world is four sites, of which dc pulls from home, and also asks mirror,
// which is slow and pulls from home as well, and cheat, which lies.
type world struct {
	t      *testing.T
	rng    *rand.Rand
	home   *site
	dc     *site
	mirror *site
	cheat  *site
	began  time.Time
	jump   time.Duration // of the clock of dc

	backups map[naming.Snapshot][]int // what was backed up at home
	rotten  map[int]bool              // chunks that rotted at dc, and may not be healed yet
	fetched int64                     // bytes that dc put, but those of runs that were killed
	lapsed  int64                     // bytes that no snapshot named when garbage was collected
	story   []string
	own     string // what dc has of its own
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 7)), began: time.Now(), backups: map[naming.Snapshot][]int{}, rotten: map[int]bool{}}
	w.home, w.dc, w.mirror, w.cheat = newSite(t, "home"), newSite(t, "dc"), newSite(t, "mirror"), newSite(t, "cheat")
	w.mirror.wrap = func(c net.Conn) net.Conn { return &slow{c, time.Millisecond} }
	w.cheat.wrap = func(c net.Conn) net.Conn { return &liar{c} }
	w.cheat.backUp("", snap("host/x", time.Now()), seq(60))
	w.dc.backUp("", snap("vm/1", time.Now()), []int{1, 2, 900})
	w.own = w.inventory()
	return w
}

func seq(n int) (list []int) {
	for i := range n {
		list = append(list, i)
	}
	return list
}

func snap(group string, at time.Time) naming.Snapshot {
	g, err := naming.ParseGroup(group)
	if err != nil {
		panic(err)
	}
	return naming.Snapshot{Group: g, Time: at.Unix()}
}

// inventory describes what dc has that is none of the job's business.
func (w *world) inventory() string {
	list, err := w.dc.d.List(w.t.Context(), catalog.ListOptions{Depth: 0})
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, i := range list {
		m, err := w.dc.d.Manifest("", i.Snapshot())
		if err != nil {
			w.t.Fatal(err)
		}
		text, _ := m.Canonical()
		out = append(out, fmt.Sprintf("%s %s %s %v", i.Snapshot(), i.Owner, text, i.Protected))
	}
	return strings.Join(out, "\n")
}

func (w *world) live() {
	defer func() {
		for _, s := range []*site{w.home, w.dc, w.mirror, w.cheat} {
			s.close()
		}
		time.Sleep(time.Minute) // connections end
		if w.t.Failed() {
			w.t.Log(strings.Join(w.story, "\n"))
		}
	}()
	for range 25 {
		time.Sleep(time.Duration(1+w.rng.IntN(20)) * time.Hour)
		w.step()
		w.check(false)
		if w.t.Failed() {
			return
		}
	}
	w.tell("the faults are over")
	w.home.reachable(true)
	w.mirror.reachable(true)
	if r, err := w.pull(w.dc, 0); err != nil {
		w.t.Errorf("the first run after the faults: %v, %+v", err, r)
	}
	w.heal()
	w.check(true)
}

func (w *world) tell(format string, a ...any) {
	w.story = append(w.story, time.Since(w.began).String()+" "+fmt.Sprintf(format, a...))
}

// step does one thing that happens at sites.
func (w *world) step() {
	switch n := w.rng.IntN(15); n {
	case 0, 1, 2:
		s := snap(fmt.Sprintf("vm/%d", 1+w.rng.IntN(3)), time.Now())
		var seeds []int
		for range 1 + w.rng.IntN(25) {
			seeds = append(seeds, w.rng.IntN(60))
		}
		w.tell("backup %s of %v", s, seeds)
		w.home.backUp("", s, seeds)
		w.backups[s] = seeds
	case 3:
		list, err := w.home.d.List(w.t.Context(), catalog.ListOptions{})
		if err == nil && len(list) > 1 {
			s := list[w.rng.IntN(len(list))].Snapshot()
			w.tell("home forgets %s (%v)", s, w.home.d.Forget(w.t.Context(), "", s))
		}
	case 4:
		seed := w.rng.IntN(60)
		if w.dc.rot(seed) {
			w.tell("chunk %d rots at dc", seed)
			w.rotten[seed] = true
		}
	case 5:
		r, err := verify.Run(w.t.Context(), w.dc.d, verify.Options{Depth: -1})
		w.tell("dc verifies: %d ok, %d failed (%v)", r.OK, r.Failed, err)
	case 6:
		on := w.rng.IntN(2) == 0
		w.tell("home reachable: %v", on)
		w.home.reachable(on)
	case 7:
		w.jump += time.Duration(w.rng.IntN(2000)-1000) * time.Hour
		w.tell("the clock of dc is off by %v", w.jump)
	case 8:
		w.tell("mirror pulls")
		_, _ = w.pull(w.mirror, 0)
	case 9:
		w.heal()
	case 10:
		w.collect()
	case 11:
		// The process is killed and goes on at once, under the lease that it had.
		_, _ = w.pull(w.dc, killed)
		held := w.holdings()
		r, err := w.pull(w.dc, nothing)
		w.tell("dc goes on after a kill with %d chunks, and fetches %d (%v)", held, r.Swarm.Fetched, err)
		if int(r.Swarm.Fetched) > 60-held {
			w.t.Errorf("dc had %d chunks of 60 after a kill, and fetched %d", held, r.Swarm.Fetched)
		}
	default:
		_, _ = w.pull(w.dc, w.rng.IntN(4))
	}
}

// The ways in which a pull is disturbed.
const (
	nothing = iota
	cuts    // links break while it runs
	stopped // somebody stops it
	killed  // the process is
)

// pull runs the job of a site.
func (w *world) pull(to *site, how int) (replication.Report, error) {
	bucket := rate.New(nil, rate.Fixed(rate.Limit{Rate: limit, Burst: 64 << 10}))
	sources := []replication.Source{w.home.source(bucket)}
	if to == w.dc {
		sources = append(sources, w.mirror.source(bucket), w.cheat.source(bucket))
	}
	var mu sync.Mutex
	var log []string
	p, err := replication.New(replication.Config{Local: to.d, Sources: sources, Now: func() time.Time { return time.Now().Add(w.jump) }, Printf: func(f string, a ...any) {
		mu.Lock()
		defer mu.Unlock()
		log = append(log, fmt.Sprintf(f, a...))
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(w.t.Context())
	var wg sync.WaitGroup
	after := time.Duration(w.rng.IntN(120)) * time.Millisecond
	if how == cuts || how == stopped || how == killed {
		wg.Go(func() {
			time.Sleep(after)
			if how == cuts {
				w.home.cut()
				w.mirror.cut()
			} else {
				stop()
			}
		})
	}
	began := time.Now()
	r, err := p.Run(ctx, replication.Job{ID: "all", Workers: 3, Options: plan.Options{
		To: "copies", Owner: "root@pam", RemoveVanished: true, ResyncCorrupt: true,
	}})
	took := time.Since(began)
	wg.Wait()
	stop()
	w.tell("%s pulls (%d): %d snapshots, %d chunks, %v, %v", to.name, how, r.Pulled, r.Swarm.Fetched, took, err)
	if got := float64(r.Swarm.Bytes + r.FilesSize); got > limit*took.Seconds()+128<<10 {
		w.t.Errorf("%.0f bytes came in %v, more than the limit lets through", got, took)
	}
	for _, s := range r.Swarm.BySource {
		if named := strings.Contains(strings.Join(log, "\n"), "WARNING: "+s.Name+" sent"); s.Bad > 0 != named && err == nil {
			w.t.Errorf("%s sent %d bad chunks, and named it is: %v", s.Name, s.Bad, named)
		}
		if s.Bad > 0 && s.Name != "cheat:main" {
			w.t.Errorf("%s is said to have sent %d bad chunks: %s", s.Name, s.Bad, s.Last)
		}
	}
	if to != w.dc {
		return r, err
	}
	if how == killed {
		to.kill()
	} else {
		w.fetched += r.Swarm.Bytes
	}
	return r, err
}

// holdings counts the chunks of backups that dc has.
func (w *world) holdings() (n int) {
	for seed := range 60 {
		if w.dc.has(seed) {
			n++
		}
	}
	return n
}

// collect gives back at dc what no snapshot names and no lease keeps any more. What
// runs that were cut short have fetched may be fetched again then.
func (w *world) collect() {
	list, err := w.dc.d.List(w.t.Context(), catalog.ListOptions{Depth: -1})
	if err != nil {
		w.t.Fatal(err)
	}
	named := map[int]bool{}
	for _, i := range list {
		for _, n := range w.backups[i.Snapshot()] {
			named[n] = named[n] || i.Namespace == "copies"
		}
	}
	for seed := range 60 {
		if !named[seed] && w.dc.has(seed) {
			w.lapsed += int64(len(chunk(seed).Blob))
		}
	}
	before := w.holdings()
	_, err = w.dc.d.Collect(w.t.Context(), gc.Options{})
	w.tell("dc collects garbage: of %d chunks %d stay (%v)", before, w.holdings(), err)
	if err != nil {
		w.t.Fatal(err)
	}
}

// heal heals dc from the others.
func (w *world) heal() {
	_, err := verify.Run(w.t.Context(), w.dc.d, verify.Options{Depth: -1})
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := replication.Heal(w.t.Context(), replication.HealConfig{Local: w.dc.d, Sources: []replication.Source{w.cheat.source(nil), w.mirror.source(nil), w.home.source(nil)}, Full: true})
	w.tell("heal: %d lost, %d fetched, %d at risk (%v)", r.Lost, r.Fetched, len(r.AtRisk), err)
	if err != nil {
		w.t.Fatal(err)
	}
	w.fetched += r.Bytes
	if r.From["cheat:main"] > 0 {
		w.t.Errorf("what a liar sent counted: %v", r.From)
	}
}

// check looks whether the promises hold. At the end all that home has must be
// at dc, and what rotted and somebody has must be whole.
func (w *world) check(end bool) {
	list, err := w.dc.d.List(w.t.Context(), catalog.ListOptions{Namespace: "copies"})
	if err != nil && len(w.backups) > 0 && end {
		w.t.Fatal(err)
	}
	there := map[naming.Snapshot]bool{}
	var need int64
	counted := map[int]bool{}
	for _, i := range list {
		s := i.Snapshot()
		if !i.Finished() {
			continue
		}
		there[s] = true
		seeds := w.backups[s]
		hit := slices.ContainsFunc(seeds, func(n int) bool { return w.rotten[n] && !(end && w.somebodyHas(n)) })
		if err := w.dc.holds("copies", s, seeds); err != nil && !hit {
			w.t.Errorf("%s at dc is not what was backed up: %v", s, err)
		}
	}
	for _, seeds := range w.backups {
		for _, n := range seeds {
			if !counted[n] {
				counted[n] = true
				need += int64(len(chunk(n).Blob))
			}
		}
	}
	for n := range w.rotten { // each may be fetched once more; it may rot again
		need += int64(strings.Count(strings.Join(w.story, "\n"), fmt.Sprintf("chunk %d rots", n))) * int64(len(chunk(n).Blob))
	}
	if need += w.lapsed; w.fetched > need {
		w.t.Errorf("dc fetched %d bytes, and was never without more than %d", w.fetched, need)
	}
	if now := w.inventory(); now != w.own {
		w.t.Errorf("what is none of the job's business was\n%s\nand is\n%s", w.own, now)
	}
	if !end {
		return
	}
	here, err := w.home.d.List(w.t.Context(), catalog.ListOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, i := range here {
		if s := i.Snapshot(); !there[s] {
			w.t.Errorf("%s is at home, and not at dc after a run without faults", s)
		}
	}
}

// somebodyHas reports whether a chunk can be had whole from home or mirror.
func (w *world) somebodyHas(n int) bool {
	d := chunk(n).Digest
	for _, s := range []*site{w.home, w.mirror} {
		if _, err := s.d.Chunks().Get(context.Background(), d, nil); err == nil {
			return true
		}
	}
	return false
}
