package elapsed

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// bootID is random, and another one after each start of the machine.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if _, ok := sinceBoot(); err != nil || !ok {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// sinceBoot counts the time asleep as well, which the clock of a process does not.
func sinceBoot() (time.Duration, bool) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0, false
	}
	return time.Duration(ts.Nano()), true
}
