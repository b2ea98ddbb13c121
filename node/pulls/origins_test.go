package pulls

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
)

// The origin of a snapshot that was made just now may not have been heard of yet,
// which is no reason to take its chunks unsigned. An old one has none.
func TestOriginsAreAwaited(t *testing.T) {
	for _, tt := range []struct {
		name       string
		age, heard time.Duration
		want       int
		took       time.Duration // at most
	}{
		{"heard late", time.Second, 3 * time.Second, 1, 4 * time.Second},
		{"never heard", time.Second, time.Hour, 0, hearing + time.Second},
		{"old", time.Hour, time.Hour, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				p := &Pulls{cfg: Config{Origins: func([32]byte) []Origin {
					if time.Since(began) < tt.heard {
						return nil
					}
					return []Origin{{Node: "home"}}
				}}}
				m := manifest.New(naming.Snapshot{Group: naming.Group{Type: "host", ID: "a"}, Time: began.Add(-tt.age).Unix()})
				all, err := p.awaitOrigins(t.Context(), m)
				if took := time.Since(began); err != nil || len(all) != tt.want || took > tt.took {
					t.Errorf("%v, %v after %v", all, err, took)
				}
			})
		})
	}
}
