package job

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
)

// An offloadPlan is what the node answers about an offload job, as far as it is
// printed as text.
type offloadPlan struct {
	plan
	Chunks   int              `json:"chunks"`
	Lacking  int              `json:"lacking-chunks"`
	Packs    int              `json:"packs"`
	Whole    int              `json:"whole-packs"`
	Requests map[string]int64 `json:"requests"`
	Once     *bill            `json:"cost"`
	Monthly  *bill            `json:"monthly-cost"`
}

type bill struct {
	Provider string `json:"provider"`
	Date     string `json:"prices-of"`
	Text     string `json:"text"`
}

func (p offloadPlan) text(w io.Writer) {
	fmt.Fprintf(w, "job %s from %s: %d snapshots of %d groups to offload or to look at again\n", p.Job, p.Source, p.Snapshots, p.Total)
	fmt.Fprintf(w, "the bucket lacks %d chunks, %s: %d packs, of which %d go as they are\n", p.Chunks, cli.Size(p.Bytes), p.Packs, p.Whole)
	var total int64
	for _, n := range p.Requests {
		total += n
	}
	fmt.Fprintf(w, "requests   about %d: %d put, %d get, %d delete\n", total, p.Requests["put"], p.Requests["get"], p.Requests["delete"])
	if p.Once != nil && p.Monthly != nil {
		fmt.Fprintf(w, "cost       %s for the requests, and %s a month for the bytes (%s, prices of %s)\n", p.Once.Text, p.Monthly.Text, p.Once.Provider, p.Once.Date)
	} else {
		fmt.Fprintln(w, "cost       not known: the prices of this provider are not in the list")
	}
	if p.Lacking > 0 {
		fmt.Fprintf(w, "LACKING    %d chunks are damaged or missing here: their snapshots will not go\n", p.Lacking)
	}
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, g := range p.Groups {
		g.text(tab)
	}
	tab.Flush()
}
