// Package remote has the verbs about servers outside the cluster that this node
// may read from. They take what proxmox-backup-manager takes.
package remote

import (
	"net/http"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
)

// flags are what can be said of a remote.
var flags = []daemon.Flag{
	{Name: "host", Usage: "its name or address"},
	{Name: "port", Usage: "default: 8007", Kind: daemon.Int},
	{Name: "auth-id", Usage: "the user or API token there: sync@pbs, sync@pbs!copy"},
	{Name: "password", Usage: "or the token's secret; better in a file, or in HOLDFAST_REMOTE_PASSWORD"},
	{Name: "fingerprint", Usage: "of its certificate, as `cert info` prints it there; default: authorities have to vouch for it"},
	{Name: "comment", Usage: "what it is for, in one line"},
}

// nodes says who else may use a remote.
var nodes = daemon.Flag{Name: "node", Usage: "other nodes that may use it, by name: each gets the password, sealed to it", Kind: daemon.List}

// New returns the verbs.
func New(o *cli.Options) *cobra.Command {
	const all, one, name = "/config/remote", "/config/remote/{name}", "name"
	create := daemon.Verb{
		Use: "create NAME", Short: "name a server, and who reads there", Method: http.MethodPost, Path: all, Args: []string{name}, Flags: append(daemon.Require(flags, "host", "auth-id"), nodes),
		Done:    "remote {name} is made; see what it has with: holdfast remote scan {name}",
		Example: "  HOLDFAST_REMOTE_PASSWORD=… holdfast remote create office --host pbs.example.org --auth-id 'sync@pbs!copy' --fingerprint 64:d3:…",
	}
	update := daemon.Verb{
		Use: "update NAME", Short: "change what is said of a remote", Method: http.MethodPut, Path: one, Args: []string{name}, Done: "remote {name} is changed",
		Flags: append([]daemon.Flag{
			{Name: "delete", Usage: "options to be set back to their default", Kind: daemon.List},
			{Name: "digest", Usage: "fail if it was changed since this digest was shown"},
		}, flags...),
	}
	remove := daemon.Verb{
		Use: "remove NAME", Short: "forget one, and its password, at all nodes that may use it", Method: http.MethodDelete, Path: one, Args: []string{name}, Done: "remote {name} is removed",
		Flags: []daemon.Flag{update.Flags[1], {Name: "node", Usage: "only at these nodes, by name", Kind: daemon.List}}, Example: "  holdfast remote remove office\n  holdfast remote remove office --node nas",
	}
	return cli.Group("remote", "servers outside the cluster that this node reads from",
		daemon.Verb{Use: "list", Short: "list all", Method: http.MethodGet, Path: all, Show: []string{name, "host", "port", "auth-id", "fingerprint", "nodes", "comment"}}.Command(o),
		daemon.Verb{Use: "show NAME", Short: "print one", Method: http.MethodGet, Path: one, Args: []string{name}}.Command(o),
		password(true).Command(o, create), password(false).Command(o, update),
		remove.Command(o),
		daemon.Verb{Use: "share NAME", Short: "let more nodes use a remote", Method: http.MethodPut, Path: "/holdfast/remotes/{name}/share", Args: []string{name}, Flags: daemon.Require([]daemon.Flag{nodes}, "node"),
			Done: "remote {name} is shared", Example: "  holdfast remote share office --node dc,nas"}.Command(o),
		daemon.Verb{Use: "scan NAME", Short: "list the datastores there", Method: http.MethodGet, Path: one + "/scan", Args: []string{name}, Show: []string{"store", "comment", "maintenance"}}.Command(o))
}

func password(need bool) daemon.Secret {
	return daemon.Secret{Param: "password", What: "password", File: "password-file", Usage: "file with the password, or with the token's secret", Env: "HOLDFAST_REMOTE_PASSWORD", Need: need}
}
