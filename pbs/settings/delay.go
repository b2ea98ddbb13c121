package settings

import (
	"fmt"
	"time"
)

// DefaultDelay is how much longer than usual a round trip may be while a job
// fetches, before it fetches more slowly.
const DefaultDelay = 100 * time.Millisecond

// ParseDelay reads the max-delay of a job: "" is the default, and "off" is 0, which
// means any.
func ParseDelay(text string) (time.Duration, error) {
	switch text {
	case "":
		return DefaultDelay, nil
	case "off":
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Millisecond || d > time.Minute {
		return 0, fmt.Errorf("%q is no delay: want off, or 1ms to 1m", text)
	}
	return d, nil
}
