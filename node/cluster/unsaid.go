package cluster

import (
	"slices"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
)

// Unsaid are the commands by which the ledger learns the links of a chain that it lacks.
func (c *Cluster) Unsaid(chain *authority.Chain, actor, source string, more ...[]byte) (commands [][]byte) {
	known, _ := c.ledger.View().Chain().Head()
	for _, l := range append(slices.Clone(chain.Links(known)), more...) {
		commands = append(commands, c.client.Command(actor, source, ledger.KindAuthority, ledger.Link{Link: l}))
	}
	return commands
}

// resume are the commands of a recovery of this node that a crash has cut short: the roster
// has its record, and the ledger has not.
func (c *Cluster) resume() [][]byte {
	if chain := c.keeper.Chain(); chain.Extends(c.ledger.View().Chain()) {
		return c.Unsaid(chain, "root@pam", "")
	}
	return nil
}
