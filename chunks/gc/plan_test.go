package gc

import (
	"encoding/json"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

func TestChoose(t *testing.T) {
	nothing, punch, clone := pack.Abilities{}, pack.Abilities{Punch: true}, pack.Abilities{Clone: true}
	both := pack.Abilities{Punch: true, Clone: true}
	for _, row := range []struct {
		name   string
		live   int64 // of 100 bytes and 100 entries
		can    pack.Abilities
		urgent bool
		want   pack.Method
	}{
		{name: "nothing is dead: keep", live: 100, can: both, urgent: true, want: pack.Keep},
		{name: "all is dead: drop, whatever else is possible", live: 0, can: both, want: pack.Drop},
		{name: "all is dead: drop, even if nothing is possible", live: 0, can: nothing, want: pack.Drop},
		{name: "one entry is dead: punch", live: 99, can: punch, want: pack.Punch},
		{name: "punching needs less than sharing", live: 50, can: both, want: pack.Punch},
		{name: "sharing is worth it below 95 %", live: 94, can: clone, want: pack.Reflink},
		{name: "sharing is not worth it at 95 %", live: 95, can: clone, want: pack.Keep},
		{name: "copying is worth it below one half", live: 49, can: nothing, want: pack.Copy},
		{name: "copying is not worth it at one half", live: 50, can: nothing, want: pack.Keep},
		{name: "copying is worth it below 80 % if space is short", live: 79, can: nothing, urgent: true, want: pack.Copy},
		{name: "copying is not worth it at 80 % even so", live: 80, can: nothing, urgent: true, want: pack.Keep},
	} {
		t.Run(row.name, func(t *testing.T) {
			u := pack.Usage{Entries: 100, Dead: uint32(100 - row.live), LiveBytes: row.live, DeadBytes: 100 - row.live}
			if got := choose(u, row.can, row.urgent); got != row.want {
				t.Errorf("%s, want %s", got, row.want)
			}
		})
	}
	t.Run("an empty husk is dropped", func(t *testing.T) {
		if got := choose(pack.Usage{}, nothing, false); got != pack.Drop {
			t.Error(got)
		}
	})
}

func TestPlanIsAValueInOrderOfWork(t *testing.T) {
	var packs watermark
	for n := range uint32(7) {
		packs = append(packs, pack.Info{Number: n, Sealed: n != 4 && n != 6})
	}
	usage := map[uint32]pack.Usage{
		0: {Entries: 4, Dead: 3, LiveBytes: 10, DeadBytes: 30}, // copy
		1: {Entries: 4, Dead: 4, DeadBytes: 40},                // drop
		2: {Entries: 4, LiveBytes: 40},                         // nothing to do
		3: {Entries: 4, Dead: 1, LiveBytes: 30, DeadBytes: 10}, // not worth it
		4: {Entries: 4, Dead: 1, LiveBytes: 10, DeadBytes: 9},  // open
		5: {Entries: 5, Dead: 5, DeadBytes: 50},                // drop, and more of it
		6: {Entries: 4, Dead: 3, LiveBytes: 10, DeadBytes: 20}, // open, and most of it is dead
		9: {Entries: 1, LiveBytes: 10},                         // newer than the collection
	}
	b, err := json.Marshal(plan(7, packs, usage, pack.Abilities{}, false))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"epoch":7,"packs":[` +
		`{"pack":5,"method":"drop","live-chunks":0,"dead-chunks":5,"live-bytes":0,"dead-bytes":50},` +
		`{"pack":1,"method":"drop","live-chunks":0,"dead-chunks":4,"live-bytes":0,"dead-bytes":40},` +
		`{"pack":0,"method":"copy","live-chunks":1,"dead-chunks":3,"live-bytes":10,"dead-bytes":30},` +
		`{"pack":6,"method":"copy","live-chunks":1,"dead-chunks":3,"live-bytes":10,"dead-bytes":20},` +
		`{"pack":3,"method":"keep","live-chunks":3,"dead-chunks":1,"live-bytes":30,"dead-bytes":10},` +
		`{"pack":4,"method":"keep","live-chunks":3,"dead-chunks":1,"live-bytes":10,"dead-bytes":9}],` +
		`"live-chunks":13,"live-bytes":110,"dead-chunks":17,"dead-bytes":159,"free-bytes":140,"copy-bytes":20}`
	if string(b) != want {
		t.Errorf("plan is\n%s, want\n%s", b, want)
	}
}
