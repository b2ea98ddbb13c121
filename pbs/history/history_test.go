package history

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func newRecorder(t *testing.T, file string, sample func() map[string]float64) *Recorder {
	t.Helper()
	r, err := New(Config{File: file, Sample: func(context.Context) map[string]float64 { return sample() }})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func frame(t *testing.T, name string) Frame {
	t.Helper()
	f, err := ParseFrame(name)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// A minute has what was sampled in it, half an hour the average and the maximum.
func TestFiguresOfADay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "figures")
	synctest.Test(t, func(t *testing.T) {
		n := 0.0
		r := newRecorder(t, file, func() map[string]float64 { n++; return map[string]float64{"used": n} })
		start := time.Now()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		time.Sleep(time.Hour - time.Second)
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		again := newRecorder(t, file, nil2) // what Run saved at its end
		hour := again.Points(start.Add(59*time.Minute), frame(t, "hour"), false, "used", "other")
		if len(hour) != 60 || hour[0].Figures["used"] != 1 || hour[59].Figures["used"] != 60 || hour[59].Time != start.Add(59*time.Minute).Unix() {
			t.Errorf("%d minutes, from %v to %v", len(hour), hour[0], hour[len(hour)-1])
		}
		week := again.Points(start.Add(59*time.Minute), frame(t, "week"), true, "used")
		if got := week[len(week)-1].Figures["used"]; got != 60 {
			t.Errorf("maximum of the last half hour is %v", got)
		}
		week = again.Points(start.Add(59*time.Minute), frame(t, "week"), false, "used")
		if got := week[len(week)-1].Figures["used"]; got != 45.5 {
			t.Errorf("average of the last half hour is %v", got)
		}
	})
}

func nil2() map[string]float64 { return nil }

// What is older than a ring, and times without samples, have no figure.
func TestGapsStayGaps(t *testing.T) {
	r := newRecorder(t, filepath.Join(t.TempDir(), "figures"), nil2)
	start := time.Unix(1_700_000_000, 0)
	r.Record(start, map[string]float64{"x": 1})
	later := start.Add(10 * time.Minute)
	r.Record(later, map[string]float64{"x": 2})
	r.Record(later.Add(-time.Minute), map[string]float64{"x": 9}) // the clock stepped back
	if got := figures(t, r, later, "hour"); !slices.Equal(got, []float64{1, 2}) {
		t.Errorf("figures %v", got)
	}
	r.Record(start.Add(48*time.Hour), map[string]float64{"x": 3})
	for _, p := range r.Points(start.Add(48*time.Hour), frame(t, "day"), false, "x") {
		if v, ok := p.Figures["x"]; ok && v != 3 {
			t.Errorf("a day later there is still %v", v)
		}
	}
	r.Record(start.Add(800*24*time.Hour), map[string]float64{"y": 1})
	if len(r.series) != 1 {
		t.Errorf("%d names are kept", len(r.series))
	}
}

// figures returns what there is of x in a frame.
func figures(t *testing.T, r *Recorder, now time.Time, name string) (got []float64) {
	for _, p := range r.Points(now, frame(t, name), false, "x") {
		if v, ok := p.Figures["x"]; ok {
			got = append(got, v)
		}
	}
	return got
}

