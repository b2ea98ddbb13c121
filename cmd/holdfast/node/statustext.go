package node

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/node/overview"
)

// A status is what of the node's answer is printed as text.
type status struct {
	Quorum  bool      `json:"quorum"`
	AsOf    time.Time `json:"as_of"`
	Why     string    `json:"why"`
	Idle    bool      `json:"idle"`
	Leader  string    `json:"leader"`
	Voters  int       `json:"voters"`
	Advice  string    `json:"advice"`
	Facts   time.Time `json:"facts_as_of"`
	Oldest  string    `json:"facts_oldest"`
	Members []site    `json:"members"`
	Groups  []group   `json:"groups"`
	Warn    []warning `json:"warnings"`
	Now     time.Time `json:"now"`
}

type warning struct{ Level, Node, Text, Hint string }

type site struct {
	Name, Site, Role, State, Version, Why, Path, Health string
	Voter, Reachable, Ready, Blocked                    bool
	RTT                                                 float64   `json:"rtt_ms"`
	LastHeard                                           time.Time `json:"last_heard"`
	Sessions, Tasks, Snapshots, Behind                  int
	Lag                                                 int64 `json:"lag_s"`
	Running                                             []string
	Stores                                              []struct {
		Store, Maintenance, Error string
		Total, Avail              int64
		Snapshots                 int
		AsOf                      time.Time `json:"as_of"`
		Cloud                     *overview.Cloud
	}
}

type group struct {
	Group, Home   string
	Newest        int64
	Count, Copies int
	Places        []struct {
		Node, Store, Group     string
		Count, Behind, Damaged int
		Lag                    int64 `json:"lag_s"`
	}
}

// How much is shown unless all is asked for.
const (
	someWarnings = 8
	someGroups   = 10
	wide         = 100 // columns from which on versions are shown in any case
)

// print writes it for people, in lines of at most width; 0: of any length.
func (s status) print(out io.Writer, now time.Time, width int, all bool) {
	if !s.Now.IsZero() {
		now = s.Now // times are by the clock of the node, and so are their ages
	}
	var page bytes.Buffer
	fmt.Fprintln(&page, s.quorum(now))
	if s.Advice != "" {
		fmt.Fprintln(&page, fold("note: "+s.Advice, width))
	}
	s.printWarnings(&page, width, all)
	s.printMembers(&page, now, width)
	s.printRunning(&page)
	s.printStores(&page, now)
	s.printClouds(&page, now, width)
	s.printGroups(&page, now, all)
	for line := range strings.Lines(page.String()) {
		fmt.Fprintln(out, crop(strings.TrimRight(line, " \n"), width))
	}
}

// quorum says in a line whether anything can be changed now, and how old what
// follows is.
func (s status) quorum(now time.Time) string {
	age := "facts of " + ago(s.Facts, now)
	if s.Facts.IsZero() {
		age = "nothing is known yet of " + cmp.Or(s.Oldest, "anybody")
	} else if s.Oldest != "" && ago(s.Facts, now) != "now" {
		age = fmt.Sprintf("%s at %s, and newer of others", age, s.Oldest)
	}
	if s.Quorum {
		return fmt.Sprintf("quorum: yes, %s leads, %d vote; %s", s.Leader, s.Voters, age)
	}
	since := "since " + ago(s.AsOf, now)
	if s.AsOf.Unix() <= 0 { // it was never heard of: the ledger is empty, and of the year 1970
		since = "yet"
	}
	serves := "backups and restores go on"
	if s.Idle {
		serves = "until then this node serves nothing"
	}
	return fmt.Sprintf("quorum: NO %s, nothing can be changed (%s); %s; %s", since, s.Why, serves, age)
}

func (s status) printWarnings(w io.Writer, width int, all bool) {
	shown := s.Warn
	if !all {
		shown = foremost(s.Warn, someWarnings)
	}
	for _, v := range shown {
		text := v.Level
		if text == "critical" {
			text = "CRITICAL"
		}
		fmt.Fprintln(w, fold(fmt.Sprintf("%s: %s: %s", text, v.Node, v.Text), width))
		if v.Hint != "" {
			fmt.Fprintln(w, fold("  hint: "+v.Hint, width))
		}
	}
	if more := len(s.Warn) - len(shown); more > 0 {
		fmt.Fprintf(w, "and %s more: --all\n", cli.Count(more, "warning"))
	}
}

// foremost picks n warnings, in their order: all that are critical, however many, then one
// of each kind, then what else there is room for. Of one kind are those with the same hint.
func foremost(list []warning, n int) (picked []warning) {
	take, kinds := make([]bool, len(list)), map[string]bool{}
	for i, v := range list {
		if v.Level == "critical" {
			take[i] = true
			n--
		}
	}
	for _, again := range []bool{false, true} {
		for i, v := range list {
			kind := cmp.Or(v.Hint, v.Text)
			if !take[i] && n > 0 && (again || !kinds[kind]) {
				take[i], kinds[kind] = true, true
				n--
			}
		}
	}
	for i, v := range list {
		if take[i] {
			picked = append(picked, v)
		}
	}
	return picked
}

