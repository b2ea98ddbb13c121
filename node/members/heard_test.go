package members

import (
	"testing"
	"time"
)

// Seconds after a node was started for the first time, status said that the ledger was
// never heard of, and that the trash is not emptied.
func TestStarting(t *testing.T) {
	w := newStopped(t) // so that it finds no leader
	now := time.Now()
	if !Starting(w.cluster, now) || Missed(w.cluster, now) != 0 {
		t.Errorf("it has just started: %t, missed %s", Starting(w.cluster, now), Missed(w.cluster, now))
	}
	before := now.Add(-startTime)
	if Starting(w.cluster, before) || Missed(w.cluster, before) == 0 {
		t.Errorf("it runs for a while: %t, missed %s", Starting(w.cluster, before), Missed(w.cluster, before))
	}
}