// A clock that was wrong for a while costs what was recorded with the wrong
// date, and nothing of the time after it was set right.
func TestClockThatWasWrong(t *testing.T) {
	for name, tt := range map[string]struct {
		wrong time.Duration
		want  []float64
	}{
		"ten minutes": {10 * time.Minute, []float64{1, 2, 3, 4}},
		"two days":    {48 * time.Hour, []float64{2, 3, 4}}, // with which the minutes of today had gone
		"a century":   {876000 * time.Hour, []float64{2, 3, 4}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "figures")
			r := newRecorder(t, file, nil2)
			start := time.Unix(1_700_000_000, 0)
			r.Record(start, map[string]float64{"x": 1, "gone": 1})
			r.Record(start.Add(tt.wrong), map[string]float64{"x": 9, "gone": 9})
			if err := r.Save(); err != nil {
				t.Fatal(err)
			}
			r = newRecorder(t, file, nil2) // after a restart the clock is right
			for i := 1; i <= 3; i++ {
				r.Record(start.Add(time.Duration(i)*time.Minute), map[string]float64{"x": float64(i + 1)})
			}
			now := start.Add(3 * time.Minute)
			if got := figures(t, r, now, "hour"); !slices.Equal(got, tt.want) {
				t.Errorf("figures %v, want %v", got, tt.want)
			}
			if got := figures(t, r, now, "week"); len(got) == 0 {
				t.Error("nothing in the graph of the week")
			}
			r.Record(now.Add(367*24*time.Hour), map[string]float64{"x": 1})
			if len(r.series) != 1 {
				t.Errorf("%d names are kept a year later", len(r.series))
			}
		})
	}
}

// After a clock that was seven hours ahead was set right, no graph is mute: the
// six hours of the year were, until the clock reached the wrong time again.
func TestNoGraphIsMuteAfterAWrongClock(t *testing.T) {
	file := filepath.Join(t.TempDir(), "figures")
	synctest.Test(t, func(t *testing.T) {
		ahead, v := 7*time.Hour, 1.0
		r := newRecorder(t, file, nil2)
		for range 600 { // ten hours, of which the clock is wrong for one
			if v == 60 {
				ahead, v = 0, 100
			}
			r.Record(time.Now().Add(ahead), map[string]float64{"x": v})
			v++
			time.Sleep(time.Minute)
		}
		for _, frame := range []string{"hour", "week", "year"} {
			got := figures(t, r, time.Now().Add(-time.Minute), frame)
			if len(got) == 0 || got[0] < 100 {
				t.Errorf("%s: %v", frame, got)
			}
		}
		if got := figures(t, r, time.Now(), "year"); len(got) < 2 {
			t.Errorf("after ten hours the graph of a year has %v", got)
		}
	})
}

// What a crash left of a file that was being written goes.
func TestHalfWrittenFilesGo(t *testing.T) {
	dir := t.TempDir()
	r := newRecorder(t, filepath.Join(dir, "figures"), nil2)
	if err := errors.Join(r.Save(), os.WriteFile(filepath.Join(dir, ".figures.tmp-17"), []byte("half"), 0o600)); err != nil {
		t.Fatal(err)
	}
	newRecorder(t, filepath.Join(dir, "figures"), nil2)
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != "figures" {
		t.Errorf("left are %v, %v", left, err)
	}
}

func TestDamagedFileIsSetAside(t *testing.T) {
	file := filepath.Join(t.TempDir(), "figures")
	if err := os.WriteFile(file, []byte("half a fi"), 0o600); err != nil {
		t.Fatal(err)
	}
	newRecorder(t, file, nil2)
	if _, err := os.Stat(file + ".bad"); err != nil {
		t.Error(err)
	}
}

func TestLoadOfThisMachine(t *testing.T) {
	var m Machine
	l := m.Load()
	if l.Memory.Total <= 0 || l.CPUs < 1 || l.Uptime < 1 || l.CPU < 0 || l.CPU > 1 {
		t.Errorf("%+v", l)
	}
}

// Whatever the file has, reading it fails or gives rings that can be used.
func FuzzFile(f *testing.F) {
	r := &Recorder{cfg: Config{File: filepath.Join(f.TempDir(), "x")}, series: map[string]*series{}}
	r.Record(time.Unix(1e9, 0), map[string]float64{"a": 1})
	if err := r.Save(); err != nil {
		f.Fatal(err)
	}
	text, err := os.ReadFile(r.cfg.File)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := decode(bytes.NewReader(text))
		if err != nil {
			return
		}
		r := &Recorder{series: all}
		r.Record(time.Unix(2e9, 0), map[string]float64{"a": 2})
		r.Points(time.Unix(2e9, 0), Frame{0, 60}, true, "a")
	})
}
