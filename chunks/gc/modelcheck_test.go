package gc

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

var (
	soak   = flag.Duration("soak", 0, "explore each scenario, with more of everything, for so long")
	update = flag.Bool("update", false, "write the histories in testdata")
)

const free = unlimited

// scenarios are small worlds, each with another part of what can happen. All
// of them allow backups, forgetting and collecting; a bound of 2 means that
// something may happen twice in one history, and everything may happen in any
// order.
var scenarios = []scenario{
	{
		name: "two backups share chunks with a snapshot that is forgotten", chunks: 2, snapshots: [][]int{{0}}, maxSnapshot: 3,
		backups: 2, packEntries: 2, can: pack.Abilities{Punch: true},
		may: [kinds]int{start: 2, add: free, check: free, publish: free, abort: free, forget: free, gc: 1},
	},
	{
		name: "a collection is cancelled", chunks: 2, snapshots: [][]int{{0}, {0, 1}}, maxSnapshot: 3,
		backups: 1, packEntries: 2, can: pack.Abilities{Punch: true},
		may: [kinds]int{start: 1, add: free, check: free, publish: free, abort: free, forget: free, gc: 2, cancel: 1},
	},
	{
		name: "crashes in a collection", chunks: 2, snapshots: [][]int{{0}}, maxSnapshot: 2,
		backups: 1, packEntries: 2, can: pack.Abilities{Punch: true},
		may: [kinds]int{start: 1, add: free, commit: 1, check: free, publish: free, forget: free, gc: 2, noSync: 1, crash: 1, resume: free},
	},
	{
		name: "crashes one after the other", chunks: 1, snapshots: [][]int{{0}}, maxSnapshot: 2,
		backups: 1, packEntries: 2, can: pack.Abilities{Punch: true},
		may: [kinds]int{start: 2, add: free, commit: 2, check: free, publish: free, forget: 2, gc: 2, crash: 2, resume: free},
	},
	{
		name: "leases that run out", chunks: 1, snapshots: [][]int{{0}}, maxSnapshot: 2,
		backups: 2, packEntries: 2, can: pack.Abilities{Punch: true},
		may: [kinds]int{start: 2, add: free, commit: 1, check: free, publish: free, forget: 1, gc: 1, crash: 1, resume: free, lapse: 2},
	},
	{
		name: "chunks that move", chunks: 2, snapshots: [][]int{{0, 1}, {0}}, maxSnapshot: 2,
		backups: 1, packEntries: 2, can: pack.Abilities{},
		may: [kinds]int{start: 1, add: free, commit: 1, check: free, publish: free, forget: free, gc: 2, noMove: 1, crash: 1, resume: free},
	},
	{
		name: "a restore goes on while its snapshot is forgotten", chunks: 2, snapshots: [][]int{{0}, {0, 1}}, maxSnapshot: 2,
		backups: 1, packEntries: 1, can: pack.Abilities{Punch: true},
		may: [kinds]int{start: 1, add: free, check: free, publish: free, forget: 2, gc: 2, read: 1, unread: 1, lapse: 1},
	},
	{
		name: "the trash", chunks: 2, snapshots: [][]int{{0}, {1}}, maxSnapshot: 2,
		backups: 1, packEntries: 2, can: pack.Abilities{Punch: true},
		may: [kinds]int{start: 1, add: free, check: free, publish: free, forget: 1, trash: 2, undo: 1, gc: 2},
	},
	{
		name: "a disk that fails", chunks: 1, snapshots: [][]int{{0}}, maxSnapshot: 2,
		backups: 2, packEntries: 2, can: pack.Abilities{Punch: true},
		may: [kinds]int{start: 2, add: free, commit: 1, check: free, publish: free, forget: 1, gc: 1, crash: 1, fail: 1},
	},
	{
		name: "a chunk that is damaged and stored again", chunks: 1, snapshots: [][]int{{0}}, maxSnapshot: 2,
		backups: 1, packEntries: 2, can: pack.Abilities{},
		may: [kinds]int{start: 2, add: free, check: free, publish: free, abort: 1, forget: free, gc: 2, crash: 1, damage: 1},
	},
}

// TestNoHistoryLosesAChunk carries out every history of every scenario, and
// after each op checks that all snapshots are whole, that what a session was
// promised is there, and that one more collection would leave exactly what is
// needed.
func TestNoHistoryLosesAChunk(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(800)) // millions of small worlds
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			begin, limit := time.Now(), 5*time.Minute
			switch {
			case *soak > 0:
				sc, limit = sc.wider(), *soak
			case racing:
				limit = 2 * time.Second
			}
			got := explore(sc, begin.Add(limit))
			t.Logf("%d states, %d histories of up to %d steps, all: %v, in %s", got.states, got.runs, got.depth, got.all, time.Since(begin).Round(time.Millisecond))
			if got.finding != nil {
				t.Fatalf("after this history something is wrong:\n%s", got.finding.script(sc))
			}
			if !got.all && *soak == 0 && !racing {
				t.Error("there was no time for all histories")
			}
		})
	}
}

// wider returns the scenario with room for more, too much for every day.
func (sc scenario) wider() scenario {
	for k := range sc.may {
		if n := &sc.may[k]; *n > 0 && *n < unlimited {
			*n++
		}
	}
	sc.chunks, sc.backups, sc.maxSnapshot = sc.chunks+1, 2, sc.maxSnapshot+1
	return sc
}

// TestPlantedBugsAreFound plants mistakes that lost data elsewhere, or would
// here, and compares the shortest history that shows each with the one that
// people have read.
func TestPlantedBugsAreFound(t *testing.T) {
	everything := scenario{
		chunks: 2, snapshots: [][]int{{0}, {1}}, maxSnapshot: 3, backups: 1, packEntries: 2, can: pack.Abilities{Punch: true},
		may: [kinds]int{start: 1, add: free, check: free, publish: free, abort: free, forget: 1, gc: 1, crash: 1, lapse: 1},
	}
	for _, row := range []struct {
		name, file string
		bug        bug
	}{
		{"PSA-2025-00019-1: what the base snapshot has is not pinned", "trusts-base", trustsBase},
		{"the sweep goes by an earlier look", "sweeps-stale-pins", sweepsStalePins},
		{"finish does not look again", "no-validation", noValidation},
		{"pins end with their session, not with the collection", "no-late-pins", noLatePins},
		{"reclaim does not wait for durable condemnation", "unsynced-condemn", unsyncedCondemn},
		{"a root that moved is not looked for", "lists-once", listsOnce},
		{"chunks move without their pins", "leaves-pins", leavesPins},
	} {
		t.Run(row.name, func(t *testing.T) {
			sc := everything
			sc.bug = row.bug
			switch row.bug {
			case listsOnce:
				sc.may[trash] = 1
			case leavesPins:
				sc.snapshots, sc.can, sc.may[forget], sc.may[gc] = [][]int{{0, 1}, {0}}, pack.Abilities{}, 2, 2
			}
			got := explore(sc, time.Now().Add(5*time.Minute))
			if got.finding == nil {
				t.Fatalf("%d histories of up to %d steps do not show it", got.runs, got.depth)
			}
			script := fmt.Sprintf("%s\n%s", row.name, got.finding.script(sc))
			t.Logf("%d states\n%s", got.states, script)
			golden := filepath.Join("testdata", "histories", row.file+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(script), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil || string(want) != script {
				t.Errorf("history differs from %s (%v); want\n%s", golden, err, want)
			}
		})
	}
}
