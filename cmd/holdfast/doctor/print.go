package doctor

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	bucket "github.com/holdfast-mesh/holdfast/chunks/cloud/doctor"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
)

// Findings prints what an examination found, a row for each check: what is wrong
// first, then what could not be looked at, and what is well.
func Findings(w io.Writer, found []bucket.Finding, skipped []bucket.Skipped, passed []string) {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "CHECK\tRESULT\tWHAT TO DO")
	for _, f := range found {
		fmt.Fprintf(tab, "%s\t%s\t%s\n", f.Check, strings.ToUpper(f.Severity.String()), plain(f.Text))
		if f.Consequence != "" {
			fmt.Fprintf(tab, "\t\t%s\n", plain(f.Consequence))
		}
		if f.Cure != "" {
			fmt.Fprintf(tab, "\t\t-> %s\n", plain(f.Cure))
		}
	}
	for _, s := range skipped {
		fmt.Fprintf(tab, "%s\tnot seen\t%s\n", s.Check, plain(s.Why))
	}
	for _, name := range passed {
		fmt.Fprintf(tab, "%s\tok\n", name)
	}
	tab.Flush()
}

// plain takes out what a terminal or a column would stumble over: some of it was
// said by a store.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}

// Bucket prints a report about a bucket.
func Bucket(w io.Writer, r *bucket.Report) {
	fmt.Fprintf(w, "%s, examined %s in %s\n", r.Bucket, r.Time.Local().Format(time.DateTime), r.Took.Round(10*time.Millisecond))
	if r.Provider != "" {
		fmt.Fprintf(w, "provider: %s\n", r.Provider)
	}
	Findings(w, r.Findings, r.Skipped, r.Passed)
	if r.Typical > 0 {
		fmt.Fprintf(w, "a small request takes %s (slowest %s), one stream reads %s/s, %d connections are enough\n",
			r.Typical.Round(10*time.Microsecond), r.Slow.Round(10*time.Microsecond), cli.Size(int64(r.Speed)), r.Streams)
	}
	for _, class := range slices.Sorted(maps.Keys(r.Classes)) {
		c := r.Classes[class]
		fmt.Fprintf(w, "in %s: %d objects, %s\n", class, c.Objects, cli.Size(c.Bytes))
	}
	if r.Partial {
		fmt.Fprintln(w, "there are more objects than were counted")
	}
	var made []string
	for _, class := range slices.Sorted(maps.Keys(r.Requests)) {
		made = append(made, fmt.Sprintf("%d %s", r.Requests[class], class))
	}
	fmt.Fprintf(w, "the examination made these requests: %s\n", strings.Join(made, ", "))
}

// Judge fails if a finding is critical, or with strict also if one is a warning.
func Judge(found []bucket.Finding, strict bool) error {
	least := bucket.Critical
	if strict {
		least = bucket.Warning
	}
	var names []string
	for _, f := range found {
		if f.Severity >= least && !slices.Contains(names, f.Check) {
			names = append(names, f.Check)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return cli.Hint(fmt.Errorf("something has to be done about: %s", strings.Join(names, ", ")), "what stands behind -> above cures it")
}
