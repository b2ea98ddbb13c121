package datastore

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/thaw"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
)

// A thawPlan is what the node says of a bucket.
type thawPlan struct {
	thaw.Plan
	Manifest string `json:"manifest,omitempty"`
}

func newThaw(o *cli.Options) *cobra.Command {
	var days, tier, manifest string
	var dry bool
	cmd := &cobra.Command{
		Use: "thaw [NAME]", Short: "ask the provider for what a rule of the bucket has moved into an archive", Args: cli.Between(0, 1),
		Long: `It lists the bucket, says what is archived, how long it takes and what it costs, and asks for a readable copy of
each archived object, with a request for each. It may be cut off and run again: nothing is asked for twice. With
--dry-run it asks for nothing. Remove the rule first, or the copies are archived again: holdfast doctor names it.`,
		Example: "  holdfast datastore thaw cloud --dry-run\n  holdfast datastore thaw cloud --tier Standard --days 30\n  holdfast datastore thaw cloud --manifest archived.csv     # for S3 Batch Operations",
		RunE: func(cmd *cobra.Command, args []string) error {
			name, _, err := o.Named(cmd.Context(), args)
			if err != nil {
				return err
			}
			params := url.Values{"store": {name}, "days": {days}, "tier": {tier}}
			if !dry && manifest == "" {
				return do(o, cmd.Context(), http.MethodPost, cloudPath+"/thaw", params)
			}
			if manifest != "" {
				params.Set("manifest", "1")
			}
			c := daemon.Client(o)
			defer c.Close()
			var p thawPlan
			if err := daemon.Get(cmd.Context(), c, cloudPath+"/thaw", params, &p); err != nil {
				return err
			}
			if manifest != "" {
				if err := os.WriteFile(manifest, []byte(p.Manifest), 0o644); err != nil {
					return err
				}
				p.Manifest = ""
			}
			return o.Print(p, func(w io.Writer) { printThaw(w, p.Plan) })
		},
	}
	cmd.Flags().StringVar(&days, "days", "14", "how long the copies stay")
	cmd.Flags().StringVar(&tier, "tier", thaw.Tiers()[0], "Bulk (up to 12 hours, 48 from the deep archive), Standard, or Expedited")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what is archived, how long it takes, and what it costs")
	cmd.Flags().StringVar(&manifest, "manifest", "", "ask for nothing, and write what is archived into this file, for S3 Batch Operations")
	return cmd
}

func printThaw(w io.Writer, p thaw.Plan) {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(what string, s thaw.Sum) {
		fmt.Fprintf(tab, "%s\t%d objects\t%s\n", what, s.Objects, cli.Size(s.Bytes))
	}
	row("never archived", p.Readable)
	row("archived, and restored", p.Restored)
	row("being restored", p.Restoring)
	for _, class := range slices.Sorted(maps.Keys(p.Archived)) {
		row("in "+class, p.Archived[class])
	}
	tab.Flush()
	if p.Requests == 0 {
		fmt.Fprintln(w, "nothing has to be asked for")
		return
	}
	fmt.Fprintf(w, "%d requests, tier %s: all can usually be read within %d hours, for %d days\n", p.Requests, p.Tier, p.Hours, p.Days)
	fmt.Fprintf(w, "at AWS (us-east-1) it costs about %.2f USD (list prices of %s; see its price page), and the copies are billed as standard storage meanwhile\n", p.Cost, p.PricesOf)
}
