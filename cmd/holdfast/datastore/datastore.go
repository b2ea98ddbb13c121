// Package datastore has the verbs about stores.
package datastore

import (
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/spf13/cobra"
)

// New returns the verbs.
func New(o *cli.Options) *cobra.Command {
	return cli.Group("datastore", "make, look at and look after stores of backups",
		newCreate(o), newInit(o), newRemove(o), newList(o), newShow(o), newUpdate(o), newMaintenance(o), newGuard(o), newVerify(o), newHeal(o), newGC(o), newImport(o), newExport(o),
		newMount(o), newUnmount(o), newOffload(o), newRefresh(o), newAudit(o), newTakeOver(o), newThaw(o), newMigrate(o))
}
