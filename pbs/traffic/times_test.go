package traffic

import (
	"testing"
	"time"
)

func TestParseTimed(t *testing.T) {
	noon := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC) // a Monday
	for text, want := range map[string]int64{
		"mon..fri 8-18=5MiB": 5 << 20, " 8-18 = 1 KiB ": 1 << 10,
		"mon..fri 8-18": -1, "8-18=": -1, "=5MiB": -1, "8-18=0": -1, "8=5MiB": -1, "8-18=fast": -1, "": -1,
	} {
		w, rate, err := ParseTimed(text)
		if (err != nil) != (want < 0) || err == nil && (rate != want || !w.Contains(noon) || w.Contains(noon.Add(9*time.Hour))) {
			t.Errorf("%q: %d, %v, want %d", text, rate, err, want)
		}
	}
}

func FuzzParseTimed(f *testing.F) {
	f.Add("mon..fri 8-18=5MiB")
	f.Fuzz(func(t *testing.T, text string) {
		if _, rate, err := ParseTimed(text); err == nil && rate < 1 {
			t.Errorf("%q is %d", text, rate)
		}
	})
}
