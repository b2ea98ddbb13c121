package bucket

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		slow := Pace(t.Context(), 2)
		for range 20 {
			if err := paced(slow); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took < 8*time.Second || took > 11*time.Second {
			t.Errorf("20 requests at 2 a second took %s", took)
		}
		began = time.Now()
		for range 20 {
			if err := paced(t.Context()); err != nil || time.Since(began) > 0 {
				t.Fatalf("without a pace: %s, %v", time.Since(began), err)
			}
		}
		ctx, stop := context.WithCancel(slow)
		stop()
		if paced(ctx) == nil {
			t.Error("whoever has gone still waits")
		}
	})
}
