package job

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
	"github.com/holdfast-mesh/holdfast/node/admin"
)

// A why is what the node answers, as far as it is printed as text.
type why struct {
	rule
	Schedule string `json:"schedule"`
	Now      string `json:"now"`
	Delay    int64  `json:"delay"`
	Notes    []struct {
		At   int64  `json:"at"`
		Slot int64  `json:"slot"`
		Text string `json:"text"`
		Task string `json:"upid"`
	} `json:"notes"`
	Claims []struct {
		Slot  int64  `json:"slot"`
		Node  string `json:"node"`
		State string `json:"state"`
		Fence int64  `json:"fence"`
		At    int64  `json:"at"`
	} `json:"claims"`
	Order []string `json:"order"`
}

// A rule says more of when a job runs than its schedule.
type rule struct {
	Job      string `json:"job"`
	CatchUp  string `json:"catch-up"`
	After    string `json:"after"`
	Stagger  bool   `json:"stagger"`
	TimeZone string `json:"timezone"`
	Shared   bool   `json:"shared"`
	Weight   int    `json:"weight"`

	Overlap   string   `json:"overlap"`
	Window    []string `json:"window"`
	WindowEnd string   `json:"window-end"`
	Paused    bool     `json:"paused"`
}

// verbOfAny makes a command about one job, or the garbage collection of a
// datastore, which is gc:STORE. do gets its name in the API.
func verbOfAny(o *cli.Options, use, short string, do func(cmd *cobra.Command, c *admin.Client, job string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cli.Exactly(1), ValidArgsFunction: completeIDs(o),
		RunE: func(cmd *cobra.Command, args []string) error {
			c := daemon.Client(o)
			defer c.Close()
			if strings.HasPrefix(args[0], "gc:") {
				return do(cmd, c, args[0])
			}
			f, err := find(cmd.Context(), c, args[0], url.Values{})
			if err != nil {
				return err
			}
			return do(cmd, c, f.path+":"+f.text("id"))
		},
	}
}

func newWhy(o *cli.Options) *cobra.Command {
	cmd := verbOfAny(o, "why ID", "explain why a job ran, or did not, and when it will", func(cmd *cobra.Command, c *admin.Client, job string) error {
		r, err := daemon.Call(cmd.Context(), c, http.MethodGet, "/holdfast/jobs/{job}/why", url.Values{"job": {job}})
		if err != nil {
			return err
		}
		var w why
		if err := r.Into(&w); err != nil {
			return err
		}
		return o.Print(r.Data, w.text)
	})
	cmd.Example = "  holdfast job why nightly"
	cmd.Long = "ID may be gc:STORE, for the garbage collection of a datastore. Of a job that nodes share\nit also says which node had which of its times, under which fence, and which comes next."
	return cmd
}

func (w why) text(out io.Writer) {
	fmt.Fprintf(out, "%s: %s\n", w.Job, w.Now)
	w.rule.text(out, w.Schedule, w.Delay)
	tab := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, n := range w.Notes {
		fmt.Fprintln(tab, strings.TrimRight(moment(float64(n.At))+"\t"+n.Text+"\t"+n.Task, "\t"))
	}
	if len(w.Notes) == 0 {
		fmt.Fprintln(tab, "it has not run since this was noted")
	}
	for _, c := range w.Claims {
		fmt.Fprintf(tab, "slot %s\tnode %s, fence %d\t%s %s\n", moment(float64(c.Slot)), c.Node, c.Fence, c.State, moment(float64(c.At)))
	}
	tab.Flush()
	if len(w.Order) > 0 {
		fmt.Fprintf(out, "the next time it is the turn of %s\n", strings.Join(w.Order, ", then "))
	}
}

func (r rule) text(out io.Writer, schedule string, delay int64) {
	var parts []string
	add := func(is bool, format string, args ...any) {
		if is {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(schedule != "", "at %s", schedule)
	add(r.TimeZone != "", "in the zone %s", r.TimeZone)
	add(r.Stagger, "staggered, %d s later", delay)
	add(r.After != "", "after %s", r.After)
	add(r.CatchUp == "skip", "what was missed is skipped")
	add(r.CatchUp != "skip", "what was missed is made up for once")
	add(r.Overlap == "queue", "a time that comes while it runs waits")
	add(r.Overlap == "replace", "a time that comes while it runs stops that run")
	add(len(r.Window) > 0, "only at %s, then %s", strings.Join(r.Window, " or "), map[string]string{"": "it goes on in the next window", "pause": "it goes on in the next window", "finish": "it goes on to its end", "abort": "it is stopped"}[r.WindowEnd])
	add(r.Shared, "shared with other nodes")
	add(r.Weight > 1, "of the weight %d", r.Weight)
	add(r.Paused, "paused")
	fmt.Fprintln(out, strings.Join(parts, ", "))
}

// ruleFlags are the flags of a rule.
var ruleFlags = []daemon.Flag{
	{Name: "catch-up", Usage: "what becomes of times that were missed: once (run once for all of them) or skip; default: once"},
	{Name: "after", Usage: "run it when another job has run well, KIND:ID such as pull:home or gc:main; it has no schedule then"},
	{Name: "stagger", Usage: "run it later by up to a tenth of its period, 15 minutes at most, always the same", Kind: daemon.Bool},
	{Name: "timezone", Usage: "in which its schedule is meant: Europe/Vienna, UTC; default: that of the machine"},
	{Name: "shared", Usage: "other nodes have a job of this ID (a push, an export, or one on a bucket), and one of them runs it each time", Kind: daemon.Bool},
	{Name: "weight", Usage: "of this node among those that share it, 1 to 100; default: 1", Kind: daemon.Int},
	{Name: "overlap", Usage: "what becomes of a time that comes while it runs: forbid (it was missed), queue (it runs afterwards), replace (it stops that run); default: forbid"},
	{Name: "window", Usage: "when it may run by itself: 22-6, 'sat,sun 0-24'; default: always", Kind: daemon.Repeat},
	{Name: "window-end", Usage: "what becomes of a run then: pause (it goes on in the next window), finish, abort; default: pause"},
	{Name: "delete", Usage: "options to be set back to their default", Kind: daemon.List},
}

func newRule(o *cli.Options) *cobra.Command {
	cmd := verbOfAny(o, "rule ID", "say more of when a job runs than its schedule, or print it", func(cmd *cobra.Command, c *admin.Client, job string) error {
		params, err := daemon.Given(cmd, ruleFlags)
		if err != nil {
			return err
		}
		changed := len(params) > 0
		params.Set("job", job)
		if changed {
			if _, err := daemon.Call(cmd.Context(), c, http.MethodPut, "/holdfast/jobs/{job}/rule", params); err != nil {
				return err
			}
		}
		r, err := daemon.Call(cmd.Context(), c, http.MethodGet, "/holdfast/jobs/{job}/why", url.Values{"job": {job}})
		if err != nil {
			return err
		}
		var w why
		if err := r.Into(&w); err != nil {
			return err
		}
		return o.Print(w.rule, func(out io.Writer) {
			fmt.Fprintf(out, "%s: ", w.Job)
			w.rule.text(out, w.Schedule, w.Delay)
		})
	})
	cmd.Example = "  holdfast job rule nightly --after pull:home-to-dc\n  holdfast job rule offsite --window 'mon..fri 19-7' --window 'sat,sun 0-24'\n  holdfast job rule gc:main --stagger"
	daemon.AddFlags(cmd, ruleFlags)
	return cmd
}
