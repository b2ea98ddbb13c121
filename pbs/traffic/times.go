package traffic

import (
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-mesh/holdfast/jobs"
)

// ParseTimed reads a rate for a part of the week: "mon..fri 8-18=5MiB".
func ParseTimed(text string) (w jobs.Window, rate int64, err error) {
	when, much, is := strings.Cut(text, "=")
	if !is {
		return w, 0, errors.New("want a window of the week and a rate, such as 'mon..fri 8-18=5MiB'")
	}
	if w, err = jobs.ParseWindow(strings.TrimSpace(when)); err != nil {
		return w, 0, err
	}
	if rate, err = ParseBytes(strings.TrimSpace(much)); err == nil && rate < 1 {
		err = fmt.Errorf("%q is no rate", much)
	}
	return w, rate, err
}
