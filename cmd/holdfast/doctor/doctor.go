// Package doctor has the verb that says what is wrong with a node and with its
// buckets, and how the verbs print what was found.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	bucket "github.com/holdfast-mesh/holdfast/chunks/cloud/doctor"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
	"github.com/holdfast-mesh/holdfast/node/admin"
	node "github.com/holdfast-mesh/holdfast/node/doctor"
)

// An examined is what the node says.
type examined struct {
	Node    *node.Report              `json:"node,omitempty"`
	Buckets map[string]*bucket.Report `json:"buckets"`
}

const bucketPath = "/holdfast/datastore/{store}/doctor"

// New returns the verb.
func New(o *cli.Options) *cobra.Command {
	var store string
	var last, strict bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "find out what is wrong with this node and its buckets, and what to do", Args: cli.Exactly(0),
		Long: `It examines this node (clock, disks, memory, the ways to other nodes, certificate, guard) and the bucket of each
datastore that has one; a bucket takes some 50 requests. It fails if a finding is critical: backups would be lost,
unreadable, or not be made.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := daemon.Client(o)
			defer c.Close()
			all, err := examine(cmd.Context(), o, c, store, last)
			if err != nil {
				return err
			}
			if err := o.Print(all, all.print); err != nil {
				return err
			}
			return Judge(all.findings(), strict)
		},
	}
	cmd.Flags().StringVar(&store, "datastore", "", "only the bucket of this one")
	cmd.Flags().BoolVar(&last, "last", false, "what was found in buckets last time, without a request to them")
	cmd.Flags().BoolVar(&strict, "strict", false, "fail for warnings too")
	return cmd
}

func examine(ctx context.Context, o *cli.Options, c *admin.Client, store string, last bool) (all examined, err error) {
	if store != "" {
		all.Buckets = map[string]*bucket.Report{store: nil}
	} else if err := daemon.Get(ctx, c, "/holdfast/doctor", nil, &all); err != nil {
		return all, err
	}
	for _, name := range slices.Sorted(maps.Keys(all.Buckets)) {
		params := url.Values{"store": {name}}
		if !last {
			if !o.Quiet && o.Format == "text" {
				fmt.Fprintf(o.Err, "examining the bucket of datastore %s\n", name)
			}
			if err := bucketOf(ctx, c, params); err != nil {
				return all, err
			}
		}
		var r *bucket.Report
		if err := daemon.Get(ctx, c, bucketPath, params, &r); err != nil {
			return all, err
		}
		all.Buckets[name] = r
	}
	return all, nil
}

// bucketOf has the node examine a bucket, and waits. That the task fails when
// something critical was found is no error here: it is in the report.
func bucketOf(ctx context.Context, c *admin.Client, params url.Values) error {
	r, err := daemon.Call(ctx, c, http.MethodPost, bucketPath, params)
	if err != nil {
		return err
	}
	var upid string
	if err := r.Into(&upid); err != nil {
		return err
	}
	var failed *daemon.TaskError
	if err := daemon.Follow(ctx, c, upid, io.Discard); err != nil && !errors.As(err, &failed) {
		return err
	}
	return nil
}

func (e examined) findings() (all []bucket.Finding) {
	if e.Node != nil {
		all = append(all, e.Node.Findings...)
	}
	for _, r := range e.Buckets {
		if r != nil {
			all = append(all, r.Findings...)
		}
	}
	return all
}

func (e examined) print(w io.Writer) {
	if e.Node != nil {
		Node(w, e.Node)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Buckets)) {
		fmt.Fprintf(w, "\ndatastore %s: ", name)
		if r := e.Buckets[name]; r != nil {
			Bucket(w, r)
		} else {
			fmt.Fprintf(w, "its bucket was never examined: holdfast doctor --datastore %s\n", name)
		}
	}
}

// Node prints a report about a node.
func Node(w io.Writer, r *node.Report) {
	fmt.Fprintf(w, "node %s (%s), examined %s in %s\n", r.Node, r.Version, r.Time.Local().Format(time.DateTime), r.Took.Round(10*time.Millisecond))
	Findings(w, r.Findings, r.Skipped, r.Passed)
	if len(r.Paths) == 0 {
		return
	}
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "TO\tPATH\tADDRESS\tINTERFACE\tROUND TRIP\tVERSION")
	for _, p := range r.Paths {
		at := ""
		if p.Address.IsValid() {
			at = p.Address.String()
		}
		fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%s\t%s\n", p.Name, p.Path, at, p.Interface, p.RTT.Round(10*time.Microsecond), plain(p.Version))
	}
	tab.Flush()
}
