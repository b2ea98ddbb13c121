package tunnel_test

import (
	"context"
	"flag"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/tunnel/tunneltest"
)

var dials = flag.Int("dials", 0, "first contacts over a lossy line in TestManyDialsOverALossyLine; 0: none")

// A tool more than a test: it dials many times over a line that loses, doubles
// and disorders packets, each time between nodes that never met, and prints
// how long that took. CI does not run it: what it shows is a distribution.
//
//	go test ./tunnel -race -run ManyDials -v -dials 1000
func TestManyDialsOverALossyLine(t *testing.T) {
	if *dials == 0 {
		t.Skip("only with -dials")
	}
	var mu sync.Mutex
	var took []time.Duration
	var wait sync.WaitGroup
	slots := make(chan struct{}, 8)
	for seed := range uint64(*dials) {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			d := dialOnce(t, seed)
			mu.Lock()
			defer mu.Unlock()
			if took = append(took, d); d > 10*time.Second {
				t.Logf("seed %d: %v", seed, d.Round(time.Millisecond))
			}
		})
	}
	wait.Wait()
	slices.Sort(took)
	for _, share := range []float64{0.5, 0.9, 0.99, 0.999, 1} {
		t.Logf("%5.1f %% within %v", 100*share, took[int(share*float64(len(took)-1))].Round(time.Millisecond))
	}
}

func dialOnce(t *testing.T, seed uint64) time.Duration {
	w := world{tunneltest.New(seed), tunneltest.NewRelays()}
	defer w.net.Close()
	defer w.relays.Close()
	w.net.Usual(tunneltest.Link{Delay: 3 * time.Millisecond, Jitter: time.Millisecond, Loss: 0.15, Duplicate: 0.3, Reorder: 0.3})
	a, b := w.pair(t, w.net.Host("alpha", "203.0.113.1"), w.net.Host("bravo", "203.0.113.2"))
	defer a.Stop(t)
	defer b.Stop(t)
	l, err := b.Listen(8400)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	begun := time.Now()
	c, err := a.Dial(ctx, b.ID, 8400)
	if err != nil {
		t.Errorf("seed %d: %v after %v", seed, err, time.Since(begun))
		return time.Since(begun)
	}
	defer c.Close()
	return time.Since(begun)
}
