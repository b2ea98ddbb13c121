package job

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
	"github.com/holdfast-mesh/holdfast/node/admin"
)

// newPause pauses a job, or takes that back.
func newPause(o *cli.Options, pause bool) *cobra.Command {
	use, short, done := "resume ID", "let a job that was paused run by itself again, from its next time on", "may run by itself again"
	if pause {
		use, short, done = "pause ID", "have a job run only when somebody asks for it; what runs goes on", "is paused"
	}
	cmd := verbOfAny(o, use, short, func(cmd *cobra.Command, c *admin.Client, job string) error {
		params := url.Values{"job": {job}, "paused": {fmt.Sprint(pause)}}
		r, err := daemon.Call(cmd.Context(), c, http.MethodPut, "/holdfast/jobs/{job}/rule", params)
		if err != nil {
			return err
		}
		return o.Print(r.Data, func(w io.Writer) { fmt.Fprintf(w, "%s %s\n", job, done) })
	})
	cmd.Example = "  holdfast job " + strings.Fields(use)[0] + " nightly"
	if pause {
		cmd.Long = "ID may be gc:STORE. Nobody is told of times that pass meanwhile: `holdfast job list` and `job why`\nsay that it is paused."
	}
	return cmd
}

func newHistory(o *cli.Options) *cobra.Command {
	cmd := verbOfAny(o, "history ID", "list the last runs of a job, with what they did", func(cmd *cobra.Command, c *admin.Client, job string) error {
		r, err := daemon.Call(cmd.Context(), c, http.MethodGet, "/holdfast/jobs/{job}/history", url.Values{"job": {job}})
		if err != nil {
			return err
		}
		var list []ran
		if err := r.Into(&list); err != nil {
			return err
		}
		return o.Print(r.Data, func(w io.Writer) { ranText(w, list) })
	})
	cmd.Example = "  holdfast job history nightly"
	return cmd
}

// A ran is a run that has ended.
type ran struct {
	Start int64            `json:"starttime"`
	End   int64            `json:"endtime"`
	State string           `json:"status"`
	Stats map[string]int64 `json:"statistics"`
}

func ranText(w io.Writer, list []ran) {
	if len(list) == 0 {
		fmt.Fprintln(w, "none")
		return
	}
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "began\ttook\tended as\tstatistics")
	for _, r := range list {
		var stats []string
		for _, name := range slices.Sorted(maps.Keys(r.Stats)) {
			text := fmt.Sprint(r.Stats[name])
			if strings.HasSuffix(name, "bytes") {
				text = cli.Size(r.Stats[name])
			}
			stats = append(stats, name+" "+text)
		}
		fmt.Fprintf(tab, "%s\t%s\t%s\t%s\n", moment(float64(r.Start)), time.Duration(r.End-r.Start)*time.Second, r.State, strings.Join(stats, ", "))
	}
	tab.Flush()
}

func newCalendar(o *cli.Options) *cobra.Command {
	v := daemon.Verb{Use: "calendar", Short: "list when the jobs of all sites run next, and which get in each other's way", Method: http.MethodGet, Path: "/holdfast/calendar"}
	hours := 24
	cmd := &cobra.Command{
		Use: v.Use, Short: v.Short, Args: cli.NoArgs, Example: "  holdfast job calendar --hours 48",
		Long: "Times are those of this machine. How long a run takes is how long the last one took; two overlap\nif they work on the same datastore meanwhile.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := daemon.Client(o)
			defer c.Close()
			r, err := daemon.Call(cmd.Context(), c, v.Method, v.Path, url.Values{"hours": {fmt.Sprint(hours)}})
			if err != nil {
				return err
			}
			var list []slot
			if err := json.Unmarshal(r.Data, &list); err != nil {
				return fmt.Errorf("the calendar makes no sense: %w", err)
			}
			return o.Print(r.Data, func(w io.Writer) { calendarText(w, list) })
		},
	}
	cmd.Flags().IntVar(&hours, "hours", hours, "how far to look")
	return cmd
}

// A slot is a time at which a job is due.
type slot struct {
	At       int64    `json:"at"`
	Node     string   `json:"node"`
	Job      string   `json:"job"`
	Flow     string   `json:"flow"`
	Took     int64    `json:"duration"`
	Shared   bool     `json:"shared"`
	Overlaps []string `json:"overlaps"`

	more int   // times of the same job that are not shown
	last int64 // the last of them
}

func calendarText(w io.Writer, list []slot) {
	if len(list) == 0 {
		fmt.Fprintln(w, "none")
		return
	}
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "when\tnode\tjob\tflow\ttakes\toverlaps")
	for _, s := range thinned(list) {
		took := (time.Duration(s.Took) * time.Second).String()
		if s.Took == 0 {
			took = "-"
		}
		node := s.Node
		if s.Shared {
			node += " or another"
		}
		fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%s\t%s\n", moment(float64(s.At)), node, s.Job, s.Flow, took, cmp.Or(strings.Join(s.Overlaps, ", "), "-"))
		if s.more > 0 {
			fmt.Fprintf(tab, "\t%s\t%s\tand %d times more, the last %s\t\t\n", node, s.Job, s.more, moment(float64(s.last)))
		}
	}
	tab.Flush()
}

// most are the times of one job that are shown one by one.
const most = 6

// thinned leaves out most of the times of jobs that run often, but for those at which
// they get in the way of others.
func thinned(list []slot) (kept []slot) {
	times, at := map[string]int{}, map[string]int{}
	for _, s := range list {
		times[s.Node+" "+s.Job]++
	}
	for _, s := range list {
		job := s.Node + " " + s.Job
		first, seen := at[job]
		if often := times[job] > most; often && seen && len(s.Overlaps) == 0 {
			kept[first].more, kept[first].last = kept[first].more+1, s.At
			continue
		} else if often && !seen {
			at[job] = len(kept)
		}
		kept = append(kept, s)
	}
	return kept
}
