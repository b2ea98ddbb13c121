package replication_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/verify"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
	"github.com/holdfast-mesh/holdfast/replication"
	"github.com/holdfast-mesh/holdfast/replication/plan"
	"github.com/holdfast-mesh/holdfast/replication/rate"
	"github.com/holdfast-mesh/holdfast/replication/swarm"
)

func TestCopiesAreTheSame(t *testing.T) {
	home, dc := newSite(t, "home"), newSite(t, "dc")
	for day := range 3 {
		home.backUp("", at("vm/100", day), "alice@pbs", 1, 2, uint64(10+day))
		home.backUp("a/b", at("ct/7", day), "bob@pbs", 2, 3, uint64(20+day))
	}
	l := home.serve(nil)
	defer l.close()
	log := &taskLog{}
	p := puller(t, dc, log, home.source(l, nil))
	report, err := p.Run(t.Context(), job(plan.Options{To: "copies/home"}))
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	for day := range 3 {
		dc.same("copies/home", home, "", at("vm/100", day))
		dc.same("copies/home/a/b", home, "a/b", at("ct/7", day))
	}
	if report.Pulled != 6 || report.Groups != 2 || report.Swarm.Fetched != 9 {
		t.Errorf("report is %+v, want 6 snapshots of 2 groups, and each of 9 chunks once", report)
	}
	again, err := p.Run(t.Context(), job(plan.Options{To: "copies/home"}))
	if err != nil || again.Pulled+again.Renewed != 0 || again.Swarm.Fetched != 0 || again.FilesSize != 0 {
		t.Errorf("a second pull did %+v (%v), want nothing", again, err)
	}
	if want := "Summary: sync job found no new data to pull"; !strings.Contains(log.String(), want) {
		t.Errorf("the log does not say %q:\n%s", want, log)
	}
}

func TestOnlyWhatIsMissingIsFetched(t *testing.T) {
	home, dc := newSite(t, "home"), newSite(t, "dc")
	home.backUp("", at("vm/100", 0), owner, 1, 2, 3, 4)
	dc.backUp("other", at("host/x", 0), owner, 2, 4)
	l := home.serve(nil)
	defer l.close()
	p := puller(t, dc, &taskLog{}, home.source(l, nil))
	report, err := p.Run(t.Context(), job(plan.Options{}))
	must(t, err)
	if report.Swarm.Fetched != 2 {
		t.Errorf("%d chunks were fetched, want the 2 that were not here", report.Swarm.Fetched)
	}
	dc.same("", home, "", at("vm/100", 0))
}

func TestSeveralSourcesShareTheWork(t *testing.T) {
	seeds := make([]uint64, 400)
	for i := range seeds {
		seeds[i] = uint64(1000 + i)
	}
	home, third, dc := newSite(t, "home"), newSite(t, "third"), newSite(t, "dc")
	home.backUp("", at("vm/100", 0), owner, seeds...)
	third.backUp("x", at("vm/1", 0), owner, seeds[:300]...)
	a, b := home.serve(nil), third.serve(nil)
	defer a.close()
	defer b.close()
	log := &taskLog{}
	slow := func() *rate.Bucket { return rate.New(nil, rate.Fixed(rate.Limit{Rate: 2 << 20, Burst: 64 << 10})) }
	p := puller(t, dc, log, home.source(a, slow()), third.source(b, slow()))
	report, err := p.Run(t.Context(), job(plan.Options{}))
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	dc.same("", home, "", at("vm/100", 0))
	by := report.Swarm.BySource
	if by[0].Chunks+by[1].Chunks != 400 || by[0].Chunks < 100 || by[1].Chunks == 0 || report.Swarm.Twice > 0 {
		t.Errorf("sources gave %+v, want 400 chunks together, the 100 of which home is the only holder from home", by)
	}
}

// A lying connection flips one bit in most of what a stream carries.
type lying struct {
	net.Conn
}

