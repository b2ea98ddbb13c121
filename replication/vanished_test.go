package replication_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/replication"
	"github.com/holdfast-mesh/holdfast/replication/plan"
	"github.com/holdfast-mesh/holdfast/replication/wire"
)

// Every filter with every guard, signed or not, with a trash or without one: what
// the source has no more goes only if it signed that, the filters choose it, and no
// guard keeps it; and where there is a trash it can be taken back.
func TestVanishedCrossed(t *testing.T) {
	groups := []string{"vm/1", "vm/2", "ct/1"}
	lists := map[string][]string{
		"":               groups,
		"type:vm":        {"vm/1", "vm/2"},
		"exclude:vm/1":   {"vm/2", "ct/1"},
		"vm but not 2":   {"vm/1"},
		"nothing chosen": nil,
	}
	texts := map[string][]string{
		"": nil, "type:vm": {"type:vm"}, "exclude:vm/1": {"exclude:group:vm/1"},
		"vm but not 2": {"type:vm", "exclude:group:vm/2"}, "nothing chosen": {"group:host/none"},
	}
	guards := map[string][]string{"no guard": nil, "vm/1 frozen": {"vm/1"}, "all kept for years": groups}
	for filter, chosen := range lists {
		for guard, kept := range guards {
			for _, signed := range []bool{true, false} {
				for _, delay := range []time.Duration{0, 24 * time.Hour} {
					t.Run(fmt.Sprintf("%s/%s/signed=%v/trash=%v", filter, guard, signed, delay), func(t *testing.T) {
						home, dc := newSite(t, "home"), newSite(t, "dc")
						for _, g := range groups {
							home.backUp("", at(g, 0), owner, 1)
							home.backUp("", at(g, 1), owner, 2)
						}
						l := home.serve(nil)
						defer l.close()
						src := home.source(l, nil)
						_, err := puller(t, dc, &taskLog{}, src).Run(t.Context(), job(plan.Options{To: "copies"}))
						must(t, err)
						for _, g := range groups {
							must(t, home.d.Forget(t.Context(), "", at(g, 0)))
						}
						wait := catalog.Duration(delay)
						must(t, dc.d.SetSettings(catalog.Settings{TrashDelay: &wait}))
						switch len(kept) {
						case 1:
							must(t, dc.d.SetGuard(catalog.Guard{Frozen: filters(t, "group:vm/1")}))
						case 3:
							must(t, dc.d.SetGuard(catalog.Guard{MinRetention: catalog.Duration(50 * 365 * 24 * time.Hour)}))
						}
						log := &taskLog{}
						j := job(plan.Options{To: "copies", RemoveVanished: true, Filters: filters(t, texts[filter]...)})
						passes(t, dc, src, j, log, 3, func(wire.Snapshot) bool { return signed })
						for _, g := range groups {
							goes := signed && has(chosen, g) && !has(kept, g)
							list, err := dc.d.Snapshots(t.Context(), "copies", group(g))
							must(t, err)
							if gone := len(list) == 1; gone != goes || len(list) == 0 {
								t.Errorf("%s has %d snapshots; the older one had to go: %v\n%s", g, len(list), goes, log)
							}
							if goes {
								undone(t, dc, g, delay > 0)
							}
						}
					})
				}
			}
		}
	}
}

func has(list []string, s string) bool {
	return strings.Contains(" "+strings.Join(list, " ")+" ", " "+s+" ")
}

// undone fails unless the oldest snapshot of a group can be taken back, or cannot
// since what is in the trash has ended its time.
func undone(t *testing.T, dc *site, g string, back bool) {
	t.Helper()
	if _, err := dc.d.EmptyTrash(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if err := dc.d.Undo(t.Context(), "copies", at(g, 0)); (err == nil) != back {
		t.Errorf("%s is taken back: %v, and that had to be possible: %v", g, err, back)
	}
}

// A namespace that the source has no more goes when nothing is left in it, after as
// many passes as a snapshot, and if the owner of the job may remove it. Those that
// are not in the scope of the job stay.
func TestVanishedNamespaces(t *testing.T) {
	for _, tt := range []struct {
		name string
		days int
		may  bool
		copy bool // it has a copy that nobody signed away
		want string
	}{
		{"after three passes over two days", 3, true, false, "beside copies copies/a"},
		{"not after two", 2, true, false, "beside copies copies/a copies/b copies/b/c"},
		{"not without the right", 3, false, false, "beside copies copies/a copies/b copies/b/c"},
		{"not with something in it", 3, true, true, "beside copies copies/a copies/b copies/b/c"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			home, dc := newSite(t, "home"), newSite(t, "dc")
			for _, ns := range []naming.Namespace{"a", "b", "b/c"} {
				must(t, home.d.CreateNamespace(ns))
			}
			home.backUp("a", at("vm/1", 0), owner, 1)
			if tt.copy {
				home.backUp("b/c", at("vm/1", 0), owner, 1)
			}
			l := home.serve(nil)
			defer l.close()
			src := home.source(l, nil)
			_, err := puller(t, dc, &taskLog{}, src).Run(t.Context(), job(plan.Options{To: "copies"}))
			must(t, err)
			must(t, dc.d.CreateNamespace("beside"))
			must(t, home.d.RemoveNamespace(t.Context(), "b", true))
			j := job(plan.Options{To: "copies", RemoveVanished: true})
			j.MayMake = func(naming.Namespace) bool { return tt.may }
			log := &taskLog{}
			passes(t, dc, src, j, log, tt.days, func(wire.Snapshot) bool { return false })
			all, err := dc.d.Namespaces(t.Context(), "", -1)
			must(t, err)
			var names []string
			for _, ns := range all {
				if ns != "" {
					names = append(names, string(ns))
				}
			}
			if got := strings.Join(names, " "); got != tt.want {
				t.Errorf("there is %s, want %s\n%s", got, tt.want, log)
			}
		})
	}
}

// What belongs into a namespace that the owner of the job may not make is left, and
// an error; the rest comes all the same, and nothing that is here counts as vanished.
func TestNamespaceThatMayNotBeMade(t *testing.T) {
	home, dc := newSite(t, "home"), newSite(t, "dc")
	home.backUp("", at("vm/1", 0), owner, 1)
	for _, ns := range []naming.Namespace{"a", "b", "b/c"} {
		must(t, home.d.CreateNamespace(ns))
		home.backUp(string(ns), at("vm/1", 0), owner, 2)
	}
	l := home.serve(nil)
	defer l.close()
	log := &taskLog{}
	j := job(plan.Options{To: "copies"})
	j.MayMake = func(ns naming.Namespace) bool { return ns != "copies/b" }
	r, err := puller(t, dc, log, home.source(l, nil)).Run(t.Context(), j)
	if !errors.Is(err, replication.ErrSome) || r.Pulled != 2 || len(r.Errors) != 1 || !strings.Contains(log.String(), "namespace 'copies/b' is not there, and root@pam may not make it") {
		t.Errorf("%v, %+v\n%s", err, r, log)
	}
	for ns, want := range map[naming.Namespace]bool{"copies": true, "copies/a": true, "copies/b": false, "copies/b/c": false} {
		if there, err := dc.d.HasNamespace(ns); err != nil || there != want {
			t.Errorf("%s is there: %v, %v", ns, there, err)
		}
	}
}
