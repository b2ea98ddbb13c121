package elapsed

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
)

// A machine says the same start of itself to all its processes, and each sees the time go
// on at least as fast as its own clock.
func TestMachine(t *testing.T) {
	one, other := Machine()(), Machine()()
	if one.Boot != other.Boot || other.Up < one.Up {
		t.Errorf("%+v, then %+v", one, other)
	}
	synctest.Test(t, func(t *testing.T) {
		read := Machine()
		was := read()
		time.Sleep(time.Hour)
		if is := read(); is.Up-was.Up < time.Hour-time.Second {
			t.Errorf("%s have passed, want an hour", is.Up-was.Up)
		}
	})
}

func TestFileThatSaysNothing(t *testing.T) {
	for what, content := range map[string]string{
		"no JSON": "x", "another shape": `{"seen": [1]}`, "half a file": `{"boot":"a","up":5,"wall":1,"now":{"ran":9`,
		"marks of a time that was not": `{"boot":"a","up":9000000000,"wall":9000000000,"now":{"ran":5,"off":5},"seen":{"x":{"ran":7000,"off":7000}}}`,
		"times before all":             `{"boot":"b","up":-9000000000000000000,"wall":-9000000000000000000,"now":{"ran":5,"off":5},"seen":{"x":{"ran":5,"off":5}}}`,
	} {
		mem := disktest.NewMem()
		if err := disk.WriteFileAtomic(mem, "/trash.json", []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		c := Open(Config{
			FS: mem, Name: "/trash.json", Of: "/trash", Read: func() Reading { return Reading{"a", time.Hour, time.Unix(1e9, 0)} },
			May: func() bool { return true }, Log: slog.New(slog.DiscardHandler),
		})
		c.See("x")
		if w := c.Waited("x", time.Hour); w > 30*time.Minute {
			t.Errorf("%s: it waited for %s", what, w)
		}
		c.Close()
		if c.Drop("x"); c.Waited("x", time.Hour) != 0 {
			t.Errorf("%s: it waits still", what)
		}
	}
}

// Of a disk that was pulled without a word the directory is there, and empty: nothing may be
// written to what lies below it.
func TestNothingIsWrittenWhereTheDiskWas(t *testing.T) {
	mem := disktest.NewMem()
	c := Open(Config{FS: mem, Name: "/trash.json", Of: "/trash", May: func() bool { return true }, Log: slog.New(slog.DiscardHandler)})
	c.See("x")
	if c.Keep(); len(mem.Names()) != 0 {
		t.Errorf("%q were written", mem.Names())
	}
	if err := disk.MkdirAll(mem, "/trash", 0o700); err != nil {
		t.Fatal(err)
	}
	if c.Close(); len(mem.Names()) != 1 {
		t.Errorf("%q were written", mem.Names())
	}
}
