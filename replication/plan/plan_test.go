package plan

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
)

// side reads "NS:TYPE/ID TIME… ; …". A time may be followed by v (verified), f
// (failed), e (encrypted) or m (of a known manifest), a group by "@OWNER".
func side(t *testing.T, text string) (s Side) {
	t.Helper()
	seen := map[naming.Namespace]bool{"": true}
	for part := range strings.SplitSeq(text, ";") {
		fields := strings.Fields(part)
		if len(fields) == 0 {
			continue
		}
		ns, name, _ := strings.Cut(fields[0], ":")
		for at := naming.Namespace(ns); !seen[at]; at, _ = at.Parent() {
			seen[at] = true
			s.Namespaces = append(s.Namespaces, at)
		}
		if name == "" {
			continue
		}
		name, owner, _ := strings.Cut(name, "@")
		g, err := naming.ParseGroup(name)
		if err != nil {
			t.Fatal(err)
		}
		out := Group{Namespace: naming.Namespace(ns), Group: g, Owner: "root@pam"}
		if owner != "" {
			out.Owner = owner + "@pbs"
		}
		for _, f := range fields[1:] {
			var snap Snapshot
			if _, err := fmt.Sscanf(f, "%d", &snap.Time); err != nil {
				t.Fatal(err)
			}
			snap.Encrypted = strings.Contains(f, "e")
			if strings.Contains(f, "v") {
				snap.Verified = "ok"
			}
			if strings.Contains(f, "f") {
				snap.Verified = "failed"
			}
			if strings.Contains(f, "m") {
				snap.Manifest[0] = 1
			}
			out.Snapshots = append(out.Snapshots, snap)
		}
		s.Groups = append(s.Groups, out)
	}
	return s
}

// shown writes a plan as "+NS" for a namespace to be made, "NS:GROUP TIME…" for
// what is fetched, "-TIME" for what has vanished, "!" for what is refused.
func shown(p *Plan) string {
	var out []string
	for _, ns := range p.Create {
		out = append(out, "+"+string(ns))
	}
	for i, g := range append(append([]GroupPlan(nil), p.Groups...), p.Vanished...) {
		line := fmt.Sprintf("%s:%s", g.To, g.Group)
		if i >= len(p.Groups) {
			line = "vanished " + line
		}
		if g.Refused != "" {
			line += " !"
		}
		for _, f := range g.Fetch {
			line += fmt.Sprintf(" %d", f.Time)
		}
		for _, s := range g.Gone {
			line += fmt.Sprintf(" -%d", s.Time)
		}
		out = append(out, line)
	}
	for _, ns := range p.VanishedNamespaces {
		out = append(out, "vanished "+string(ns))
	}
	return strings.Join(out, "; ")
}

