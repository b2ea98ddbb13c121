package job

import (
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
