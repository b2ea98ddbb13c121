package cluster

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/node/cluster/orphans"
	"github.com/holdfast-mesh/holdfast/node/keyfile"
)

// What was changed in a part of the ledger that has ended is looked for in the ledger of
// now, and what is not there is told, also after a restart, until somebody has seen to it.
// An old majority that came back once lost its users and datastores without a word.
func TestEnded(t *testing.T) {
	cfg := made(t, Founding{})
	raised := alarmed{all: map[string]string{}}
	cfg.Alarm = raised.raise
	c := opened(t, cfg)
	stop := running(t, c)
	for _, name := range []string{"kept", "also"} {
		_, err := c.client.Do(t.Context(), "root@pam", "", ledger.KindChange, ledger.Change{Ops: []ledger.Op{ledger.Sites.Put(name, 0, ledger.Site{})}})
		must(t, err)
	}
	all := orphans.Of(c.View())
	if n := len(all); n < 2 || all[n-2].What != "sites/kept" || all[n-1].Actor != "root@pam" {
		t.Fatalf("%+v", all)
	}
	c.ended("1") // all that it had is in the ledger of now
	must(t, c.judgeOnce(t.Context()))
	if left, err := c.Orphans(); len(left) != 0 || err != nil || len(raised.all) != 0 {
		t.Errorf("%+v, %v, %v", left, err, raised.all)
	}

	lost := slices.Clone(all[len(all)-2:])
	for i := range lost { // another history has other roots
		lost[i].Root, lost[i].What = strings.Repeat("00", 32), "datastores/"+c.Self()+"/lone"
	}
	must(t, orphans.Write(c.orphansFile(), []orphans.Part{{Ended: 5, Dir: "raft.orphan-1", Changes: append(slices.Clone(all), lost...)}}))
	stop()
	c = opened(t, cfg)
	running(t, c)
	must(t, c.group.Linear(t.Context()))
	must(t, c.judgeOnce(t.Context()))
	left, err := c.Orphans()
	if len(left) != 1 || !slices.Equal(left[0].Changes, lost) || err != nil {
		t.Errorf("%+v, %v", left, err)
	}
	if text := raised.all["orphans"]; !strings.Contains(text, "2 changes") || !strings.HasSuffix(text, ": datastores/"+c.NameOf(c.Self())+"/lone") {
		t.Errorf("%v", raised.all)
	}
	must(t, c.judgeOnce(t.Context())) // what is judged stays
	must(t, c.ForgetOrphans())
	if left, err := c.Orphans(); len(left) != 0 || err != nil || raised.all["orphans"] != "" {
		t.Errorf("%+v, %v, %v", left, err, raised.all)
	}
}

// Of two recoveries the one that was overtaken was told as CRITICAL, as a change that was
// lost, where nothing else was: it is what operators signed so that one part goes on.
func TestARecoveryIsNoLostChange(t *testing.T) {
	cfg := made(t, Founding{})
	c := opened(t, cfg)
	operator, err := keyfile.Read(filepath.Join(filepath.Dir(cfg.Dir), "operator.key"))
	must(t, err)
	running(t, c)
	must(t, c.group.Linear(t.Context()))
	for i, kind := range []uint8{authority.Recover, authority.AddGrant} {
		var body any = authority.Recovery{Incarnation: 2, Base: c.self, Reason: "test"}
		if kind == authority.AddGrant {
			body = authority.Grant{Key: authority.Key{1}, Token: [8]byte{1}, Role: "full", Uses: 1, Expires: 1 << 40}
		}
		before := len(orphans.Of(c.View()))
		chain := c.Chain()
		must(t, c.Believe(chain.Sign(chain.Draft(kind, body), operator)))
		must(t, c.offerOnce(t.Context()))
		if all := orphans.Of(c.View()); len(all) != before+i {
			t.Errorf("behind a link of the kind %d there are %+v", kind, all[before:])
		}
	}
}

// Behind a second loss status counted the changes of only that one, and showed the time
// of the first.
func TestASecondLossIsTold(t *testing.T) {
	cfg := made(t, Founding{})
	raised, told := alarmed{all: map[string]string{}}, 0
	cfg.Alarm = func(key, text, hint string) {
		if key == "orphans" && text != "" && raised.text(key) == "" {
			told++ // one that is new, and so has the time of now
		}
		raised.raise(key, text, hint)
	}
	c := opened(t, cfg)
	running(t, c)
	must(t, c.group.Linear(t.Context()))
	lose := func(what ...string) {
		t.Helper()
		all, err := orphans.Read(c.orphansFile())
		must(t, err)
		part := orphans.Part{Ended: 5, Dir: "raft.orphan"}
		for _, w := range what {
			part.Changes = append(part.Changes, orphans.Change{Index: 1 << 40, What: w, Root: strings.Repeat("00", 32)})
		}
		must(t, orphans.Write(c.orphansFile(), append(all, part)))
		must(t, c.judgeOnce(t.Context()))
		must(t, c.judgeOnce(t.Context()))
	}
	lose("sites/a", "sites/b")
	lose("sites/c")
	if text := raised.text("orphans"); !strings.Contains(text, " 3 changes") || !strings.HasSuffix(text, ": sites/c, sites/a, sites/b") || told != 2 {
		t.Errorf("told %d times, %q", told, text)
	}
}
