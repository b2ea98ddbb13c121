package node

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
)

// printClouds shows of this node's datastores with a bucket how they are with it.
func (s status) printClouds(w io.Writer, now time.Time, width int) {
	title := "\ncloud\tin the bucket\twaiting\tfor\tcache\trequests since start\tthis month\n"
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	var said []string
	for _, m := range s.Members {
		for _, d := range m.Stores {
			c := d.Cloud
			if c == nil {
				continue
			}
			fmt.Fprint(tab, title)
			title = ""
			waits, cache := "-", "none"
			if c.Queued > 0 {
				waits = cmp.Or(strings.TrimSuffix(ago(c.Oldest, now), " ago"), "?")
			}
			if c.Cache > 0 {
				cache = cli.Size(c.Cached) + " of " + cli.Size(c.Cache)
			}
			fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", d.Store, cli.Size(c.Bytes), cli.Size(c.Queued), waits, cache, classes(c.Requests), classes(c.Month))
			if c.Lost > 0 {
				said = append(said, fmt.Sprintf("%s: LOST: %s that the bucket should have", d.Store, cli.Count(c.Lost, "pack")))
			}
			if c.ReadOnly != "" {
				said = append(said, fmt.Sprintf("%s: read-only: %s", d.Store, c.ReadOnly))
			}
			if c.Error != "" {
				said = append(said, fmt.Sprintf("%s: last error, %s: %s", d.Store, ago(c.ErrorAt, now), c.Error))
			}
		}
	}
	tab.Flush()
	for _, line := range said {
		fmt.Fprintln(w, fold(line, width))
	}
}

// classes are requests by class, in a few letters.
func classes(requests map[string]int64) string {
	var all []string
	for _, class := range slices.Sorted(maps.Keys(requests)) {
		if n := requests[class]; n > 0 {
			all = append(all, fmt.Sprintf("%d %s", n, class))
		}
	}
	return cmp.Or(strings.Join(all, ", "), "none")
}
