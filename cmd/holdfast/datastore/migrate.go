package datastore

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/migrate"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// A migratePlan is what the node says of a migration.
type migratePlan struct {
	migrate.Plan
	Manifest string `json:"manifest,omitempty"`
}

func newMigrate(o *cli.Options) *cobra.Command {
	var client, bucket, prefix, rate, manifest string
	var override []string
	var dry, home bool
	cmd := &cobra.Command{
		Use: "migrate [NAME]", Short: "copy the store of a datastore into another bucket, region or provider", Args: cli.Between(0, 1),
		Long: `It copies what the other bucket lacks, each object checked, while the datastore is used. It may be cut off and run
again: nothing is copied twice. With --home the other bucket is the home of the datastore from then on, after all that
it needs was found there; nothing is removed from the old one. With --dry-run it says how much there is to copy, how
long that takes, and what it costs.`,
		Example: `  holdfast datastore migrate cloud --s3 far --bucket backups-2 --dry-run
  holdfast datastore migrate cloud --s3 far --bucket backups-2            # as often as you like
  holdfast datastore migrate cloud --s3 far --bucket backups-2 --home     # and stay there`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if manifest != "" && home {
				return cli.Usage(errors.New("--manifest copies nothing, so the store cannot move with it: run --home when the list was copied"))
			}
			if err := knownChecks(override); err != nil {
				return err
			}
			name, _, err := o.Named(cmd.Context(), args)
			if err != nil {
				return err
			}
			params := url.Values{"store": {name}, "client": {client}, "bucket": {bucket}, "override": override}
			if prefix != "" {
				params.Set("prefix", prefix)
			}
			if !dry && manifest == "" {
				if home {
					params.Set("home", "1")
				}
				return do(o, cmd.Context(), http.MethodPost, cloudPath+"/migrate", params)
			}
			bytes, err := settings.ParseSize(rate)
			if err != nil || bytes < 1 {
				return cli.Usage(fmt.Errorf("--rate is %q, want bytes per second, such as 20MiB", rate))
			}
			params.Set("rate", fmt.Sprint(bytes))
			if manifest != "" {
				params.Set("manifest", "1")
			}
			c := daemon.Client(o)
			defer c.Close()
			var p migratePlan
			if err := daemon.Get(cmd.Context(), c, cloudPath+"/migrate", params, &p); err != nil {
				return err
			}
			if manifest != "" {
				if err := os.WriteFile(manifest, []byte(p.Manifest), 0o644); err != nil {
					return err
				}
				p.Manifest = ""
			}
			return o.Print(p, func(w io.Writer) { printMigrate(w, p.Plan) })
		},
	}
	cmd.Flags().StringVar(&client, "s3", "", "the S3 endpoint of the other bucket (required)")
	cmd.Flags().StringVar(&bucket, "bucket", "", "its name (required)")
	cmd.Flags().StringVar(&prefix, "prefix", "", "where in it")
	cmd.Flags().BoolVar(&home, "home", false, "it is the home of the datastore from then on")
	cmd.Flags().StringArrayVar(&override, "override", nil, "accept the critical findings of this check of the doctor in the other bucket")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what there is to copy, how long it takes, and what it costs")
	cmd.Flags().StringVar(&rate, "rate", "20MiB", "of --dry-run: how much the line copies in a second")
	cmd.Flags().StringVar(&manifest, "manifest", "", "copy nothing, and write what there is to copy into this file, for S3 Batch Operations")
	_ = cmd.MarkFlagRequired("s3")
	_ = cmd.MarkFlagRequired("bucket")
	return cmd
}

func printMigrate(w io.Writer, p migrate.Plan) {
	fmt.Fprintf(w, "there already  %d objects, %s\n", p.Done.Objects, cli.Size(p.Done.Bytes))
	fmt.Fprintf(w, "to copy        %d objects, %s\n", p.Left.Objects, cli.Size(p.Left.Bytes))
	if p.Archived.Objects > 0 {
		fmt.Fprintf(w, "ARCHIVED       %d of them, %s: holdfast datastore thaw comes first\n", p.Archived.Objects, cli.Size(p.Archived.Bytes))
	}
	if p.Within {
		fmt.Fprintln(w, "takes          what the provider needs: it copies by itself, and nothing passes through here")
	} else {
		fmt.Fprintf(w, "takes          %.1f hours at %s a second\n", p.Hours, cli.Size(p.Rate))
	}
	fmt.Fprintf(w, "requests       %d get, %d put, %d list\n", p.Requests["get"], p.Requests["put"], p.Requests["list"])
	read, write, here, there := unpriced, unpriced, unpriced, unpriced
	if p.FromKnown {
		read = fmt.Sprintf("%.2f %s to read, of which %.2f for what leaves", p.From.Total(), p.FromUnit, p.From.Egress)
		here = fmt.Sprintf("%.2f %s a month", p.MonthFrom, p.FromUnit)
	}
	if p.ToKnown {
		write = fmt.Sprintf("%.2f %s to write", p.To.Total(), p.ToUnit)
		there = fmt.Sprintf("%.2f %s a month", p.MonthTo, p.ToUnit)
	}
	fmt.Fprintf(w, "costs once     here: %s; there: %s\n", read, write)
	fmt.Fprintf(w, "storage        here: %s; there: %s; both until the old one is emptied\n", here, there)
	if !p.FromKnown || !p.ToKnown {
		fmt.Fprintln(w, "               say what is not known: holdfast s3 endpoint update ID --provider NAME, or --prices storage=…,put=…,get=…,list=…,egress=…")
	}
}

const unpriced = "unknown, as the provider's prices are"
