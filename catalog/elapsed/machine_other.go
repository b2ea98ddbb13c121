//go:build !linux

package elapsed

import "time"

func bootID() string { return "" }

func sinceBoot() (time.Duration, bool) { return 0, false }
