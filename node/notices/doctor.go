package notices

import (
	"fmt"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/doctor"
	"github.com/holdfast-mesh/holdfast/notify"
)

const typeDoctor = "doctor"

// Found tells what the doctor found of the node. What is found in a bucket is
// told when the task ends that has looked.
func (n *Notices) Found(f doctor.Finding) { n.Tell(ofFinding(f, n.cfg.Name)) }

func ofFinding(f doctor.Finding, node string) notify.Event {
	e := notify.Event{
		Type: typeDoctor, Severity: notify.Warning, Title: fmt.Sprintf("%s: %s", node, f.Text),
		Text: f.Consequence + "\nCure: " + f.Cure + "\nAll of it: holdfast doctor", Key: "doctor/" + f.Check + "/" + f.Severity.String(),
	}
	if f.Severity == doctor.Critical {
		e.Severity = notify.Error
	}
	return e
}