func (c *lying) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 500 { // an answer to a question for chunks: heads and catalogues are smaller here
		p[n-1] ^= 1
	}
	return n, err
}

func TestLyingPeerIsNamedAndNothingOfItStays(t *testing.T) {
	seeds := []uint64{51, 52, 53, 54, 55, 56, 57, 58}
	home, liar, dc := newSite(t, "home"), newSite(t, "liar"), newSite(t, "dc")
	home.backUp("", at("vm/100", 0), owner, seeds...)
	liar.backUp("", at("vm/9", 0), owner, seeds...)
	a, b := home.serve(nil), liar.serve(nil)
	defer a.close()
	defer b.close()
	b.wrap = func(c net.Conn) net.Conn { return &lying{Conn: c} }
	log := &taskLog{}
	p := puller(t, dc, log, home.source(a, nil), liar.source(b, nil))
	report, err := p.Run(t.Context(), job(plan.Options{}))
	must(t, err)
	dc.same("", home, "", at("vm/100", 0))
	if by := report.Swarm.BySource; by[0].Bad != 0 || by[1].Chunks > 0 {
		t.Errorf("sources are %+v, want nothing from the liar", by)
	}
	if report.Swarm.BySource[1].Bad > 0 && !strings.Contains(log.String(), "WARNING: liar:main sent") {
		t.Errorf("the log does not name the liar:\n%s", log)
	}
}

func TestLiarAloneGivesNothing(t *testing.T) {
	home, dc := newSite(t, "home"), newSite(t, "dc")
	home.backUp("", at("vm/100", 0), owner, 61, 62, 63, 64, 65)
	a := home.serve(nil)
	defer a.close()
	good := home.source(a, nil)
	b := home.serve(nil)
	defer b.close()
	b.wrap = func(c net.Conn) net.Conn { return &lying{Conn: c} }
	p := puller(t, dc, &taskLog{}, onlyChunks{good, home.source(b, nil)})
	report, err := p.Run(t.Context(), job(plan.Options{}))
	if err == nil || report.Pulled != 0 || report.Swarm.BySource[0].Bad < 3 || !report.Swarm.BySource[0].Dropped {
		t.Errorf("pull from a liar: %v, %+v", err, report)
	}
	if list, _ := dc.d.Snapshots(t.Context(), "", group("vm/100")); len(list) > 0 {
		t.Errorf("%v can be seen, which is not whole", list)
	}
}

// onlyChunks takes chunks from another source than all else.
type onlyChunks struct {
	replication.Source
	chunks replication.Source
}

func (o onlyChunks) Open(ctx context.Context) (swarm.Stream, error) {
	return o.chunks.Open(ctx)
}

func TestPeerGivesNoMoreThanItMay(t *testing.T) {
	home, dc := newSite(t, "home"), newSite(t, "dc")
	home.backUp("open", at("vm/1", 0), owner, 1, 2)
	home.backUp("secret", at("vm/2", 0), owner, 2, 3)
	l := home.serve(func(ns naming.Namespace) bool { return ns == "" || ns == "open" })
	defer l.close()
	src := home.source(l, nil)
	p := puller(t, dc, &taskLog{}, src)
	report, err := p.Run(t.Context(), job(plan.Options{}))
	must(t, err)
	if report.Pulled != 1 {
		t.Errorf("%d snapshots were pulled, want the one that may be read", report.Pulled)
	}
	dc.same("open", home, "open", at("vm/1", 0))
	have, err := src.Have(t.Context(), digests(1, 2, 3))
	if err != nil || !slices.Equal(have, []bool{true, true, false}) {
		t.Errorf("peer says that it has %v (%v); chunk 3 is of a snapshot that may not be read", have, err)
	}
	st, err := src.Open(t.Context())
	must(t, err)
	defer st.Close()
	must(t, st.Ask(digests(3)))
	a, err := st.Next(func(n int) ([]byte, error) { return make([]byte, n), nil })
	if err != nil || a.Err == nil {
		t.Errorf("peer gave a chunk of a snapshot that may not be read: %v", err)
	}
	home.backUp("open", at("vm/1", 1), owner, 3)
	if have, err = src.Have(t.Context(), digests(3)); err != nil || !have[0] {
		t.Errorf("peer does not have what a new snapshot names: %v %v", have, err)
	}
	must(t, home.d.Forget(t.Context(), "open", at("vm/1", 1)))
	if have, err = src.Have(t.Context(), digests(3)); err != nil || have[0] {
		t.Errorf("peer still has what a forgotten snapshot named: %v %v", have, err)
	}
}