func (s status) printMembers(w io.Writer, now time.Time, width int) {
	several := len(s.Members) > 1
	versions := !several || width == 0 || width >= wide || slices.ContainsFunc(s.Members, func(m site) bool {
		return m.Version != "" && m.Version != s.Members[0].Version
	})
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	head := []string{"\nnode", "site", "role", "reached", "heard", "snapshots"}
	if several {
		head = append(head, "behind")
	}
	if versions {
		head = append(head, "version")
	}
	fmt.Fprintln(tab, strings.Join(append(head, "doing"), "\t"))
	for _, m := range s.Members {
		row := []string{m.Name, m.Site, m.role(), m.reached(), ago(m.LastHeard, now), fmt.Sprint(m.Snapshots)}
		if several {
			row = append(row, m.behind())
		}
		if versions {
			row = append(row, m.Version)
		}
		fmt.Fprintln(tab, strings.Join(append(row, m.doing()), "\t"))
	}
	tab.Flush()
}

func (m site) role() string {
	role := m.Role
	if m.Voter {
		role += ", votes"
	}
	if m.State != "" && m.State != "active" {
		role += ", " + m.State
	}
	if m.Blocked {
		role += ", blocked"
	}
	return role
}

func (m site) reached() string {
	text := m.Path
	if m.RTT > 0 {
		text = fmt.Sprintf("%s, %.1f ms", m.Path, m.RTT)
	}
	if m.Health == "slow" || m.Health == "apart" {
		text += ", " + m.Health
	}
	return text
}

func (m site) behind() string {
	if m.Behind == 0 {
		return "-"
	}
	return fmt.Sprintf("%d, %s", m.Behind, span(time.Duration(m.Lag)*time.Second))
}

func (m site) doing() string {
	var all []string
	if m.Sessions > 0 {
		all = append(all, cli.Count(m.Sessions, "session"))
	}
	if m.Tasks > 0 {
		all = append(all, cli.Count(m.Tasks, "task"))
	}
	switch {
	case m.Why != "":
		return m.Why
	case len(all) == 0 && m.Path == "none":
		return "?"
	case len(all) == 0:
		return "idle"
	}
	return strings.Join(all, ", ")
}

func (s status) printRunning(w io.Writer) {
	title := "\nrunning"
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, m := range s.Members {
		for _, r := range m.Running {
			if title != "" {
				fmt.Fprintln(tab, title+"\tnode")
				title = ""
			}
			fmt.Fprintf(tab, "%s\t%s\n", r, m.Name)
		}
	}
	tab.Flush()
}

func (s status) printStores(w io.Writer, now time.Time) {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "\ndatastore\tnode\tfree\tof\tsnapshots\tstate")
	for _, m := range s.Members {
		for _, d := range m.Stores {
			state := d.Error
			if state == "" && d.Maintenance != "" {
				state = "maintenance: " + d.Maintenance
			}
			if !m.Reachable {
				state = strings.TrimPrefix(state+", as of "+ago(d.AsOf, now), ", ")
			}
			fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%d\t%s\n", d.Store, m.Name, cli.Size(d.Avail), cli.Size(d.Total), d.Snapshots, state)
		}
	}
	tab.Flush()
}

// printGroups shows how many nodes have the newest of each group, and first
// those groups of which some have less than others.
func (s status) printGroups(w io.Writer, now time.Time, all bool) {
	if len(s.Groups) == 0 || len(s.Members) < 2 {
		return
	}
	var shown []group
	twice := 0
	for _, g := range s.Groups {
		if g.Copies > 1 {
			twice++
		}
		if all || g.late() != "" {
			shown = append(shown, g)
		}
	}
	fmt.Fprintf(w, "\n%s, the newest snapshot of %d is at two nodes or more\n", cli.Count(len(s.Groups), "group"), twice)
	more := len(shown) - someGroups
	if more > 0 && !all {
		shown = shown[:someGroups]
	}
	if len(shown) == 0 {
		return
	}
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "group\thome\tsnapshots\tnewest\tcopies\tlate or damaged")
	for _, g := range shown {
		fmt.Fprintf(tab, "%s\t%s\t%d\t%s\t%d\t%s\n", g.Group, g.Home, g.Count, ago(time.Unix(g.Newest, 0), now), g.Copies, g.late())
	}
	tab.Flush()
	if more > 0 && !all {
		fmt.Fprintf(w, "and %d more: --all\n", more)
	}
}

// late says where copies are old or bad, "" if nowhere.
func (g group) late() string {
	var all []string
	for _, p := range g.Places {
		if p.Behind > 0 {
			all = append(all, fmt.Sprintf("%s by %d, %s", p.Node, p.Behind, span(time.Duration(p.Lag)*time.Second)))
		}
		if p.Damaged > 0 {
			all = append(all, fmt.Sprintf("%s has %d damaged", p.Node, p.Damaged))
		}
	}
	return strings.Join(all, "; ")
}

// ago is how long it is since a time, for people.
func ago(t, now time.Time) string {
	switch d := now.Sub(t); {
	case t.IsZero() || t.Unix() <= 0:
		return "never"
	case d < 10*time.Second:
		return "now"
	default:
		return span(d) + " ago"
	}
}

// span is how long something is, for people.
func span(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
}

// crop cuts a line to width; 0: not at all.
func crop(line string, width int) string {
	if width == 0 || utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:width-1]) + "…"
}

// fold breaks a text at spaces, so that no line is longer than width.
func fold(text string, width int) string {
	if width == 0 {
		return text
	}
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = text[:len(text)-len(strings.TrimLeft(text, " "))] + word // keeps how far it is set in
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width:
			lines, line = append(lines, line), "    "+word
		default:
			line += " " + word
		}
	}
	return strings.Join(append(lines, line), "\n")
}
