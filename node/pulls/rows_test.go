package pulls_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// What the log of a run says, and in which order: rows 17 to 19 of the list of
// features. Copies belong to whom the job says (row 21), and are not protected
// because the original is (row 25).
func TestRows(t *testing.T) {
	t.Parallel()
	m := newMesh()
	home, dc := m.node(t, "home"), m.node(t, "dc")
	home.back(1000, "a:vm/100/1", "a:vm/100/2", "a:ct/7/1")
	first := naming.Snapshot{Group: naming.Group{Type: naming.CT, ID: "7"}}
	list, err := home.main().Snapshots(t.Context(), "a", first.Group)
	if err != nil {
		t.Fatal(err)
	}
	if err := home.main().SetProtected("a", list[0], true); err != nil {
		t.Fatal(err)
	}
	dc.AddUser(t, "sync@pbs")
	if err := dc.main().CreateNamespace("copies"); err != nil { // which sync@pbs may not
		t.Fatal(err)
	}
	dc.set(settings.SyncJob{ID: "rows", Store: "main", Remote: "home", RemoteStore: "main", RemoteNS: "a", NS: "copies", Owner: "sync@pbs", GroupFilter: []string{"type:vm", "type:ct"}})
	home.back(1000, "a:host/left/1")
	log, state := dc.do("rows")
	inOrder(t, log, "Starting datastore sync job 'home:main:main:copies:rows'", "namespace 'a') to namespace 'copies'",
		"found 2 groups to sync (out of 3 total)", "sync snapshot", "percentage done: 50.00% (1/2 groups)", "percentage done: 100.00% (2/2 groups)",
		"Summary: sync job pulled", "3 snapshots", "sync job 'rows' end", "queued notification (id=UPID:")
	if state != "OK" || !strings.Contains(log, "TASK OK") {
		t.Errorf("it ended as %s:\n%s", state, log)
	}
	again, state := dc.do("rows")
	if inOrder(t, again, "Summary: sync job found no new data to pull", "TASK OK"); state != "OK" {
		t.Errorf("with nothing new it ended as %s", state)
	}
	info, err := dc.main().Manifest("copies", list[0])
	if err != nil {
		t.Fatal(err)
	}
	if owner, err := dc.main().Owner("copies", first.Group); owner != "sync@pbs" || err != nil {
		t.Errorf("the copies belong to %q, %v", owner, err)
	}
	if kept, err := dc.main().Protected("copies", list[0]); kept || err != nil || info.Snapshot() != list[0] {
		t.Errorf("%s is protected here, since it is at home: %v", list[0], err)
	}
}

func inOrder(t *testing.T, text string, parts ...string) {
	t.Helper()
	rest := text
	for _, p := range parts {
		_, after, is := strings.Cut(rest, p)
		if !is {
			t.Fatalf("%q is not there, or not in its place:\n%s", p, text)
		}
		rest = after
	}
}

// With several workers each line says of which group it is, and the lines of a
// snapshot stay together (row 31).
func TestWorkersKeepTheirLinesTogether(t *testing.T) {
	t.Parallel()
	m := newMesh()
	home, dc := m.node(t, "home"), m.node(t, "dc")
	for g := range 8 {
		home.back(1000, fmt.Sprintf("vm/%d/1", 100+g), fmt.Sprintf("vm/%d/2", 100+g))
	}
	dc.set(settings.SyncJob{ID: "many", Store: "main", Remote: "home", RemoteStore: "main", WorkerThreads: 32})
	log, state := dc.do("many")
	groups := map[string]int{}
	var ends []string
	for line := range strings.Lines(log) {
		if _, after, is := strings.Cut(line, "["); is && strings.Contains(line, "vm/") {
			group, _, _ := strings.Cut(after, "]")
			if groups[group]++; strings.Contains(line, "percentage done") {
				ends = append(ends, group)
			}
		}
	}
	for g := range 8 {
		name := fmt.Sprintf("vm/%d", 100+g)
		if groups[name] != 3 || !slices.Contains(ends, name) { // two snapshots and how far it is
			t.Errorf("%d lines are of %s", groups[name], name)
		}
	}
	if state != "OK" {
		t.Errorf("%s\n%s", state, log)
	}
}
