package retention

import (
	"fmt"
	"time"
)

// A Duration is a time.Duration that JSON has as text, such as "24h0m0s".
type Duration time.Duration

// MarshalText writes d as "36h0m0s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what MarshalText writes.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err == nil && v < 0 {
		err = fmt.Errorf("duration %s is negative", text)
	}
	*d = Duration(v)
	return err
}
