package elapsed

import "time"

// Machine returns what this machine says. It goes on at least as fast as the clock
// of this process, which is all there is where the system does not tell more.
func Machine() func() Reading {
	boot, opened := bootID(), time.Now()
	began, _ := sinceBoot()
	return func() Reading {
		up := began + time.Since(opened)
		if is, ok := sinceBoot(); ok {
			up = max(up, is)
		}
		return Reading{Boot: boot, Up: up, Wall: time.Now()}
	}
}
