package datastore

import (
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
)

// ofBucket makes a verb that starts a task on a datastore with a bucket, or on a
// removable one.
func ofBucket(o *cli.Options, use, short, method, path string) *cobra.Command {
	return &cobra.Command{
		Use: use + " [NAME]", Short: short, Args: cli.Between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, _, err := o.Named(cmd.Context(), args)
			if err != nil {
				return err
			}
			params := url.Values{"store": {name}}
			if f := cmd.Flags().Lookup("force"); f != nil && f.Changed {
				params.Set("force", f.Value.String())
			}
			return do(o, cmd.Context(), method, path, params)
		},
	}
}

func newOffload(o *cli.Options) *cobra.Command {
	return ofBucket(o, "offload", "move what is old enough to the bucket now", http.MethodPost, cloudPath+"/offload")
}

func newAudit(o *cli.Options) *cobra.Command {
	return ofBucket(o, "audit", "compare the bucket with what should be in it", http.MethodPost, cloudPath+"/audit")
}

func newRefresh(o *cli.Options) *cobra.Command {
	return ofBucket(o, "refresh", "read the snapshots of the bucket again; the datastore is closed meanwhile", http.MethodPut, adminPath+"/s3-refresh")
}

func newTakeOver(o *cli.Options) *cobra.Command {
	cmd := ofBucket(o, "take-over", "own a bucket that another node had", http.MethodPost, cloudPath+"/take-over")
	cmd.Flags().Bool("force", false, "though its lease has not ended: that node is gone for good; and go on without what status says is missing in the bucket")
	return cmd
}
