package s3

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/usage"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
)

func newCost(o *cli.Options) *cobra.Command {
	return &cobra.Command{
		Use: "cost [ID]", Short: "what this node asked of S3 stores this month, what it costs, and what the month will come to", Args: cli.Between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c := daemon.Client(o)
			defer c.Close()
			var all []stores.Bill
			if err := daemon.Get(cmd.Context(), c, "/holdfast/s3", nil, &all); err != nil {
				return err
			}
			if len(args) == 1 {
				all = slices.DeleteFunc(all, func(b stores.Bill) bool { return b.ID != args[0] })
				if len(all) == 0 {
					return cli.Hint(fmt.Errorf("there is no S3 endpoint %s", args[0]), "list them: holdfast s3 endpoint list")
				}
			}
			return o.Print(all, func(w io.Writer) {
				for i, b := range all {
					if i > 0 {
						fmt.Fprintln(w)
					}
					printBill(w, b)
				}
				if len(all) == 0 {
					fmt.Fprintln(w, "there is no S3 endpoint")
				}
			})
		},
	}
}

func printBill(w io.Writer, b stores.Bill) {
	fmt.Fprintf(w, "S3 endpoint %s in %s: %s in %d objects", b.ID, b.Month, cli.Size(b.Stored), b.Objects)
	if len(b.Datastores) > 0 {
		fmt.Fprintf(w, " of datastore %s", strings.Join(b.Datastores, ", "))
	}
	fmt.Fprintln(w)
	if b.Error != "" {
		fmt.Fprintf(w, "something is wrong: %s\n", b.Error)
	}
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "\tSO FAR\tAT THE END OF THE MONTH")
	classes := map[string]bool{}
	for _, u := range []usage.Count{b.SoFar, b.Forecast} {
		for class, n := range u.Requests {
			classes[class] = classes[class] || n > 0
		}
	}
	for _, class := range slices.Sorted(maps.Keys(classes)) {
		if classes[class] {
			fmt.Fprintf(tab, "%s requests\t%d\t%d\n", class, b.SoFar.Requests[class], b.Forecast.Requests[class])
		}
	}
	fmt.Fprintf(tab, "bytes in\t%s\t%s\n", cli.Size(b.SoFar.In), cli.Size(b.Forecast.In))
	fmt.Fprintf(tab, "bytes out\t%s\t%s\n", cli.Size(b.SoFar.Out), cli.Size(b.Forecast.Out))
	if b.Provider != "" {
		money := prices.Provider{Currency: b.Currency}.Money
		row := func(what string, so, will float64) { fmt.Fprintf(tab, "%s\t%s\t%s\n", what, money(so), money(will)) }
		row("for requests", b.Cost.Requests, b.WillCost.Requests)
		row("for traffic", b.Cost.Egress, b.WillCost.Egress)
		row("for storage, a month", b.Cost.Storage, b.WillCost.Storage)
		row("together", b.Cost.Total(), b.WillCost.Total())
	}
	tab.Flush()
	if b.Provider == "" {
		fmt.Fprintf(w, "what it charges is not known: holdfast s3 endpoint update %s --prices storage=…,egress=…, or --provider NAME\n", b.ID)
	} else {
		fmt.Fprintf(w, "prices of %s, as of %s, before tax\n", b.Provider, b.PricesOf)
	}
	for _, l := range b.Budget {
		state := ""
		switch {
		case l.Over():
			state = ": used up"
		case l.Near():
			state = ": it may not be enough"
		}
		fmt.Fprintf(w, "budget %s (%s): %.2f of %.2f, forecast %.2f%s\n", l.What, b.Action, l.Used, l.Limit, l.Forecast, state)
	}
}
