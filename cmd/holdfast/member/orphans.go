package member

import (
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
	"github.com/holdfast-mesh/holdfast/node/members"
)

func newOrphans(o *cli.Options) *cobra.Command {
	const path = "/holdfast/orphans"
	var forget bool
	cmd := &cobra.Command{
		Use: "orphans", Short: "list changes that were lost when the cluster went on without this node", Args: cli.NoArgs,
		Long: `When the cluster was recovered elsewhere (recover-quorum), or a leader took back what was
agreed on, what was changed on the side of this node meanwhile is in the ledger no more.
Those changes are listed, with who made them. Make again what is missed; --forget then
empties the list, and ends the warning in status.

Backups and their snapshots are not touched by any of this. A datastore that is missing is
taken in again, with all that it has, by: holdfast datastore create NAME --path DIR
--reuse-datastore`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := daemon.Client(o)
			defer c.Close()
			if forget {
				if _, err := daemon.Call(cmd.Context(), c, http.MethodDelete, path, nil); err != nil {
					return err
				}
				return o.Print(map[string]bool{"forgotten": true}, func(w io.Writer) { fmt.Fprintln(w, "the list is empty now") })
			}
			r, err := daemon.Call(cmd.Context(), c, http.MethodGet, path, nil)
			if err != nil {
				return err
			}
			var all []members.Orphan
			if err := r.Into(&all); err != nil {
				return err
			}
			return o.Print(r.Data, func(w io.Writer) {
				if len(all) == 0 {
					fmt.Fprintln(w, "no changes were lost, as far as this node knows")
					return
				}
				tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(tab, "time\twho\tnode\twhat")
				for _, c := range all {
					fmt.Fprintf(tab, "%s\t%s\t%s\t%s\n", time.Unix(c.Time, 0).Format(time.DateTime), c.Actor, c.Node, c.What)
				}
				tab.Flush()
			})
		},
	}
	cmd.Flags().BoolVar(&forget, "forget", false, "empty the list: somebody has seen to it")
	return cmd
}
