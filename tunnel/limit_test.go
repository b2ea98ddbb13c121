package tunnel

import (
	"testing"

	"github.com/holdfast-mesh/holdfast/tunnel/stack"
)

func TestLimitOf(t *testing.T) {
	direct, full := PeerStats{Path: PathDirect}, stack.Backlog{Full: true}
	tests := []struct {
		name    string
		peer    PeerStats
		used    bool
		busy    bool
		backlog stack.Backlog
		want    Limit
	}{
		{"nobody uses it", direct, false, true, full, LimitNone},
		{"no path", PeerStats{Path: PathNone}, true, false, full, LimitPath},
		{"a relay", PeerStats{Path: PathRelay, LossOut: 0.1}, true, true, full, LimitRelay},
		{"the program does not wait", PeerStats{Path: PathDirect, LossOut: 0.1}, true, true, stack.Backlog{}, LimitSender},
		{"loss", PeerStats{Path: PathDirect, LossOut: 0.1}, true, true, full, LimitLoss},
		{"little loss, a queue for WireGuard", PeerStats{Path: PathDirect, LossOut: lossy}, true, true, full, LimitCPU},
		{"the largest window", direct, true, false, stack.Backlog{Full: true, Window: true}, LimitWindow},
		{"the line", direct, true, false, full, LimitRate},
	}
	for _, tt := range tests {
		if got := limitOf(tt.peer, tt.used, tt.busy, tt.backlog); got != tt.want {
			t.Errorf("%s: the limit is %q, want %q", tt.name, got, tt.want)
		}
	}
}
