package settings

import (
	"testing"
	"time"
)

func TestParseDelay(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"": DefaultDelay, "off": 0, "250ms": 250 * time.Millisecond, "1m": time.Minute,
		"0": -1, "1us": -1, "2m": -1, "-1s": -1, "fast": -1,
	} {
		if d, err := ParseDelay(text); (err != nil) != (want < 0) || err == nil && d != want {
			t.Errorf("%q: %v, %v, want %v", text, d, err, want)
		}
	}
}