// However often the link breaks, a pull ends, and what had arrived is not
// fetched again but for what was under way.
func TestPullGoesOnOverABrokenLink(t *testing.T) {
	seeds := make([]uint64, 600)
	for i := range seeds {
		seeds[i] = uint64(3000 + i)
	}
	home, dc := newSite(t, "home"), newSite(t, "dc")
	home.backUp("", at("vm/100", 0), owner, seeds...)
	l := home.serve(nil)
	defer l.close()
	ctx, stop := context.WithCancel(t.Context())
	cutting := make(chan struct{})
	go func() {
		defer close(cutting)
		for dc.d.Chunks().Len() == 0 && ctx.Err() == nil { // what there is, is asked only twice
			time.Sleep(time.Millisecond)
		}
		for range 5 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(150 * time.Millisecond):
				l.cut()
			}
		}
	}()
	p := puller(t, dc, &taskLog{}, home.source(l, rate.New(nil, rate.Fixed(rate.Limit{Rate: 2 << 20, Burst: 64 << 10}))))
	report, err := p.Run(t.Context(), job(plan.Options{}))
	stop()
	<-cutting
	must(t, err)
	dc.same("", home, "", at("vm/100", 0))
	if report.Swarm.Fetched != 600 || report.Swarm.Twice > 0 {
		t.Errorf("transfer was %+v, want each of 600 chunks once", report.Swarm)
	}
}

// A pull that is cancelled, or whose process is killed, leaves no snapshot that
// can be seen, and the next one goes on where it was.
func TestPullGoesOnAfterACut(t *testing.T) {
	for _, killed := range []bool{false, true} {
		seeds := make([]uint64, 400)
		for i := range seeds {
			seeds[i] = uint64(5000 + i)
		}
		home, dc := newSite(t, "home"), newSite(t, "dc")
		home.backUp("", at("vm/100", 0), owner, seeds...)
		l := home.serve(nil)
		slow := rate.New(nil, rate.Fixed(rate.Limit{Rate: 2 << 20, Burst: 64 << 10}))
		ctx, stop := context.WithCancel(t.Context())
		m := &meter{until: 800_000, at: stop} // of 1.7 MB
		l.wrap = func(c net.Conn) net.Conn { return metered{c, m} }
		p := puller(t, dc, &taskLog{}, home.source(l, slow))
		first, err := p.Run(ctx, job(plan.Options{}))
		stop()
		if err == nil || first.Swarm.Fetched == 0 || first.Swarm.Fetched == 400 {
			t.Fatalf("the first pull was not cut: %v, %+v", err, first.Swarm)
		}
		if list, err := dc.d.List(t.Context(), catalog.ListOptions{Depth: -1}); err != nil || len(list) > 0 {
			t.Errorf("%v can be seen (%v)", list, err)
		}
		if killed {
			dc.mem = dc.mem.CrashLosing()
			dc.open()
			p = puller(t, dc, &taskLog{}, home.source(l, nil))
		}
		if _, err := dc.d.Collect(t.Context(), gc.Options{}); err != nil {
			t.Error(err)
		}
		second, err := p.Run(t.Context(), job(plan.Options{}))
		must(t, err)
		dc.same("", home, "", at("vm/100", 0))
		if n := first.Swarm.Fetched + second.Swarm.Fetched; n != 400 {
			t.Errorf("killed %v: %d chunks were fetched by both pulls, want 400", killed, n)
		}
		l.close()
		if leases := dc.d.Collector().Leases(); len(leases) > 0 {
			t.Errorf("leases are left: %+v", leases)
		}
	}
}

