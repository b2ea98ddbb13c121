package disk_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
)

// BenchmarkJournalSync measures records made durable one by one, on the
// machine's disk: by few, and by many who share an fsync.
func BenchmarkJournalSync(b *testing.B) {
	for _, callers := range []int{2, 64} {
		b.Run(fmt.Sprint(callers, " callers"), func(b *testing.B) {
			j, err := disk.OpenJournal(disk.OS{}, b.TempDir()+"/j", func([]byte) error { return nil })
			if err != nil {
				b.Fatal(err)
			}
			record := make([]byte, 100)
			b.SetParallelism(max(1, callers/runtime.GOMAXPROCS(0))) // per processor
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					j.Append(record)
					if err := j.Sync(); err != nil {
						b.Error(err)
					}
				}
			})
			if err := j.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func BenchmarkJournalReplay(b *testing.B) {
	m := disktest.NewMem()
	j, err := disk.OpenJournal(m, journalName, func([]byte) error { return nil })
	if err != nil {
		b.Fatal(err)
	}
	record := make([]byte, 100)
	for range 100_000 {
		j.Append(record)
	}
	if err := j.Close(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(j.Size())
	for b.Loop() {
		j, err := disk.OpenJournal(m, journalName, func([]byte) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
		_ = j.Close()
	}
}
