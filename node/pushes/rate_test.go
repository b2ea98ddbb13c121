package pushes_test

import (
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/replication/rate"
)

// A push is never faster than its rate, but for a burst (features rows 67 to 69).
func TestRateOut(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.back("vm/1"+at, random(1, 12<<20), nil)
	l.out = rate.New(nil, func(time.Time) rate.Limit { return rate.Limit{Rate: 8 << 20, Burst: 2 << 20} })
	began := time.Now()
	r, err := l.push(nil, nil)
	took := time.Since(began)
	if err != nil || r.Bytes < 12<<20 {
		t.Fatalf("%+v %v", r, err)
	}
	if least := time.Duration(float64(r.Bytes-2<<20) / (8 << 20) * float64(time.Second)); took < least {
		t.Errorf("%d bytes took %s, want at least %s", r.Bytes, took, least)
	}
}
