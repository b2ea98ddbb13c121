package vanish

import (
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
)

func TestAbsenceTakesPassesAndTime(t *testing.T) {
	day := 24 * time.Hour
	for _, tt := range []struct {
		name string
		at   []time.Duration // of the passes
		seen int             // the pass in which it is there, 0: none
		goes bool
	}{
		{"two days, three passes", []time.Duration{0, day, 2 * day}, 0, true},
		{"two passes are too few", []time.Duration{0, 3 * day}, 0, false},
		{"one day is too short", []time.Duration{0, day / 2, day}, 0, false},
		{"many passes of one minute count as one", []time.Duration{0, time.Minute, 2 * time.Minute, 3 * time.Minute, 4 * time.Minute}, 0, false},
		{"once a week", []time.Duration{0, 7 * day, 14 * day}, 0, true},
		{"a clock that jumps by years makes a day", []time.Duration{0, 1000 * day, 1000*day + time.Hour}, 0, false},
		{"a clock that goes back", []time.Duration{2 * day, day, 0, 2 * time.Hour}, 0, false},
		{"it came back in between", []time.Duration{0, day, 2 * day, 3 * day}, 2, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mem := disktest.NewMem()
			var a Absent
			for i, at := range tt.at {
				m, err := Open(mem, "/d/job.json") // each pass may be another process
				if err != nil {
					t.Fatal(err)
				}
				absent := []string{"vm/1"}
				if tt.seen == i+1 {
					absent = nil
				}
				if err := m.Pass(time.Unix(1e9, 0).Add(at), absent); err != nil {
					t.Fatal(err)
				}
				a = m.Rows["vm/1"]
			}
			if why := (Rules{}).Waits(a); (why == "") != tt.goes {
				t.Errorf("after %+v: %q", a, why)
			}
		})
	}
}

func TestDamagedMemoryBeginsAnew(t *testing.T) {
	mem := disktest.NewMem()
	m, err := Open(mem, "/d/job.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Pass(time.Unix(1e9, 0), []string{"a"}); err != nil {
		t.Fatal(err)
	}
	mem.FlipBit("/d/job.json", 0)
	if m, err = Open(mem, "/d/job.json"); err != nil || len(m.Rows) != 0 {
		t.Errorf("%+v, %v", m.Rows, err)
	}
}

func TestBreaker(t *testing.T) {
	b := Breaker{Total: 40}
	n := 0
	for ; b.Trips("vm/1") == ""; n++ {
		b.Gone("vm/1")
	}
	if n != 4 {
		t.Errorf("%d of 40 go, want a tenth", n)
	}
	b, n = Breaker{Total: 1000}, 0
	for ; b.Trips(string(rune('a'+n))) == ""; n++ {
		b.Gone(string(rune('a' + n)))
	}
	if n != 5 || b.Trips("a") != "" {
		t.Errorf("something of %d groups goes, want 5, and more of these", n)
	}
}
