package overview

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/node/alarms"
	"github.com/holdfast-mesh/holdfast/pbs/stores/away"
)

const (
	silent = time.Minute    // before it is worth a warning that a node was not heard of
	late   = 48 * time.Hour // by which a copy may be behind without one
	full   = 20             // the share of a disk that should be free is 1/full
)

const awayHint = "mount its disk, or put its directory back; if it is lost: docs/operations.md, \"The store will not open\""

// Warnings are what somebody should look at among members and groups.
func Warnings(all []Member, groups []Group, now time.Time) []Warning {
	list := []Warning{}
	add := func(node, hint, format string, args ...any) {
		list = append(list, Warning{"warning", node, fmt.Sprintf(format, args...), hint})
	}
	for _, m := range all {
		for _, a := range m.Alarms {
			if !alarms.Old(a, now) {
				text := fmt.Sprintf("%s (since %s)", a.Text, time.Unix(a.Since, 0).UTC().Format(time.DateTime))
				list = append(list, Warning{"critical", m.Name, text, a.Hint})
			}
		}
	}
	for _, m := range all {
		if m.Trouble != "" {
			list = append(list, Warning{"critical", m.Name, m.Trouble, "see `holdfast status` there: it cannot tell more from afar"})
		}
		switch {
		case m.Path == "local" && !m.Ready:
			add(m.Name, "", "it is not ready: %s", m.Why)
		case m.Blocked: // so it is not heard of, which is told with the reason
		case m.Path == "none" && m.State == ledger.Active && m.LastHeard.Unix() <= 0:
			add(m.Name, "does it run, and is its mesh port open?", "nothing was heard of it since this node runs")
		case m.Path == "none" && m.State == ledger.Active && now.Sub(m.LastHeard) > silent:
			add(m.Name, "what it holds is as it was then", "it is not reached since %s", m.LastHeard.Format(time.DateTime))
		case m.Health == "apart" || m.Health == "slow":
			add(m.Name, "", "it is %s: %s", m.Health, m.Text)
		}
		switch {
		case m.State == ledger.Draining && m.Voter:
			add(m.Name, "it is to vote no more before it is removed", "it is being drained, and votes still")
		case m.State == ledger.Draining:
			add(m.Name, "`holdfast member remove "+m.Name+"`, or `holdfast member return "+m.Name+"`", "it is drained: it does not vote, and runs only its own jobs")
		}
		for _, s := range m.Stores {
			if lost := away.Is(s.Error) || strings.Contains(s.Error, identity.ErrNotStore.Error()); lost {
				list = append(list, Warning{"critical", m.Name, fmt.Sprintf("datastore %s is not there, with all backups in it: %s", s.Store, s.Error), awayHint})
			} else if s.Error != "" {
				add(m.Name, "", "datastore %s: %s", s.Store, s.Error)
			} else if s.Total > 0 && s.Avail < s.Total/full {
				add(m.Name, "prune, collect garbage, or use a larger disk", "datastore %s is nearly full", s.Store)
			}
			if s.Damaged > 0 {
				add(m.Name, "holdfast datastore heal "+s.Store+" there: other sites may have them", "datastore %s has %s", s.Store, counted(s.Damaged, "damaged chunk"))
			}
		}
		if m.Damaged > 0 {
			add(m.Name, "see `holdfast snapshot list` there", "it has %s", counted(m.Damaged, "damaged snapshot"))
		}
		for _, r := range m.Failed {
			add(m.Name, "see `holdfast task log "+r.UPID+"` there", "the last %s failed: %s", workOf(r), r.Text)
		}
	}
	for _, g := range groups {
		for _, p := range g.Places {
			if p.Behind > 0 && time.Duration(p.Lag)*time.Second > late {
				add(p.Node, "", "%s in datastore %s is %s behind %s, by %s", p.Group, p.Store, counted(p.Behind, "snapshot"), g.Home, counted(p.Lag/86400, "day"))
			}
		}
	}
	return list
}

// WorstFirst puts what is critical before the rest, each in the order it had.
func WorstFirst(list []Warning) {
	slices.SortStableFunc(list, func(a, b Warning) int { return cmp.Compare(rank(a), rank(b)) })
}

func rank(w Warning) int {
	if w.Level == "critical" {
		return 0
	}
	return 1
}

func workOf(r Run) string {
	if u, err := jobs.ParseUPID(r.UPID); err == nil {
		return u.Type + " of " + u.ID
	}
	return r.Type + " of " + r.ID
}

// counted is a number of things, of which what names one.
func counted[N int | int64 | uint64](n N, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
