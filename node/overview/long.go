package overview

import (
	"fmt"
	"strings"
	"time"
)

// Long says in words how long a time is: nobody knows by heart that 26280 hours are three
// years.
func Long(d time.Duration) string {
	const day = 24 * time.Hour
	switch d = d.Abs(); {
	case d < 10*time.Minute:
		return d.Round(time.Second).String()
	case d < 2*day:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	case d < 730*day:
		return fmt.Sprintf("%d days", d.Round(day)/day)
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(d)/float64(365*day)), ".0") + " years"
}
