package jobs

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs/tasklog"
)

const at = "2026-11-21T02:12:27+00:00: "

func TestLastResult(t *testing.T) {
	for name, row := range map[string]struct {
		in, want string
		state    State
	}{
		"an end":                  {at + "x\n" + at + "TASK OK\n", "OK", OK},
		"warnings":                {at + "TASK WARNINGS: 3\n", "WARNINGS: 3", Warning},
		"no warnings":             {at + "TASK WARNINGS: 0\n", "WARNINGS: 0", Unknown},
		"an error":                {at + "TASK ERROR: no: such thing\n", "ERROR: no: such thing", Failed},
		"an end without a time":   {"TASK OK\n", "OK", OK},
		"no end":                  {at + "x\n", "", Unknown},
		"an end that has no end":  {at + "TASK O", "O", Unknown},
		"an end in the middle":    {at + "TASK OK\n" + at + "x\n", "", Unknown},
		"nothing":                 {"", "", Unknown},
		"a result within a line":  {at + "the TASK OK\n", "", Unknown},
		"a line that looks alike": {at + " TASK OK\n", "", Unknown},
	} {
		got, _, err := tasklog.LastResult(tasklog.NewReader(strings.NewReader(row.in), time.Time{}))
		var i Info
		i.setResult(got)
		if err != nil || got != row.want || i.State != row.state {
			t.Errorf("%s: %q, %v, %v, want %q, %v", name, got, i.State, err, row.want, row.state)
		}
	}
}