// A power cut takes what arrived in the last seconds and no more: what was made
// durable is not fetched again.
func TestPowerCutTakesLittle(t *testing.T) {
	seeds := make([]uint64, 700)
	for i := range seeds {
		seeds[i] = uint64(7000 + i)
	}
	home, dc := newSite(t, "home"), newSite(t, "dc")
	home.backUp("", at("vm/100", 0), owner, seeds...)
	l := home.serve(nil)
	defer l.close()
	ctx, stop := context.WithCancel(t.Context())
	var after *disktest.Mem
	p, err := replication.New(replication.Config{
		Local: dc.d, Sources: []replication.Source{home.source(l, rate.New(nil, rate.Fixed(rate.Limit{Rate: 2 << 20, Burst: 64 << 10})))},
		Progress: func(p replication.Progress) {
			if p.Chunks > 400 && after == nil {
				after = dc.mem.CrashLosing()
				stop()
			}
		},
	})
	must(t, err)
	if _, err := p.Run(ctx, job(plan.Options{})); err == nil {
		t.Fatal("the pull went well over a power cut")
	}
	stop()
	dc.mem = after
	dc.open()
	second, err := puller(t, dc, &taskLog{}, home.source(l, nil)).Run(t.Context(), job(plan.Options{}))
	must(t, err)
	dc.same("", home, "", at("vm/100", 0))
	if n := second.Swarm.Fetched; n > 700-256 {
		t.Errorf("%d of 700 chunks were fetched again, though more than 400 had come", n)
	}
}

func TestNotesComeLaterAndVerificationStays(t *testing.T) {
	home, dc := newSite(t, "home"), newSite(t, "dc")
	home.backUp("", at("vm/100", 0), owner, 1, 2)
	if _, err := verify.Run(t.Context(), home.d, verify.Options{}); err != nil {
		t.Fatal(err)
	}
	l := home.serve(nil)
	defer l.close()
	p := puller(t, dc, &taskLog{}, home.source(l, nil))
	_, err := p.Run(t.Context(), job(plan.Options{}))
	must(t, err)
	if m, err := dc.d.Manifest("", at("vm/100", 0)); err != nil {
		t.Fatal(err)
	} else if v, ok := m.VerifyState(); ok {
		t.Errorf("what home says of its copy, %q, is said of ours", v.State)
	}
	if _, err := verify.Run(t.Context(), dc.d, verify.Options{}); err != nil {
		t.Fatal(err)
	}
	must(t, home.d.SetNotes("", at("vm/100", 0), "before the upgrade"))
	must(t, home.d.SetProtected("", at("vm/100", 0), true))
	report, err := p.Run(t.Context(), job(plan.Options{}))
	must(t, err)
	m, err := dc.d.Manifest("", at("vm/100", 0))
	must(t, err)
	if v, ok := m.VerifyState(); report.Renewed != 1 || m.Notes() != "before the upgrade" || !ok || !v.OK() {
		t.Errorf("notes are %q, verification %v; report %+v", m.Notes(), v, report)
	}
	if on, err := dc.d.Protected("", at("vm/100", 0)); err != nil || on {
		t.Errorf("the mark of protection was copied (%v)", err)
	}
}

