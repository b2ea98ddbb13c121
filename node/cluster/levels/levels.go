// Package levels is which feature level the members of a cluster know. The level of
// the cluster rises when all have known the next one for some time.
package levels

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// Every is how often members are asked, and Wait how long all must have known a
	// level without a break.
	Every = time.Minute
	Wait  = 10 * time.Minute
)

// A Steady is since when all knew the next level; zero: they did not.
type Steady struct{ since time.Time }

// Know notes whether all know it now, and tells whether they have for long enough.
func (s *Steady) Know(now time.Time, all bool) bool {
	switch {
	case !all:
		s.since = time.Time{}
	case s.since.IsZero():
		s.since = now
	}
	return all && now.Sub(s.since) >= Wait
}

// Known is the level that each member knows, 0: it did not answer.
type Known map[string]uint64

// Ask asks members at the same time, by their IDs.
func Ask(ctx context.Context, members []string, ask func(ctx context.Context, node string) (uint64, error)) Known {
	ctx, cancel := context.WithTimeout(ctx, Every/2)
	defer cancel()
	var mu sync.Mutex
	var done sync.WaitGroup
	known := Known{}
	for _, node := range members {
		done.Go(func() {
			level, err := ask(ctx, node)
			mu.Lock()
			defer mu.Unlock()
			if known[node] = 0; err == nil {
				known[node] = level
			}
		})
	}
	done.Wait()
	return known
}

// All tells whether all know a level.
func (k Known) All(level uint64) bool {
	for _, l := range k {
		if l < level {
			return false
		}
	}
	return true
}

// An Error says which members keep the cluster from a level.
type Error struct {
	What        string   // that is not possible yet, such as "the clock cannot be set back"
	Old, Silent []string // their names, sorted
}

// Below returns what to say of a thing that the cluster has from a level on, and does not
// have yet; name is what people call a member.
func (k Known) Below(what string, level uint64, name func(node string) string) *Error {
	e := &Error{What: what}
	for node, l := range k {
		switch {
		case l == 0:
			e.Silent = append(e.Silent, name(node))
		case l < level:
			e.Old = append(e.Old, name(node))
		}
	}
	slices.Sort(e.Old)
	slices.Sort(e.Silent)
	return e
}

func (e *Error) Error() string {
	var why []string
	if len(e.Old) > 0 {
		why = append(why, verb(e.Old, "runs", "run")+" a version of Holdfast that does not know it")
	}
	if len(e.Silent) > 0 {
		why = append(why, verb(e.Silent, "does", "do")+" not answer, and may run one")
	}
	if len(why) == 0 {
		why = []string{fmt.Sprintf("every member runs a version that knows it, but not for long enough: it counts %.0f to %.0f minutes after the last was upgraded or did not answer, and from then again when another node takes the lead", Wait.Minutes(), (Wait + 2*Every).Minutes())}
	}
	return e.What + " yet: " + strings.Join(why, "; ")
}

// Hint says what to do.
func (e *Error) Hint() string {
	var todo []string
	if len(e.Old) > 0 {
		todo = append(todo, "upgrade "+list(e.Old))
	}
	if len(e.Silent) > 0 {
		todo = append(todo, "start "+list(e.Silent)+", with this version, or remove what is lost for good: `holdfast member remove`")
	}
	after := fmt.Sprintf("the same command again %.0f minutes later", (Wait + 2*Every).Minutes())
	if len(todo) == 0 {
		return after
	}
	return strings.Join(append(todo, after), "; ")
}

func verb(names []string, one, many string) string {
	if len(names) == 1 {
		return names[0] + " " + one
	}
	return list(names) + " " + many
}

// list is names as a sentence has them.
func list(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}
