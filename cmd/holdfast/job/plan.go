package job

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/s3"
	"github.com/holdfast-mesh/holdfast/node/admin"
)

// A plan is what the node answers, as far as it is printed as text.
type plan struct {
	Job       string   `json:"id"`
	Source    string   `json:"source"`
	Snapshots int      `json:"snapshots"`
	Bytes     int64    `json:"bytes"`
	Create    []string `json:"create-namespaces"`
	Groups    []group  `json:"groups"`
	Total     int      `json:"total-groups"`
	Vanished  []group  `json:"vanished-groups"`
	Empty     []string `json:"vanished-namespaces"`
	Fates     []fate   `json:"vanished"`
}

// A fate is what becomes of a snapshot that the source has no more.
type fate struct {
	NS       string `json:"ns"`
	Snapshot string `json:"snapshot"`
	Keep     string `json:"keep"`
}

type group struct {
	From    string `json:"from-ns"`
	To      string `json:"ns"`
	Group   string `json:"group"`
	Refused string `json:"refused"`
	Fetch   []struct {
		Time int64
		Size int64
		Why  string `json:"why"`
	} `json:"fetch"`
	Skip []struct {
		Time   int64  `json:"backup-time"`
		Reason string `json:"reason"`
	} `json:"skip"`
}

func newPlan(o *cli.Options) *cobra.Command {
	cmd := verbOfAny(o, "plan ID", "print what a job would do now, and why", func(cmd *cobra.Command, c *admin.Client, job string) error {
		r, err := daemon.Call(cmd.Context(), c, http.MethodGet, "/holdfast/jobs/{job}/plan", url.Values{"job": {job}})
		if err != nil {
			return err
		}
		var p interface{ text(w io.Writer) } = new(plan)
		var any struct {
			Steps    *[]step          `json:"steps"`
			Requests map[string]int64 `json:"requests"`
			asked
		}
		if err = json.Unmarshal(r.Data, &any); err == nil {
			switch {
			case any.Steps != nil:
				p = stepsOf{*any.Steps, any.asked}
			case any.Requests != nil:
				p = new(offloadPlan)
			}
			if any.Steps == nil {
				err = json.Unmarshal(r.Data, p)
			}
		}
		if err != nil {
			return fmt.Errorf("the plan makes no sense: %w", err)
		}
		return o.Print(r.Data, p.text)
	})
	cmd.Long = "Nothing is changed, and nothing but catalogues is fetched. ID may be gc:STORE, for the garbage\ncollection of a datastore. Bytes are those of the snapshots; chunks that are there are not copied."
	cmd.Example = "  holdfast job plan nightly\n  holdfast job plan gc:main"
	return cmd
}

// A step is something that a job would do.
type step struct {
	Do    string `json:"do"`
	What  string `json:"what"`
	Why   string `json:"why"`
	Bytes int64  `json:"bytes"`
}

type steps []step

// An asked is what a run would ask of a bucket.
type asked struct {
	Bucket *prices.Use `json:"bucket"`
	Cost   *bill       `json:"cost"`
}

// A stepsOf is a plan of steps, and what of a bucket they would ask.
type stepsOf struct {
	steps
	asked
}

func (p stepsOf) text(w io.Writer) {
	p.steps.text(w)
	if p.Bucket == nil {
		return
	}
	fmt.Fprintf(w, "requests   %s; %s to be read and %s to be written", s3.Requests(p.Bucket.Requests), cli.Size(p.Bucket.In), cli.Size(p.Bucket.Out))
	if p.Cost != nil {
		fmt.Fprintf(w, ", %s (%s, prices of %s)", p.Cost.Text, p.Cost.Provider, p.Cost.Date)
	}
	fmt.Fprintln(w)
}

func (list steps) text(w io.Writer) {
	if len(list) == 0 {
		fmt.Fprintln(w, "there is nothing to do")
	}
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range list {
		size := ""
		if s.Bytes > 0 {
			size = cli.Size(s.Bytes)
		}
		fmt.Fprintln(tab, strings.TrimRight(s.Do+"\t"+s.What+"\t"+size+"\t"+s.Why, "\t"))
	}
	tab.Flush()
}

func (p plan) text(w io.Writer) {
	fmt.Fprintf(w, "job %s from %s: %d of %d groups, %d snapshots to fetch or to look at again, %s\n", p.Job, p.Source, len(p.Groups), p.Total, p.Snapshots, cli.Size(p.Bytes))
	if len(p.Create) > 0 {
		fmt.Fprintf(w, "namespaces to be made: %s\n", strings.Join(p.Create, ", "))
	}
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, g := range p.Groups {
		g.text(tab)
	}
	for _, g := range p.Vanished {
		fmt.Fprintf(tab, "%s\tthe source has no such group\n", place("", g.To)+" "+g.Group)
	}
	for _, f := range p.Fates {
		name := f.Snapshot
		if f.NS != "" {
			name = f.NS + ":" + name
		}
		if f.Keep == "" {
			fmt.Fprintf(tab, "remove\t%s\t\tthe source has removed it; it goes to the trash\n", name)
		} else {
			fmt.Fprintf(tab, "keep\t%s\t\tvanished at the source: %s\n", name, f.Keep)
		}
	}
	tab.Flush()
	for _, ns := range p.Empty {
		fmt.Fprintf(w, "namespace %s is not there at the source; it stays\n", ns)
	}
}

func (g group) text(w io.Writer) {
	name := g.Group
	if g.To != "" {
		name = g.To + ":" + name
	}
	if g.Refused != "" {
		fmt.Fprintf(w, "refuse\t%s\t%s\n", name, g.Refused)
	}
	for _, f := range g.Fetch {
		fmt.Fprintf(w, "fetch\t%s/%s\t%s\t%s\n", name, at(f.Time), cli.Size(f.Size), f.Why)
	}
	for _, s := range g.Skip {
		fmt.Fprintf(w, "skip\t%s/%s\t\t%s\n", name, at(s.Time), s.Reason)
	}
}

func at(unix int64) string { return time.Unix(unix, 0).UTC().Format(time.RFC3339) }
