package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// Limits of the machine, measured beside what they limit: where a figure is
// missed, they say whether it can be reached here at all.

// writeSpeed writes n bytes past the page cache in files as long as packs, from
// front to back, each synced at its end: what no store can beat.
func (b *bench) writeSpeed(n int64) (mbps float64, err error) {
	const size, part = 64 << 20, disk.LargeBytes
	dir, err := b.sub("limit")
	if err != nil {
		return 0, err
	}
	buf := disk.AlignedBuffer(part)
	for i := range buf {
		buf[i] = byte(rand.Uint32())
	}
	settle()
	began := time.Now()
	for done := int64(0); done < n; done += size {
		f, err := disk.OS{}.OpenFile(filepath.Join(dir, fmt.Sprint(done)), os.O_CREATE|os.O_RDWR|disk.Direct, 0o600)
		if err != nil {
			return 0, err
		}
		for off := int64(0); off < min(size, n-done) && err == nil; off += part {
			_, err = f.WriteAt(buf, off)
		}
		if err == nil {
			err = f.Sync()
		}
		if closed := f.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(began).Seconds() / 1e6, nil
}

// writeSpeedBusy is writeSpeed while every processor hashes: on a virtual
// machine both want the same processors, and the disk becomes slower.
func (b *bench) writeSpeedBusy(ctx context.Context, n int64) (mbps float64, err error) {
	ctx, stop := context.WithCancel(ctx)
	var busy sync.WaitGroup
	for range runtime.NumCPU() {
		busy.Go(func() {
			for data := make([]byte, 1<<20); ctx.Err() == nil; {
				sum := sha256.Sum256(data)
				copy(data, sum[:])
			}
		})
	}
	defer busy.Wait()
	defer stop()
	return b.writeSpeed(n)
}

// readTime is how long it takes to read a random cache line of n bytes of
// memory, in microseconds, when each place depends on the read before.
func readTime(n int) (us float64) {
	const reads = 1_000_000
	table := make([]byte, n)
	for i := range table {
		table[i] = byte(rand.Uint32())
	}
	best := time.Duration(1 << 62)
	for range 5 {
		at, began := uint64(0), time.Now()
		for i := range uint64(reads) {
			at = (at + i*0x9e3779b97f4a7c15) * 0xd1342543de82ef95
			line := at >> 32 * uint64(n/64) >> 32 * 64
			at ^= binary.LittleEndian.Uint64(table[line:])
		}
		best = min(best, time.Since(began))
	}
	return best.Seconds() * 1e6 / reads
}
