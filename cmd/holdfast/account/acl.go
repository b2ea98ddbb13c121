package account

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
)

// NewACL returns the verbs about rights.
func NewACL(o *cli.Options) *cobra.Command {
	list := daemon.Verb{Use: "list", Short: "list who has which role where", Method: get, Path: "/access/acl",
		Show: []string{"path", "ugid", "roleid", "propagate"},
		Flags: []daemon.Flag{
			{Name: "path", Usage: "this path and what is below it, such as /datastore/main"},
			{Name: "exact", Usage: "nothing below", Kind: daemon.Bool},
		}}
	update := daemon.Verb{Use: "update PATH ROLE", Short: "give somebody a role on a path, or take it away", Method: put, Path: "/access/acl", Args: []string{"path", "role"},
		Flags: []daemon.Flag{
			{Name: "auth-id", Usage: "the user or API token", Required: true},
			{Name: "propagate", Usage: "--propagate=false: on this path only, and not below", Kind: daemon.Bool},
			{Name: "delete", Usage: "take the role away", Kind: daemon.Bool},
			{Name: "digest", Usage: "fail if rights were changed since this digest was shown"},
		},
		Example: `  holdfast acl update /datastore/main DatastoreBackup --auth-id backup@pbs
  holdfast acl update /datastore/main DatastoreBackup --auth-id 'backup@pbs!pve1'
  holdfast acl update / Audit --auth-id monitor@pbs`,
		Long: "A path is /, /access, /datastore, /datastore/STORE, /datastore/STORE/NAMESPACE,\n/remote or /system. `holdfast acl roles` lists the roles.",
		Done: "rights on {path} are changed"}
	roles := daemon.Verb{Use: "roles", Short: "list the roles that there are", Method: get, Path: "/access/roles", Show: []string{"roleid", "comment", "privs"}}
	return cli.Group("acl", "say who may do what, and where", list.Command(o), update.Command(o), roles.Command(o))
}
