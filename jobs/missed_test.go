package jobs

import (
	"testing"
	"time"
)

func TestMissedTimes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newDiary(t, dir, "UTC", new(logBuffer))
		d.put("once", "*:30", CatchUpOnce)
		d.put("skip", "*:30", CatchUpSkip)
		d.sleep(time.Hour, "once 01 00:30", "skip 01 00:30")
		d.stop()
		time.Sleep(5*time.Hour + 10*time.Minute)

		d = newDiary(t, dir, "UTC", new(logBuffer))
		d.put("once", "*:30", CatchUpOnce)
		d.put("skip", "*:30", CatchUpSkip)
		d.put("new", "*:30", CatchUpOnce)
		d.sleep(time.Second, "once 01 06:10")
		d.sleep(time.Hour, "new 01 06:30", "once 01 06:30", "skip 01 06:30")
	})
}

// Times that come while the work goes on are missed ones.
func TestScheduleNeverRunsTwiceAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDiary(t, t.TempDir(), "UTC", new(logBuffer))
		d.works(70*time.Minute, nil)
		d.put("once", "*:30", CatchUpOnce)
		d.sleep(235*time.Minute, "once 01 00:30", "once 01 01:40", "once 01 02:50")
		d.Remove("once")
		d.sleep(time.Hour)
		d.put("skip", "*:30", CatchUpSkip)
		d.sleep(4*time.Hour, "skip 01 05:30", "skip 01 07:30")
	})
}

func TestWallClockJumps(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDiary(t, t.TempDir(), "UTC", new(logBuffer))
		d.put("once", "*:30", CatchUpOnce)
		d.put("skip", "*:30", CatchUpSkip)
		d.sleep(40*time.Minute, "once 01 00:30", "skip 01 00:30") // 00:40
		d.jump(10 * time.Hour)
		d.sleep(time.Minute, "once 01 10:41") // noticed within a minute
		d.sleep(time.Hour, "once 01 11:30", "skip 01 11:30")
		d.jump(-20 * time.Minute) // from 11:41 to 11:21: nothing twice
		d.sleep(time.Hour)
		d.jump(-24 * 365 * time.Hour) // last year: go on there
		d.sleep(time.Hour, "once 01 12:30", "skip 01 12:30")
		d.jump(20 * time.Second)
		d.sleep(time.Hour, "once 01 13:30", "skip 01 13:30")
	})
}

// From the clock of 2036 and back to 2026, also over a restart.
func TestRunInTheFutureDoesNotStopASchedule(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newDiary(t, dir, "UTC", new(logBuffer))
		d.jump(10 * 365 * 24 * time.Hour)
		d.put("a", "*:30", "")
		d.sleep(40*time.Minute, "a 29 00:30") // ten years with two leap days
		d.stop()
		d = newDiary(t, dir, "UTC", new(logBuffer))
		d.put("a", "*:30", "")
		d.sleep(time.Hour, "a 01 01:30")
	})
}

func TestScheduleWhereTheClockChanges(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDiary(t, t.TempDir(), "Europe/Berlin", new(logBuffer))
		time.Sleep(time.Until(time.Date(2000, 3, 25, 20, 0, 0, 0, time.UTC)))
		d.put("day", "2:30", "")
		d.put("hour", "1..4:0", "")
		d.sleep(10*time.Hour, "hour 26 01:00", "hour 26 03:00", "day 26 03:30", "hour 26 04:00")
		d.Remove("hour")
		d.sleep(23*time.Hour, "day 27 02:30")
		d.Remove("day")
		time.Sleep(time.Until(time.Date(2000, 10, 28, 20, 0, 0, 0, time.UTC)))
		d.put("day", "2:30", "")
		d.put("hour", "*:0", "")
		d.sleep(6*time.Hour, "hour 28 23:00", "hour 29 00:00", "hour 29 01:00", "hour 29 02:00", "day 29 02:30", "hour 29 02:00", "hour 29 03:00")
	})
}

// What the process dies of is not started at once by the next one; how it
// ended is read from the tasks.
func TestScheduleOfAKilledProcess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newDiary(t, dir, "UTC", new(logBuffer))
		d.works(time.Hour, nil)
		d.put("a", "*:30", "")
		d.sleep(31*time.Minute, "a 01 00:30")
		st, _ := d.Status("a")
		copied := killed(t, dir)
		d.stop()
		d = newDiary(t, copied, "UTC", new(logBuffer))
		d.put("a", "*:30", "")
		d.sleep(time.Minute)
		again, err := d.Status("a")
		if err != nil || again.Running || *again.Last != *st.Last || again.State != "unknown" || again.End.IsZero() {
			t.Errorf("the killed run is %+v, %v", again, err)
		}
		d.sleep(time.Hour, "a 01 01:30")
	})
}
