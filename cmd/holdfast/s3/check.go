package s3

import (
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	report "github.com/holdfast-mesh/holdfast/chunks/cloud/doctor"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/doctor"
)

// A checked is what the node says of a bucket.
type checked struct {
	Can    bucket.Capabilities `json:"can"`
	Usable bool                `json:"usable"`
	Fenced bool                `json:"fenced"`
	Why    string              `json:"why"`
	Doctor *report.Report      `json:"doctor"`
}

func newCheck(o *cli.Options) *cobra.Command {
	var prefix string
	var strict bool
	cmd := &cobra.Command{
		Use: "check ID BUCKET", Short: "find out what is wrong with a bucket, and what it can do; some 100 requests", Args: cli.Exactly(2),
		Long: "It examines a bucket as the node does before a datastore is made in it, and fails if backups would be lost there,\nunreadable, or not be made. It writes a few small objects below probe/ and removes them again.",
		RunE: func(cmd *cobra.Command, args []string) error {
			params := url.Values{"id": {args[0]}, "bucket": {args[1]}}
			if prefix != "" {
				params.Set("store-prefix", prefix)
			}
			c := daemon.Client(o)
			defer c.Close()
			answer, err := daemon.Call(cmd.Context(), c, http.MethodPut, "/admin/s3/{id}/check", params)
			if err != nil {
				return err
			}
			var r checked
			if err := answer.Into(&r); err != nil {
				return err
			}
			if err := o.Print(answer.Data, func(w io.Writer) { r.print(w) }); err != nil {
				return err
			}
			if err := doctor.Judge(r.Doctor.Findings, strict); err != nil {
				return err
			}
			if !r.Usable {
				return fmt.Errorf("the bucket cannot hold a datastore: %s", r.Why)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&prefix, "store-prefix", "", "in front of all keys")
	cmd.Flags().BoolVar(&strict, "strict", false, "fail for warnings too")
	return cmd
}

func (r *checked) print(w io.Writer) {
	doctor.Bucket(w, r.Doctor)
	switch {
	case !r.Usable:
		fmt.Fprintf(w, "it cannot hold a datastore: %s\n", r.Why)
	case r.Fenced:
		fmt.Fprintln(w, "it can hold a datastore, and keeps two writers apart")
	default:
		fmt.Fprintln(w, "it can hold a datastore, but cannot keep two writers apart: create it with --single-writer, and see that there is only one")
	}
}
