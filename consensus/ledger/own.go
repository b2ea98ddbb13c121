package ledger

import (
	"strings"

	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// ownChange tells whether a change is about the node that sends it, and about
// nothing else: its datastores, its jobs, its settings. Whatever the role of a
// node, what it does with its own disks is for the people there to say.
func (t *tx) ownChange(c *Change) bool {
	id := nodeID(t.command.Node)
	for _, o := range c.Ops {
		switch o.Table {
		case Settings.number:
			if o.Key != "node/"+id && !strings.HasPrefix(o.Key, "node/"+id+"/") {
				return false
			}
		case Datastores.number:
			var d Datastore
			if !strings.HasPrefix(o.Key, id+"/") || !o.Delete && (canon.Decode(o.Body, &d) != nil || d.Node != id) {
				return false
			}
		case Jobs.number:
			var j Job
			if !strings.HasPrefix(o.Key, id+"/") || !o.Delete && (canon.Decode(o.Body, &j) != nil || j.Node != id) {
				return false
			}
		default:
			return false
		}
	}
	return true
}
