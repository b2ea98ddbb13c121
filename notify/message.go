package notify

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// A Message is what a target is sent: one event, or a digest of several.
type Message struct {
	ID       string // the same when the same is tried again
	Subject  string
	Text     string
	Severity Severity // the worst in it
	Time     time.Time
	Fields   map[string]string // what all its events have in common, "type" among it
	Count    int               // of events
}

// What a digest says one by one. All others are counted.
const (
	maxListed    = 100 // events
	maxDetailed  = 10  // events whose text is told too
	maxPerGroup  = 5   // events of one type and severity that are listed when there are too many
	detailLength = 2 << 10
)

// A tally counts events that are not kept one by one.
type tally struct {
	Severity Severity `json:"severity"`
	Type     string   `json:"type"`
	Count    int      `json:"count"`
}

// digest makes one message of events in the order of their coming, and of those
// that were only counted. from says who tells.
func digest(id, from string, events []Event, more []tally) Message {
	m := Message{ID: id, Severity: Info, Fields: common(events), Count: len(events)}
	for _, e := range events {
		m.Severity = worse(m.Severity, e.Severity)
		if e.Time.After(m.Time) {
			m.Time = e.Time
		}
	}
	for _, t := range more {
		m.Count += t.Count
		m.Severity = worse(m.Severity, t.Severity)
	}
	if len(events) == 1 && len(more) == 0 {
		e := events[0]
		m.Subject, m.Text = e.Title, e.Text
		if m.Text == "" {
			m.Text = e.Title
		}
		m.Text += "\n" + footer(from, e)
		return m
	}
	groups := grouped(events, more)
	m.Subject = fmt.Sprintf("%d events on %s: %s", m.Count, from, headline(groups))
	m.Text = body(events, groups)
	return m
}

// A group is all events of one severity and type, the worst first.
type group struct {
	tally
	events []Event
}

func grouped(events []Event, more []tally) []*group {
	by := map[tally]*group{}
	at := func(t tally) *group {
		t.Count = 0
		if by[t] == nil {
			by[t] = &group{tally: t}
		}
		return by[t]
	}
	for _, e := range events {
		g := at(tally{Severity: e.Severity, Type: e.Type})
		g.events = append(g.events, e)
		g.Count++
	}
	for _, t := range more {
		at(t).Count += t.Count
	}
	return slices.SortedFunc(maps.Values(by), func(a, b *group) int {
		return cmp.Or(rank(b.Severity)-rank(a.Severity), cmp.Compare(a.Type, b.Type))
	})
}

// headline counts by severity: "3 error, 12 info".
func headline(groups []*group) string {
	count := map[Severity]int{}
	for _, g := range groups {
		count[g.Severity] += g.Count
	}
	var parts []string
	for _, s := range slices.Backward(severities[:]) {
		if count[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count[s], s))
		}
	}
	return strings.Join(parts, ", ")
}

// body lists the events of groups, and says how many it does not list.
func body(events []Event, groups []*group) string {
	var b strings.Builder
	most, detailed := len(events), 0
	if most > maxListed {
		most = maxPerGroup
	}
	for _, g := range groups {
		fmt.Fprintf(&b, "%s: %s, %d in all\n", strings.ToUpper(string(g.Severity)), g.Type, g.Count)
		for _, e := range g.events[:min(most, len(g.events))] {
			fmt.Fprintf(&b, "  %s  %s\n", e.Time.Format("2006-01-02 15:04:05Z"), e.Title)
			if e.Text != "" && g.Severity != Info && detailed < maxDetailed {
				detailed++
				b.WriteString("      " + strings.ReplaceAll(clip(e.Text, detailLength), "\n", "\n      ") + "\n")
			}
		}
		if rest := g.Count - min(most, len(g.events)); rest > 0 {
			fmt.Fprintf(&b, "  and %d more like these\n", rest)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func footer(from string, e Event) string {
	text := fmt.Sprintf("\n%s: %s %s, %s", from, e.Severity, e.Type, e.Time.Format("2006-01-02 15:04:05Z"))
	for _, name := range slices.Sorted(maps.Keys(e.Fields)) {
		text += fmt.Sprintf(", %s %s", name, e.Fields[name])
	}
	return text + "\n"
}

// common returns the fields that all events have alike.
func common(events []Event) map[string]string {
	all := map[string]string{}
	for i, e := range events {
		if i == 0 {
			maps.Copy(all, e.Fields)
			all["type"] = e.Type
			continue
		}
		maps.DeleteFunc(all, func(name, value string) bool {
			v, ok := e.Field(name)
			return !ok || v != value
		})
	}
	return all
}
