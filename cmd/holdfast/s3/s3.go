// Package s3 has the verbs about S3 stores. They take what
// proxmox-backup-manager takes.
package s3

import (
	"net/http"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
)

// flags are what can be said of an endpoint.
var flags = []daemon.Flag{
	{Name: "endpoint", Usage: "host or URL; {{bucket}} and {{region}} in it are filled in"},
	{Name: "port", Usage: "unless it is in the endpoint", Kind: daemon.Int},
	{Name: "region", Usage: "auto where the store has none; default: us-east-1"},
	{Name: "access-key", Usage: "the ID of the key"},
	{Name: "secret-key", Usage: "its secret; better in a file, or in HOLDFAST_S3_SECRET"},
	{Name: "path-style", Usage: "the bucket in the path, not in the host", Kind: daemon.Bool},
	{Name: "fingerprint", Usage: "SHA-256 of the store's certificate, if no authority has signed it that this machine knows"},
	{Name: "put-rate-limit", Usage: "requests a second at most, of all kinds together", Kind: daemon.Int},
	{Name: "rate-in", Usage: "bytes a second that are read at most: 10MiB"},
	{Name: "rate-out", Usage: "bytes a second that are written at most"},
	{Name: "provider", Usage: "whose prices and limits are meant (aws, wasabi, b2, r2, hetzner, …); default: by the endpoint"},
	{Name: "prices", Usage: "what you know better: storage=0.006,egress=0.01,minimum-days=30,currency=EUR"},
	{Name: "budget", Usage: "of a month: money=20,egress-gb=100,requests=1000000,action=warn, or slow, or stop"},
	{Name: "denied-means-slow", Usage: "the provider says 403 when it means: slow down", Kind: daemon.Bool},
}

// New returns the verbs.
func New(o *cli.Options) *cobra.Command {
	const one, name = "/config/s3/{id}", "id"
	show := []string{"endpoint", "region", "access-key", "path-style", "fingerprint", "put-rate-limit", "rate-in", "rate-out"}
	create := daemon.Verb{
		Use: "create ID", Short: "say how an S3 store is reached", Method: http.MethodPost, Path: "/config/s3", Args: []string{name},
		Flags: daemon.Require(flags, "endpoint", "access-key"), Done: "S3 endpoint {id} is made; try a bucket with: holdfast s3 endpoint check {id} BUCKET",
		Example: "  HOLDFAST_S3_SECRET=… holdfast s3 endpoint create wasabi --endpoint s3.eu-central-1.wasabisys.com --region eu-central-1 --access-key AKIA…",
	}
	update := daemon.Verb{
		Use: "update ID", Short: "change how an S3 store is reached", Method: http.MethodPut, Path: one, Args: []string{name},
		Flags: append([]daemon.Flag{
			{Name: "delete", Usage: "options to be set back to their default", Kind: daemon.List},
			{Name: "digest", Usage: "fail if it was changed since this digest was shown"},
		}, flags...), Done: "S3 endpoint {id} is changed",
	}
	cmd := cli.Group("endpoint", "S3 stores that the node can reach",
		daemon.Verb{Use: "list", Short: "list all", Method: http.MethodGet, Path: "/config/s3", Show: append([]string{name}, show...)}.Command(o),
		daemon.Verb{Use: "show ID", Short: "print one", Method: http.MethodGet, Path: one, Args: []string{name}}.Command(o),
		secret(true).Command(o, create), secret(false).Command(o, update),
		daemon.Verb{Use: "remove ID", Short: "forget one, and its secret", Method: http.MethodDelete, Path: one, Args: []string{name},
			Flags: update.Flags[1:2], Done: "S3 endpoint {id} is removed"}.Command(o),
		newCheck(o), newCost(o), newRuns(o),
		daemon.Verb{Use: "reset-counters ID", Short: "count requests from zero; months, and so budgets, stay", Method: http.MethodPut, Path: "/admin/s3/{id}/reset-counters",
			Args: []string{name}, Done: "the counters of {id} begin anew"}.Command(o),
	)
	return cli.Group("s3", "stores with the S3 protocol", cmd)
}

func secret(need bool) daemon.Secret {
	return daemon.Secret{Param: "secret-key", What: "secret key", File: "secret-key-file", Usage: "file with the secret key", Env: "HOLDFAST_S3_SECRET", Need: need}
}