func TestCorruptCopyIsMended(t *testing.T) {
	home, dc := newSite(t, "home"), newSite(t, "dc")
	for day := range 2 {
		home.backUp("", at("vm/100", day), owner, 1, 2, uint64(70+day))
	}
	l := home.serve(nil)
	defer l.close()
	p := puller(t, dc, &taskLog{}, home.source(l, nil))
	_, err := p.Run(t.Context(), job(plan.Options{}))
	must(t, err)
	must(t, dc.d.Close())
	dc.damage(chunk(70).Blob)
	dc.open()
	found, err := verify.Run(t.Context(), dc.d, verify.Options{})
	if err != nil || found.Failed != 1 {
		t.Fatalf("verification found %d damaged snapshots (%v), want 1", found.Failed, err)
	}
	report, err := p2(t, dc, home, l).Run(t.Context(), job(plan.Options{ResyncCorrupt: true}))
	must(t, err)
	if report.Renewed != 1 || report.Swarm.Fetched != 1 {
		t.Errorf("report is %+v, want one chunk fetched and one snapshot mended", report)
	}
	dc.same("", home, "", at("vm/100", 0))
	m, err := dc.d.Manifest("", at("vm/100", 0))
	must(t, err)
	if v, _ := m.VerifyState(); !v.OK() {
		t.Errorf("verification still says %q", v.State)
	}
}

func p2(t *testing.T, dc, home *site, l *link) *replication.Puller {
	return puller(t, dc, &taskLog{}, home.source(l, nil))
}

// What vanished at the source stays unless somebody vouches that it was pruned;
// then it goes to the trash, and never much of it at once.
func TestVanishedIsNoOrder(t *testing.T) {
	home, dc := newSite(t, "home"), newSite(t, "dc")
	for day := range 40 {
		home.backUp("", at("vm/100", day), owner, 1, uint64(100+day))
	}
	home.backUp("", at("ct/1", 0), owner, 1)
	dc.backUp("", at("host/mine", 0), owner, 1)
	l := home.serve(nil)
	defer l.close()
	_, err := p2(t, dc, home, l).Run(t.Context(), job(plan.Options{}))
	must(t, err)
	for day := range 20 {
		must(t, home.d.Forget(t.Context(), "", at("vm/100", day)))
	}
	opt := plan.Options{RemoveVanished: true, Filters: filters(t, "type:vm", "type:ct")}
	report, err := p2(t, dc, home, l).Run(t.Context(), job(opt))
	must(t, err)
	if report.Removed != 0 || report.Kept != 20 {
		t.Errorf("without a word of anybody: %+v", report)
	}
	now := time.Date(2026, 3, 1, 5, 0, 0, 0, time.UTC)
	p, err := replication.New(replication.Config{
		Local: dc.d, Sources: []replication.Source{home.source(l, nil)}, Unsigned: true, Now: func() time.Time { return now },
	})
	must(t, err)
	for day := range 8 {
		pl, err := p.Plan(t.Context(), job(opt))
		must(t, err)
		fates, err := p.Vanishing(t.Context(), job(opt), pl)
		must(t, err)
		report, err = p.Run(t.Context(), job(opt))
		must(t, err)
		going := 0
		for _, f := range fates {
			if f.Keep == "" {
				going++
			}
		}
		if going != report.Removed || len(fates) != 20 || day < 7 && report.Removed != 0 {
			t.Errorf("day %d: of %d, %d were to go, and %d went", day, len(fates), going, report.Removed)
		}
		now = now.Add(24 * time.Hour)
	}
	if report.Removed != 4 || report.Kept != 16 {
		t.Errorf("of 40 snapshots at most a tenth may go in one pass: %+v", report)
	}
	if list, err := dc.d.Trash(); err != nil || len(list) != 4 {
		t.Errorf("the trash has %d (%v), want 4", len(list), err)
	}
	if list, _ := dc.d.Snapshots(t.Context(), "", group("host/mine")); len(list) != 1 {
		t.Error("a group that the filters leave out was touched")
	}
}

func filters(t *testing.T, list ...string) (f naming.Filters) {
	for _, s := range list {
		must(t, f.Set(s))
	}
	return f
}
