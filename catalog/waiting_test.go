package catalog

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/elapsed"
)

const year = 365 * 24 * time.Hour

// goes fails unless so many snapshots leave the trash now.
func goes(t *testing.T, what string, d *Datastore, want int) {
	t.Helper()
	if n, err := d.EmptyTrash(t.Context(), false); n != want || err != nil {
		t.Errorf("%s: %d left the trash, %v; want %d", what, n, err, want)
	}
}

// A clock that was three years ahead for a moment had the next garbage collection
// empty the trash: what had been forgotten twenty seconds before was gone. And what
// was forgotten then was in the trash for three years.
func TestTrashOutlivesAWrongClock(t *testing.T) {
	for _, jump := range []time.Duration{3 * year, -50 * year} {
		d, _, clock := newStore(t)
		for day := range 2 {
			mustBackUp(t, d, "", snap("vm/100", day+1), uint64(day))
		}
		must(t, d.Forget(t.Context(), "", snap("vm/100", 1)))
		clock.advance(20 * time.Second)
		clock.jump(jump)
		goes(t, "the clock jumped", d, 0)
		must(t, d.Forget(t.Context(), "", snap("vm/100", 2)))
		clock.advance(time.Hour)
		goes(t, "an hour later", d, 0)
		clock.jump(-jump)
		clock.advance(DefaultTrashDelay - time.Hour - 21*time.Second)
		goes(t, "right again, a second too early", d, 0)
		list, err := d.Trash()
		must(t, err)
		slices.SortFunc(list, func(a, b Trashed) int { return a.Until.Compare(b.Until) })
		if len(list) != 2 || !list[0].Until.Equal(clock.Now().Add(time.Second)) || list[1].Removed.After(clock.Now()) {
			t.Errorf("jump of %s: at %s the trash is %+v", jump, clock.Now(), list)
		}
		clock.advance(time.Second)
		goes(t, "right again, and in time", d, 1)
		clock.advance(20 * time.Second)
		goes(t, "what was forgotten while the clock was wrong", d, 1)
	}
}

// reboot is what a machine and its clock are after it was off.
func (c *clock) reboot(off time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now, c.up, c.boots = c.now.Add(off), 0, c.boots+"again"
}

// Over a start of the program the trash waits as before. Over one of the machine, only
// its wall clock tells for how long that was off, and half of the delay it must have run.
func TestTrashWaitsOverStarts(t *testing.T) {
	d, mem, clock := newStore(t)
	restart := func(off time.Duration) {
		t.Helper()
		must(t, d.Close())
		if off != 0 {
			clock.reboot(off)
		}
		d = openStore(t, mem, storeDir, clock)
	}
	forget := func() {
		t.Helper()
		mustBackUp(t, d, "", snap("vm/100", 1))
		must(t, d.Forget(t.Context(), "", snap("vm/100", 1)))
	}
	forget()
	clock.advance(DefaultTrashDelay / 2)
	restart(0)
	goes(t, "half of it", d, 0)
	must(t, d.Close())
	clock.jump(year)
	clock.advance(DefaultTrashDelay/2 - time.Second)
	d = openStore(t, mem, storeDir, clock)
	goes(t, "a second is missing, and the clock jumped between two processes", d, 0)
	clock.advance(time.Second)
	goes(t, "all of it", d, 1)

	forget()
	for _, off := range []time.Duration{3 * year, -3 * year, 7 * 24 * time.Hour} {
		restart(off)
		goes(t, "it was off", d, 0)
	}
	clock.advance(DefaultTrashDelay/2 - time.Second)
	goes(t, "it ran for less than half", d, 0)
	clock.advance(time.Second)
	goes(t, "it ran for half", d, 1)

	forget()
	clock.advance(DefaultTrashDelay)
	must(t, errors.Join(d.Close(), mem.Remove(path.Join(storeDir, waitingFile))))
	d = openStore(t, mem, storeDir, clock)
	goes(t, "since when it waits is lost", d, 0)
	clock.advance(DefaultTrashDelay)
	goes(t, "it waited anew", d, 1)
}

// A machine whose power is cut every day, without a word before, loses at most half of
// the time that it ran: otherwise its trash would stay for ever.
func TestTrashOfAMachineThatIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, mem, _ := newStore(t)
		must(t, d.Close())
		start := func(boot int) {
			began := time.Now()
			read := func() elapsed.Reading {
				return elapsed.Reading{Boot: fmt.Sprint(boot), Up: time.Since(began), Wall: time.Now()}
			}
			var err error
			d, err = Open(t.Context(), Config{Dir: storeDir, FS: mem, Uptime: read})
			must(t, err)
		}
		start(0)
		mustBackUp(t, d, "", snap("vm/100", 1))
		must(t, d.Forget(t.Context(), "", snap("vm/100", 1)))
		var gone int
		day := 0
		for ; gone == 0 && day < 4; day++ {
			var err error
			gone, err = d.EmptyTrash(t.Context(), false)
			must(t, err)
			time.Sleep(8 * time.Hour)
			cut := mem.CrashLosing()
			d.Close() // fails
			mem = cut
			time.Sleep(16 * time.Hour)
			start(day + 1)
		}
		if day != 4 || gone != 1 { // two days are 24 hours off, but only 10 that it is known to have run
			t.Errorf("after %d days of 8 hours %d left the trash", day, gone)
		}
		must(t, d.Close())
	})
}