func TestPlan(t *testing.T) {
	depth := func(n int) *int { return &n }
	for _, tt := range []struct {
		name   string
		source string
		local  string
		opt    Options
		want   string
	}{
		{"all that is new, oldest first", ":vm/1 30 10 20", "", Options{}, ":vm/1 10 20 30"},
		{"nothing behind the newest one here; that one again", ":vm/1 10 20 30", ":vm/1 20", Options{}, ":vm/1 20 30"},
		{"the newest one here, unless it is known to be the same", ":vm/1 20m 30", ":vm/1 20m", Options{}, ":vm/1 30"},
		{"the tree below one namespace under another (row 47)",
			"location_a/department_x/team_one:vm/1 10", "",
			Options{From: "location_a/department_x", To: "location_a_dep_x"},
			"+location_a_dep_x; +location_a_dep_x/team_one; location_a_dep_x/team_one:vm/1 10"},
		{"depth 0: no recursion", ":vm/1 10; a:vm/2 10", "", Options{MaxDepth: depth(0)}, ":vm/1 10"},
		{"depth 1", ":vm/1 10; a:vm/2 10; a/b:vm/3 10", "", Options{MaxDepth: depth(1)}, "+a; :vm/1 10; a:vm/2 10"},
		{"empty namespaces too", "a/b:", "", Options{To: "x"}, "+x; +x/a; +x/a/b"},
		{"somebody else's group is refused", ":vm/1 10", ":vm/1@bob 5", Options{}, ":vm/1 !"},
		{"transfer-last", ":vm/1 10 20 30 40", "", Options{TransferLast: 2}, ":vm/1 30 40"},
		{"transfer-last, and the newest one here", ":vm/1 10 20 30 40", ":vm/1 10", Options{TransferLast: 2}, ":vm/1 10 30 40"},
		{"verified only", ":vm/1 10v 20 30f 40v", "", Options{VerifiedOnly: true}, ":vm/1 10 40"},
		{"encrypted only", ":vm/1 10e 20", "", Options{EncryptedOnly: true}, ":vm/1 10"},
		{"what is corrupt here, whatever its age", ":vm/1 10 20 30", ":vm/1 10f 30m", Options{ResyncCorrupt: true}, ":vm/1 10 30"},
		{"corrupt, and nobody asked", ":vm/1 10 30m", ":vm/1 10f 30m", Options{}, ":vm/1"},
		{"vanished", ":vm/1 20m 30", ":vm/1 10 20m; :ct/5 7; :ct/6@bob 7", Options{RemoveVanished: true}, ":vm/1 30 -10; vanished :ct/5 -7"},
		{"what verified-only leaves out does not exist", ":vm/1 10 20v", ":vm/1 10 20", Options{RemoveVanished: true, VerifiedOnly: true}, ":vm/1 20 -10"},
		{"namespaces that vanished, children first; not those beside",
			"a:vm/1 10", "x:; x/a:vm/1 10; x/b/c:; y:vm/9 1",
			Options{To: "x", RemoveVanished: true}, "x/a:vm/1 10; vanished x/b/c; vanished x/b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.opt.Owner = "root@pam"
			p, err := New(side(t, tt.source), side(t, tt.local), tt.opt)
			if err != nil || shown(p) != tt.want {
				t.Errorf("plan is %q, %v\n        want %q", shown(p), err, tt.want)
			}
		})
	}
}

// Rows 38 to 44 of the list of features.
func TestFilters(t *testing.T) {
	const source = ":vm/100 1; :vm/1000 1; :vm/7 1; :ct/100 1; :host/a 1"
	for filters, want := range map[string]string{
		"":                               "ct/100 host/a vm/7 vm/100 vm/1000",
		"type:vm":                        "vm/7 vm/100 vm/1000",
		"group:vm/100":                   "vm/100",
		`regex:^vm/1\d{2,3}$`:            "vm/100 vm/1000",
		"type:ct group:vm/7":             "ct/100 vm/7",
		"exclude:type:vm":                "ct/100 host/a",
		"type:vm exclude:group:vm/100":   "vm/7 vm/1000",
		"exclude:regex:100 group:vm/100": "",
	} {
		opt := Options{Owner: "root@pam", RemoveVanished: true}
		for f := range strings.FieldsSeq(filters) {
			if err := opt.Filters.Set(f); err != nil {
				t.Fatal(err)
			}
		}
		names := func(list []GroupPlan) string {
			var out []string
			for _, g := range list {
				out = append(out, g.Group.String())
			}
			return strings.Join(out, " ")
		}
		p, err := New(side(t, source), Side{}, opt)
		if err != nil || names(p.Groups) != want || p.Total != 5 {
			t.Errorf("%q chooses %q of %d, %v; want %q", filters, names(p.Groups), p.Total, err, want)
		}
		if p, err = New(Side{}, side(t, source), opt); err != nil || names(p.Vanished) != want {
			t.Errorf("%q lets vanish %q, %v; want %q", filters, names(p.Vanished), err, want)
		}
	}
}

func TestTooDeepFailsBeforeAnything(t *testing.T) {
	if _, err := New(side(t, "a/b/c/d/e/f:vm/1 1"), Side{}, Options{To: "x/y", Owner: "root@pam"}); err == nil {
		t.Error("8 levels of namespaces are planned")
	}
}
