package bind

import (
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/tunnel/path"
)

// What waits for an answer is what was sent first and not answered; TCP's own
// answers wait for none, and what comes over a stream is none.
func TestOwed(t *testing.T) {
	const ms = time.Millisecond
	p := newPeer(PeerConfig{ID: "peer"})
	tests := []struct {
		name string
		do   func()
		want time.Duration
	}{
		{"a request", func() { p.expect(1000*ms, 400) }, 1000 * ms},
		{"another", func() { p.expect(1010*ms, 400) }, 1000 * ms},
		{"the answer", func() { p.came(1020*ms, true) }, 0},
		{"our acknowledgement of it", func() { p.expect(1021*ms, acknowledges) }, 0},
		{"a connection is opened later", func() { p.expect(3000*ms, acknowledges) }, 3000 * ms},
		{"and is accepted", func() { p.came(3020*ms, true) }, 0},
		{"the peer has no path to us", func() { p.came(5000*ms, false) }, 5000 * ms},
	}
	for _, tt := range tests {
		if tt.do(); time.Duration(p.owed.Load()) != tt.want {
			t.Errorf("%s: since %v an answer is owed, want %v", tt.name, time.Duration(p.owed.Load()), tt.want)
		}
	}
}

func TestUse(t *testing.T) {
	p := newPeer(PeerConfig{ID: "peer"})
	want := func(now time.Duration, use path.Use) {
		t.Helper()
		p.weigh(now)
		if got := p.use(now); got != use {
			t.Errorf("after %v the use is %d, want %d", now, got, use)
		}
	}
	want(0, path.Idle)
	p.used.Store(int64(time.Second))
	want(time.Second, path.Quiet)
	p.sentBytes.Add(busyRate / 2)
	want(2*time.Second, path.Quiet)
	p.receivedBytes.Add(2 * busyRate)
	want(3*time.Second, path.Busy)
	want(3*time.Second+busyFor, path.Quiet)
	want(time.Second+inUse, path.Idle)
}
