package overview

import (
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/facts"
	"github.com/holdfast-mesh/holdfast/node/feeds"
)

// Said fills in what a node has said of itself: in short, and of those of its
// datastores that are to be seen.
func (m *Member) Said(v facts.NodeView, stores []facts.StoreView) {
	m.Snapshots, m.Groups, m.Behind, m.Lag, m.Damaged = v.Snapshots, v.Groups, v.Behind, int64(v.Lag/time.Second), v.Bad
	m.Alarms = v.Alarms
	if !v.Newest.IsZero() {
		m.LastSaid = v.Newest.UTC().Truncate(time.Second)
	}
	for _, r := range v.Last {
		if !r.OK && !over(r, v, stores) {
			m.Failed = append(m.Failed, Run{r.Of, r.Job, r.ID, r.Ended.UTC().Truncate(time.Second), r.Text})
		}
	}
	for _, s := range stores {
		m.Stores = append(m.Stores, Store{
			Store: s.Store, Total: int64(s.Size), Avail: int64(s.Free), Error: s.State,
			Snapshots: s.Snapshots, Damaged: s.Damaged, AsOf: s.Said.UTC().Truncate(time.Second),
		})
	}
}

// over reports whether nothing is left of a failure of work that is not done again, and
// so never ends well. A healing is over if nothing is known to be damaged there any more;
// an attempt to make a datastore after the next one, whatever its name, in a day, or when
// the datastore is there: it was a draft.
func over(r facts.Run, v facts.NodeView, stores []facts.StoreView) bool {
	switch r.Of {
	case "heal":
		return v.Bad == 0 && slices.ContainsFunc(stores, func(s facts.StoreView) bool {
			return s.Store == r.Job && s.Damaged == 0 && s.State == "" && s.Said.After(r.Ended)
		})
	case "create-datastore":
		return time.Since(r.Ended) > 24*time.Hour || slices.ContainsFunc(v.Last, func(l facts.Run) bool { return l.Of == r.Of && l.Ended.After(r.Ended) }) ||
			slices.ContainsFunc(stores, func(s facts.StoreView) bool { return s.Store == r.Job && s.State == "" && s.Said.After(r.Ended) })
	}
	return false
}

// Groups are those of views, with the nodes by their names in all.
func Groups(views []facts.GroupView, all []Member) []Group {
	names := map[string]string{}
	for _, m := range all {
		names[m.ID] = m.Name
	}
	groups := []Group{}
	for _, v := range views {
		g := Group{
			Group: v.Home.Group.String(), Home: names[feeds.NodeID(v.Home.Origin)], Store: v.Home.Store,
			Newest: v.Newest, Count: v.Count, Copies: v.Copies(),
		}
		for _, p := range v.Places {
			g.Places = append(g.Places, Place{
				names[feeds.NodeID(p.Origin)], p.Store, p.Group.String(), p.Count, p.Newest, p.Behind, int64(v.Lag(p) / time.Second), p.Bad, p.Checked,
			})
		}
		groups = append(groups, g)
	}
	return groups
}

// Told are the warnings of the feeds, with the nodes by their names in all.
func Told(told []feeds.Warning, all []Member) (list []Warning) {
	for _, w := range told {
		level, name := "warning", w.Node
		if w.Critical {
			level = "critical"
		}
		for _, m := range all {
			if m.ID == w.Node {
				name = m.Name
			}
		}
		list = append(list, Warning{level, name, w.Text, w.Hint})
	}
	return list
}
