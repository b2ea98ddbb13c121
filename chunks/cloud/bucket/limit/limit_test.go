package limit

import (
	"testing"
	"testing/synctest"
	"time"
)

// The limiter halves at a complaint, once for many at the same time, and
// recovers while nobody complains.
func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(0)
		begin := time.Now()
		for range 1000 {
			if err := l.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond) // 100 a second
		}
		if took := time.Since(begin); took != 10*time.Second {
			t.Errorf("no limit, and 1,000 requests took %s", took)
		}
		for range 20 {
			l.Slower()
		}
		if r := l.Now(); r < 25 || r > 100 {
			t.Errorf("after a complaint at 100 a second the rate is %.1f", r)
		}
		begin = time.Now()
		for range 200 {
			_ = l.Wait(t.Context())
		}
		if took := time.Since(begin); took < 2*time.Second || took > 8*time.Second {
			t.Errorf("200 requests at about 50 a second took %s", took)
		}
		time.Sleep(3 * time.Minute)
		_ = l.Wait(t.Context())
		if r := l.Now(); r != 0 {
			t.Errorf("three quiet minutes later the rate is still %.1f", r)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		l := New(10)
		begin := time.Now()
		for range 110 {
			_ = l.Wait(t.Context())
		}
		if took := time.Since(begin); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("110 requests at 10 a second took %s", took)
		}
		l.Slower()
		time.Sleep(time.Minute)
		_ = l.Wait(t.Context())
		if r := l.Now(); r != 10 {
			t.Errorf("the rate recovered to %.1f, want its ceiling of 10", r)
		}
	})
}
