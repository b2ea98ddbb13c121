package tunnel_test

import (
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/tunnel"
	"github.com/holdfast-mesh/holdfast/tunnel/tunneltest"
)

// The limit that is named is the one that binds.
func TestLimit(t *testing.T) {
	t.Parallel()
	line := tunneltest.Link{Delay: 5 * time.Millisecond, Rate: 5e6}
	a, b, n, _ := tunneltest.Pair(t)
	n.Usual(line)
	if l := statsOf(a, b).Limit; l != tunnel.LimitNone {
		t.Errorf("without any use the limit is %q, want none", l)
	}
	client, server := connect(t, a, b, 8400)
	while(t, client, server, "a program that sends little is the limit", func() bool {
		return pathTo(a, b) == tunnel.PathDirect && statsOf(a, b).Limit == tunnel.LimitSender
	})
	fill(t, client, server)
	is := func(want tunnel.Limit) {
		t.Helper()
		until(t, "the limit is "+string(want), func() bool { return statsOf(a, b).Limit == want })
	}
	is(tunnel.LimitRate) // a full queue on the line loses a few packets, so it may say loss for a while
	line.Loss = 0.05
	n.Usual(line)
	is(tunnel.LimitLoss)
}
