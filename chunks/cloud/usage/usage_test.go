package usage

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

func count(puts, in int64) Count {
	return Count{Use: prices.Use{Requests: map[string]int64{"put": puts}, In: in}}
}

func at(text string) time.Time {
	t, err := time.Parse(time.DateTime, text)
	if err != nil {
		panic(err)
	}
	return t
}

func TestTheBookOutlivesARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "usage.json")
	b, err := Open(disk.OS{}, file)
	if err != nil {
		t.Fatal(err)
	}
	b.Add("near", at("2026-10-31 23:59:00"), count(3, 10))
	b.Add("near", at("2026-11-01 00:01:00"), count(4, 20))
	b.Add("near", at("2026-11-01 08:00:00"), count(0, 0))
	if err := b.Save(); err != nil {
		t.Fatal(err)
	}
	if b, err = Open(disk.OS{}, file); err != nil {
		t.Fatal(err)
	}
	a := b.Account("near")
	got := fmt.Sprint(a.Total.Requests["put"], a.Total.In, a.Months["2026-10"].In, a.Months["2026-11"].In, a.Days["2026-11-01"].Requests["put"], len(a.Days))
	if want := "7 30 10 20 4 2"; got != want {
		t.Errorf("the book has %s, want %s", got, want)
	}
	b.Reset("near", at("2026-11-02 00:00:00"))
	if a := b.Account("near"); a.Total.Total() != 0 || a.Months["2026-11"].In != 20 || !a.Since.Equal(at("2026-11-02 00:00:00")) {
		t.Errorf("after a reset: %+v", a)
	}
	if a := b.Account("far"); a.Total.Total() != 0 {
		t.Errorf("of nobody: %+v", a)
	}
}

// Who gets an account must not be able to change the book, nor the book it.
func TestAnAccountIsACopy(t *testing.T) {
	b, _ := Open(disk.OS{}, filepath.Join(t.TempDir(), "usage.json"))
	b.Add("near", at("2026-11-01 00:01:00"), count(4, 0))
	a := b.Account("near")
	a.Total.Requests["put"], a.Months["2026-11"].Requests["put"] = 9, 9
	b.Add("near", at("2026-11-01 00:02:00"), count(1, 0))
	if now := b.Account("near"); now.Total.Requests["put"] != 5 || now.Months["2026-11"].Requests["put"] != 5 || a.Total.Requests["put"] != 9 {
		t.Errorf("the book has %v, the copy %v", now.Total, a.Total)
	}
}

// Five workloads: what is forecast in the middle of a month is what was counted
// at its end, within 5 %.
func TestForecast(t *testing.T) {
	for name, day := range map[string]func(int) Count{
		"every day the same":        func(int) Count { return count(1000, 5e9) },
		"a large verify on Sundays": func(d int) Count { return count(100, int64(1+d%7/6*50)*1e9) },
		"uploads grow slowly":       func(d int) Count { return count(int64(1000+d), int64(d)*1e7+1e10) },
		"idle":                      func(int) Count { return count(24, 1000) },
		"a first upload long ago":   func(d int) Count { return count(map[bool]int64{true: 500_000, false: 200}[d < 2], 1e9) },
	} {
		var a Account
		first := at("2026-10-20 00:00:00") // a Tuesday, 12 days before the month
		var forecast Count
		end := at("2026-12-01 00:00:00")
		for now, d := first, 0; now.Before(end); now, d = now.AddDate(0, 0, 1), d+1 {
			if now.Equal(at("2026-11-16 00:00:00")) {
				_, forecast = a.Forecast(now)
			}
			a.First = first
			a.add(now.Add(2*time.Hour), day(d))
		}
		fact := a.Months["2026-11"]
		for what, pair := range map[string][2]int64{"requests": {forecast.Total(), fact.Total()}, "bytes": {forecast.In, fact.In}} {
			if off := math.Abs(float64(pair[0])/float64(pair[1]) - 1); off > 0.05 {
				t.Errorf("%s: %d %s were forecast, and %d counted: %.1f %% off", name, pair[0], what, pair[1], 100*off)
			}
		}
	}
}

func TestAForecastOfAnHourIsNotThatOfAMonth(t *testing.T) {
	a := Account{First: at("2026-11-01 10:00:00")}
	a.add(at("2026-11-01 10:30:00"), count(240, 0))
	soFar, month := a.Forecast(at("2026-11-01 11:00:00"))
	if soFar.Total() != 240 || month.Total() > 240*31 {
		t.Errorf("so far %d, forecast %d", soFar.Total(), month.Total())
	}
}

func TestThePastIsForgotten(t *testing.T) {
	var a Account
	for d := range 1500 {
		a.add(at("2026-01-01 12:00:00").AddDate(0, 0, d), count(1, 0))
	}
	if len(a.Days) > keepDays+1 || len(a.Months) > keepMonths+1 || a.Total.Total() != 1500 {
		t.Errorf("%d days, %d months, %d requests", len(a.Days), len(a.Months), a.Total.Total())
	}
	if body, err := json.Marshal(a); err != nil || len(body) > 20<<10 {
		t.Errorf("it takes %d bytes, %v", len(body), err)
	}
}

func TestMinus(t *testing.T) {
	before := Of(bucket.Stats{Requests: map[string]int64{"put": 2, "get": 1}, Failed: map[string]int64{"get": 1}, BytesIn: 5})
	now := Of(bucket.Stats{Requests: map[string]int64{"put": 5, "get": 1}, Failed: map[string]int64{"get": 1, "put": 1}, BytesIn: 7, Throttled: 3})
	d := now.Minus(before)
	if got := fmt.Sprint(d.Requests, d.In, d.Failed, d.Throttled); got != "map[put:3] 2 1 3" {
		t.Errorf("difference is %s", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"near":{"total":{"requests":{"put":1}},"days":{"2026-11-29":{"bytes-in":3}}},"far":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		all, err := parse(body)
		if err != nil {
			return
		}
		for _, a := range all {
			a.Forecast(at("2026-11-29 00:00:00"))
		}
	})
}
