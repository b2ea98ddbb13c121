package job

import (
	"encoding/json"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
)

// completeIDs names the jobs of the node.
func completeIDs(o *cli.Options) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		c := daemon.Client(o)
		defer c.Close()
		list, err := all(cmd.Context(), c, where(cmd))
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var ids []string
		for _, f := range list {
			ids = append(ids, f.text("id")+"\t"+f.name+" job")
		}
		return ids, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeFlags has the flags of a job that name nodes and datastores complete.
func completeFlags(o *cli.Options, cmd *cobra.Command) {
	for flag, from := range map[string][2]string{"remote": {"/holdfast/members", "name"}, "store": {"/config/datastore", "name"}, "to": {"/config/datastore", "name"}, "remote-store": {"/config/datastore", "name"}} {
		if cmd.Flags().Lookup(flag) == nil {
			continue
		}
		_ = cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			return names(o, cmd, from[0], from[1]), cobra.ShellCompDirectiveNoFileComp
		}) // fails only if it is registered twice
	}
}

// names lists a field of what a call answers with.
func names(o *cli.Options, cmd *cobra.Command, path, field string) (all []string) {
	c := daemon.Client(o)
	defer c.Close()
	r, err := daemon.Call(cmd.Context(), c, http.MethodGet, path, nil)
	if err != nil {
		return nil
	}
	var list []map[string]any
	if json.Unmarshal(r.Data, &list) != nil {
		return nil
	}
	for _, item := range list {
		if name, ok := item[field].(string); ok {
			all = append(all, name)
		}
	}
	return all
}
