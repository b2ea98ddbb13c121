package index

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
)

// TestDamagedFilesAreReported flips bits and cuts ends of each file of an
// index with two runs. Open or Check finds it and says which file; Flush and
// All do not use it.
func TestDamagedFilesAreReported(t *testing.T) {
	m := disktest.NewMem()
	cfg := Config{FS: m, Dir: "/index", FanIn: 2}
	x := openIndex(t, cfg)
	for _, n := range []uint64{400, 40} {
		for d, loc := range records(n, 2*n) {
			x.Insert(d, loc)
		}
		flush(t, x, "state")
	}
	closeIndex(t, x)
	if len(m.Names()) != 3 {
		t.Fatalf("files are %v", m.Names())
	}
	for _, name := range m.Names() {
		good := m.Bytes(name)
		for off := 0; off < len(good); off += 1 + off/300 {
			m.FlipBit(name, int64(off))
			reported(t, cfg, name, fmt.Sprintf("bit of byte %d", off))
			m.WriteRaw(name, 0, good)
		}
		for size := 0; size < len(good); size += 97 {
			m.TruncateFile(name, int64(size))
			reported(t, cfg, name, fmt.Sprintf("cut to %d bytes", size))
			m.WriteRaw(name, 0, good)
		}
	}
	x = openIndex(t, cfg)
	if err := x.Check(t.Context()); err != nil {
		t.Error(err)
	}
	closeIndex(t, x)
	if err := m.Remove(m.Names()[0]); err != nil {
		t.Fatal(err)
	}
	reported(t, cfg, "/index/", "a run is gone")
}

func reported(t *testing.T, cfg Config, name, what string) {
	t.Helper()
	x, err := Open(cfg)
	if err == nil {
		err = x.Check(t.Context())
		closeIndex(t, x)
	}
	var d *DamagedError
	if !errors.Is(err, ErrDamaged) || !errors.As(err, &d) || d.Hint() == "" ||
		!strings.Contains(err.Error(), name) && !strings.HasPrefix(d.File, name) {
		t.Fatalf("%s, %s: %v", name, what, err)
	}
}

func TestDamagedRecordsAreNotUsed(t *testing.T) {
	m := disktest.NewMem()
	x := openIndex(t, Config{FS: m, Dir: "/index"})
	defer closeIndex(t, x)
	for d, loc := range records(0, 100) {
		x.Insert(d, loc)
	}
	flush(t, x, "")
	r := x.view.Load().runs[0]
	m.FlipBit(r.file, r.head.recordsOff()+70*recordSize)
	all, failed := x.All(t.Context())
	for range all {
		t.Fatal("a record of a damaged block is handed out")
	}
	if err := failed(); !errors.Is(err, ErrDamaged) {
		t.Errorf("all gives %v", err)
	}
	for d, loc := range records(100, 150) {
		x.Insert(d, loc)
	}
	if err := x.Flush(t.Context(), nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("flush gives %v", err)
	}
	if _, ok := x.Lookup(synthetic(120)); !ok {
		t.Error("a record that could not be flushed is lost")
	}
	if err := x.Check(t.Context()); !errors.Is(err, ErrDamaged) {
		t.Errorf("check gives %v", err)
	}
}
