package s3

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/usage"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
)

func newRuns(o *cli.Options) *cobra.Command {
	return &cobra.Command{
		Use: "runs [ID]", Short: "list what tasks were to ask of S3 stores, and asked", Args: cli.Between(0, 1),
		Long:    "Of each task on a bucket: what was forecast when it began, from what the node knew, beside what was\ncounted when it had ended. Bytes are those of objects; money is that of requests and of what was read.",
		Example: "  holdfast s3 endpoint runs near",
		RunE: func(cmd *cobra.Command, args []string) error {
			params := url.Values{}
			if len(args) == 1 {
				params.Set("client", args[0])
			}
			c := daemon.Client(o)
			defer c.Close()
			var all []usage.Run
			if err := daemon.Get(cmd.Context(), c, "/holdfast/s3/runs", params, &all); err != nil {
				return err
			}
			return o.Print(all, func(w io.Writer) { PrintRuns(w, all) })
		},
	}
}

// PrintRuns prints forecast and fact of runs side by side.
func PrintRuns(w io.Writer, all []usage.Run) {
	if len(all) == 0 {
		fmt.Fprintln(w, "none")
		return
	}
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "BEGAN\tTASK\tDATASTORE\t\tREQUESTS\tREAD\tWRITTEN\tCOST")
	for _, r := range all {
		state := ""
		if r.Failed {
			state = " (failed)"
		}
		money := func(amount float64) string {
			if r.Provider == "" {
				return "not known"
			}
			return prices.Provider{Currency: r.Currency}.Money(amount)
		}
		line := func(head, what string, u prices.Use, cost float64) {
			fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%s\t%s\n", head, what, Requests(u.Requests), cli.Size(u.In), cli.Size(u.Out), money(cost))
		}
		head := r.Began.Local().Format(time.DateTime) + "\t" + r.Type + state + "\t" + r.Store
		if r.Forecast != nil {
			line(head, "forecast", *r.Forecast, r.ForecastCost)
			head = "\t\t"
		}
		line(head, "counted", r.Made, r.Cost)
	}
	tab.Flush()
}

// Requests writes requests for people.
func Requests(made map[string]int64) string {
	var parts []string
	for _, class := range slices.Sorted(maps.Keys(made)) {
		parts = append(parts, fmt.Sprintf("%d %s", made[class], class))
	}
	return cmp.Or(strings.Join(parts, ", "), "none")
}
