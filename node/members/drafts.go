package members

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/canon"
	"github.com/holdfast-mesh/holdfast/consensus/drafts"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/node/overview"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// A Draft is a change that waits for a quorum, as it is listed.
type Draft struct {
	Number uint64 `json:"draft"`
	Made   int64  `json:"made"` // Unix seconds
	By     string `json:"by"`
	What   string `json:"what"` // what it does with which rows
	State  string `json:"state"`
	Why    string `json:"why,omitempty"`
}

func (a api) drafts(context.Context, *rest.Call) (any, error) {
	list, members := []Draft{}, maps.Collect(ledger.Members.All(a.Cluster.View()))
	for _, d := range a.Cluster.Undecided() {
		state := "waits for a quorum"
		if d.Why != "" {
			state = "not applied"
		}
		list = append(list, Draft{d.Number, d.Made, d.Actor, does(members, d), state, d.Why})
	}
	return list, nil
}

// does says what a draft does with which rows, in the order of its rows: "remove
// datastores/n3/extra". Members are called by their names.
func does(members map[string]ledger.Row[ledger.Member], d drafts.Draft) string {
	var c ledger.Change
	if err := canon.Decode(d.Body, &c); err != nil {
		return d.Subject()
	}
	var said []string
	last := ""
	for _, o := range c.Ops {
		if o.Mark() {
			continue
		}
		verb := "change "
		switch {
		case o.Delete:
			verb = "remove "
		case o.Expect == 0:
			verb = "make "
		}
		parts := strings.Split(ledger.Change{Ops: []ledger.Op{o}}.Subject(), "/")
		for i, p := range parts {
			if m, is := members[p]; is && m.Body.Name != "" {
				parts[i] = m.Body.Name
			}
		}
		row := strings.Join(parts, "/")
		if verb != last {
			row = verb + row
		}
		said, last = append(said, row), verb
	}
	return strings.Join(said, ", ")
}

// MakesStore says what to do about a datastore of a node that there is not, as far as one
// of the drafts would make it; "" if none would.
func MakesStore(list []drafts.Draft, node, store string) string {
	for _, d := range list {
		var c ledger.Change
		if canon.Decode(d.Body, &c) != nil {
			continue
		}
		if slices.ContainsFunc(c.Ops, func(o ledger.Op) bool {
			return o.Table == ledger.Datastores.Number() && o.Key == node+"/"+store && o.Expect == 0 && !o.Delete
		}) {
			state := "waits for a quorum: then"
			if d.Why != "" {
				state = "was not applied (" + d.Why + "): when that is settled"
			}
			return fmt.Sprintf("it is draft %d, which %s the datastore is there; `holdfast draft list`, `holdfast status`", d.Number, state)
		}
	}
	return ""
}

// Drafted is a warning of a node for its drafts that wait, and one for those that were not
// applied: one for each would push out what else there is to see.
func Drafted(list []drafts.Draft, node string) []overview.Warning {
	var waits, stuck []drafts.Draft
	for _, d := range list {
		if d.Why == "" {
			waits = append(waits, d)
		} else {
			stuck = append(stuck, d)
		}
	}
	texts := []string{}
	if n := len(waits); n > 0 {
		d := waits[0]
		text := fmt.Sprintf("draft %d of %s waits for a quorum", d.Number, d.Actor)
		if n > 1 {
			text = fmt.Sprintf("%d drafts wait for a quorum; the oldest, draft %d of %s, since %s", n, d.Number, d.Actor, time.Unix(d.Made, 0).UTC().Format(time.DateTime))
		}
		texts = append(texts, text)
	}
	if n := len(stuck); n > 0 {
		d := stuck[0]
		text := fmt.Sprintf("draft %d of %s is not applied: %s", d.Number, d.Actor, d.Why)
		if n > 1 {
			text = fmt.Sprintf("%d drafts are not applied; the oldest, draft %d of %s: %s", n, d.Number, d.Actor, d.Why)
		}
		texts = append(texts, text)
	}
	warnings := []overview.Warning{}
	for _, text := range texts {
		warnings = append(warnings, overview.Warning{Level: "warning", Node: node, Text: text, Hint: "holdfast draft list"})
	}
	return warnings
}

// submit submits all drafts now, instead of within seconds, and answers which
// are left.
func (a api) submit(ctx context.Context, c *rest.Call) (any, error) {
	if err := a.Cluster.Drafts().Submit(ctx); err != nil {
		return nil, err
	}
	return a.drafts(ctx, c)
}

func (a api) discard(ctx context.Context, c *rest.Call) (any, error) {
	number := c.Int("draft", 1, 1<<60)
	if err := c.Err(); err != nil {
		return nil, err
	}
	return nil, a.Cluster.Drafts().Discard(ctx, uint64(number))
}
