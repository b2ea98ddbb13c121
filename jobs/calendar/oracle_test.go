package calendar

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

// happens tells by the letter of the rule whether the event is at wall.
func (e Event) happens(wall time.Time) bool {
	has := func(s set, v int) bool {
		for _, p := range s {
			if v >= p.from && v <= p.to && (v-p.from)%p.step == 0 {
				return true
			}
		}
		return false
	}
	h, m, s := wall.Clock()
	return e.days.has(wall.Weekday()) && has(e.year, wall.Year()) && has(e.month, int(wall.Month())) &&
		has(e.day, wall.Day()) && has(e.hour, h) && has(e.minute, m) && has(e.secs, s)
}

// Next finds what looking at every minute finds, in UTC and, for events of
// every hour, where the clock changes.
func TestNextMissesNothing(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		day := []string{"", "fri..mon ", "tue ", "*-1..9/4 ", "mon 1/2-*/5 ", "2025/2-3,10-20/3 "}[rng.IntN(6)]
		hour, zone := fmt.Sprintf("%d,%d/%d", rng.IntN(24), rng.IntN(24), rng.IntN(9)), time.UTC
		if rng.IntN(2) == 0 {
			hour, zone = "*", berlin
		}
		text := fmt.Sprintf("%s%s:%d/%d", day, hour, rng.IntN(60), rng.IntN(60))
		e, err := Parse(text)
		if err != nil {
			t.Fatalf("Parse(%q): %v", text, err)
		}
		after := time.Date(2026, 3, 20, 0, rng.IntN(1<<20), 0, 0, zone)
		got, ok := e.Next(after)
		const far = 30 * 24 * 60 // minutes
		for n := 1; ; n++ {
			at := after.Add(time.Duration(n) * time.Minute)
			if e.happens(at) {
				if !ok || !got.Equal(at) {
					t.Fatalf("seed %d: %q after %v: %v, %v, want %v", seed, text, after, got, ok, at)
				}
				break
			}
			if n == far {
				if ok && got.Before(at) {
					t.Fatalf("seed %d: %q after %v: %v, but the rule does not hold then", seed, text, after, got)
				}
				break
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"daily", "semi-annually UTC", "mon..fri 8..17/3:30", "2020-7..9-2/2", "*-01..07 04:00", "5,10:4,8", "sat 18:15",
		"*/2-*/3 */5:*/7:*/11", "0..23/2,5:00", "fri..mon,wed", "2-30", "20/99:00", "*:*:*", "2199-12-31", "0-0", "mon2:50UTC",
	} {
		f.Add(text, int64(1774746000), uint8(0))
	}
	zones := []*time.Location{time.UTC}
	for _, name := range []string{"Europe/Berlin", "Australia/Lord_Howe", "America/Havana", "Pacific/Apia"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			f.Fatal(err)
		}
		zones = append(zones, zone)
	}
	f.Fuzz(func(t *testing.T, text string, seconds int64, zone uint8) {
		e, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(e.String())
		if err != nil || !reflect.DeepEqual(e, again) || e.String() != again.String() {
			t.Fatalf("%q is written %q and read %+v, %v, want %+v", text, e, again, err, e)
		}
		after := time.Unix(seconds%(1<<33), 0).In(zones[int(zone)%len(zones)])
		next, ok := e.Next(after)
		if !ok {
			return
		}
		if !next.After(after) || next.Location() != after.Location() {
			t.Fatalf("%q after %v: %v", text, after, next)
		}
		if early, ok := e.Next(after.Add(-time.Hour)); !ok || early.After(next) {
			t.Fatalf("%q after %v: %v, an hour earlier it is %v, %v", text, after, next, early, ok)
		}
		wall := next
		if e.utc {
			wall = next.UTC()
		}
		if begin, _ := wall.ZoneBounds(); !e.happens(wall) && (begin.IsZero() || wall.Sub(begin) >= 25*time.Hour) {
			t.Fatalf("%q after %v: %v, the rule does not hold then", text, after, next)
		}
	})
}

func BenchmarkNext(b *testing.B) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		b.Fatal(err)
	}
	for _, text := range []string{"*:0/15", "mon..fri 21:30", "2-29", "2-30"} {
		b.Run(text, func(b *testing.B) {
			e, err := Parse(text)
			if err != nil {
				b.Fatal(err)
			}
			at := time.Date(2026, 11, 21, 0, 0, 0, 0, zone)
			for b.Loop() {
				e.Next(at)
			}
		})
	}
}
