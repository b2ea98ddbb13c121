package tunnel

import "time"

// Slept does what the tunnel does when it finds that the host slept.
func (t *Tunnel) Slept(d time.Duration) { t.slept(d) }
