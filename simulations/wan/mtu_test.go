package wan_test

import (
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/simulations/wan"
)

func TestMTU(t *testing.T) {
	tests := []struct {
		name       string
		link       wan.Link
		size       int
		mayCut     bool // the sender allows routers to fragment
		arrives    bool
		senderTold bool
	}{
		{"fits exactly", wan.Link{MTU: 1400, Delay: 10 * ms}, 1400, false, true, false},
		{"one byte too many", wan.Link{MTU: 1400, Delay: 10 * ms}, 1401, false, false, true},
		{"a black hole tells nobody", wan.Link{MTU: 1400, Blackhole: true}, 1401, false, false, false},
		{"a black hole passes what fits", wan.Link{MTU: 1400, Blackhole: true}, 1400, false, true, false},
		{"a packet that may be fragmented is dropped all the same", wan.Link{MTU: 1400}, 1401, true, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, 1, wan.Link{}, func(t *testing.T, w *world) {
				path := w.Path(w.home, w.dc)
				path.Set(tt.link)
				p := packet("home", "dc", tt.size, 1)
				if tt.mayCut {
					p[6] = 0
				}
				start := time.Now()
				w.homeDev.send <- p
				time.Sleep(time.Second)
				if got := len(w.dcDev.take()); got == 1 != tt.arrives {
					t.Errorf("%d packets arrived", got)
				}
				answers := w.homeDev.take()
				if len(answers) == 1 != tt.senderTold {
					t.Errorf("the sender got %d messages", len(answers))
				}
				for _, a := range answers {
					if icmp := a.data[20:]; icmp[0] != 3 || icmp[1] != 4 || a.at.Sub(start) != 10*ms {
						t.Errorf("the sender got ICMP type %d code %d after %v, want 3, 4 and 10ms", icmp[0], icmp[1], a.at.Sub(start))
					}
				}
				if c := path.Counters(); c.TooBig == 0 != tt.arrives {
					t.Errorf("counters: %s", c)
				}
			})
		})
	}
}
