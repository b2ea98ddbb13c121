package members

import (
	"fmt"

	"github.com/holdfast-mesh/holdfast/node/cluster"
	"github.com/holdfast-mesh/holdfast/node/overview"
)

// KeptOut warns of members that this node keeps out, though they belong to the cluster:
// elsewhere nobody knows, and here it would look as if they were away. Of those whom
// operators removed on another side there is an alarm.
func KeptOut(c *cluster.Cluster, node string) (list []overview.Warning) {
	why := map[string]string{}
	for _, b := range c.Guard().Blocks() {
		why[b.What] = b.Reason
	}
	for _, m := range All(c, false) {
		reason := why["node "+m.ID]
		if !m.Blocked || m.Self || reason == cluster.StrayReason {
			continue
		}
		if reason != "" {
			reason = ": " + reason
		}
		list = append(list, overview.Warning{
			Level: "warning", Node: node, Text: m.Name + " is kept out of this node" + reason,
			Hint: fmt.Sprintf("`holdfast member eject %s` keeps it out everywhere, and `holdfast guard release --member %[1]s --reason …` lets it in again", m.Name),
		})
	}
	return list
}
