package s3

import (
	"fmt"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/doctor"
	"github.com/holdfast-mesh/holdfast/jobs"
)

// LogReport writes the findings into the log of a task.
func LogReport(t *jobs.Task, r *doctor.Report) {
	for _, f := range r.Findings {
		line := fmt.Sprintf("%s (%s): %s. %s", f.Severity, f.Check, f.Text, f.Consequence)
		if f.Cure != "" {
			line += " Cure: " + f.Cure
		}
		if f.Severity == doctor.Note {
			t.Logf("%s", line)
		} else {
			t.Warnf("%s", line)
		}
	}
	for _, k := range r.Skipped {
		t.Logf("not looked at (%s): %s", k.Check, k.Why)
	}
	t.Logf("%d checks passed, %d findings, in %s", len(r.Passed), len(r.Findings), r.Took.Round(10*time.Millisecond))
}
