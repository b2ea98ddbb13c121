package pushes_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
)

// in makes a small backup here in a namespace, which is made if need be.
func (l *lab) in(ns naming.Namespace, name string) {
	l.t.Helper()
	if ns != "" {
		for i := range len(ns) {
			if ns[i] == '/' {
				_ = l.here.CreateNamespace(ns[:i]) // it may be there
			}
		}
		_ = l.here.CreateNamespace(ns)
	}
	err := storestest.Make(l.t.Context(), l.here, storestest.Backup{Namespace: ns, Snapshot: name, Owner: "root@pam", Files: []storestest.File{
		{Name: "drive.img.fidx", Content: random(3, 1<<20)}, {Name: "guest.conf.blob", Content: []byte("conf of " + name)},
	}})
	if err != nil {
		l.t.Fatal(err)
	}
}

// there lists what the server has: its namespaces, and the snapshots of each.
func (l *lab) there() (all []string) {
	l.t.Helper()
	d := l.server.Datastore
	spaces, err := d.Namespaces(l.t.Context(), "", -1)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, ns := range spaces {
		all = append(all, string(ns)+":")
		groups, err := d.Groups(l.t.Context(), ns)
		if err != nil {
			l.t.Fatal(err)
		}
		for _, g := range groups {
			list, err := d.Snapshots(l.t.Context(), ns, g)
			if err != nil {
				l.t.Fatal(err)
			}
			for _, s := range list {
				all = append(all, string(ns)+":"+s.String())
			}
		}
	}
	slices.Sort(all)
	return all
}

func vanish(j *settings.SyncJob) { yes := true; j.RemoveVanished = &yes }

const at = "/2026-01-01T00:00:00Z"

// A push speaks to servers of each release as they are spoken to: with no parameter
// that they do not know, to none from before there were namespaces, and to all others
// from a namespace into one (features rows 63, 64; PBS protocol notes §6.5).
func TestReleases(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ release, refusal string }{
		{"1.1.14", "has version 1.1"},
		{"2.1.5", "has version 2.1"},
		{"2.2.1", ""},
		{"2.4.6", ""},
		{"3.2.4", ""},
		{"3.2.10", ""},
		{"3.2.11", ""},
		{"4.0.1", ""},
		{"10.0.1", ""}, // is not before 2.2
	} {
		t.Run(tt.release, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			if err := l.server.ActAs(tt.release); err != nil {
				t.Fatal(err)
			}
			l.in("", "vm/1"+at)
			l.in("a/b", "ct/2"+at)
			job := func(j *settings.SyncJob) { vanish(j); j.RemoteNS = "home" }
			r, err := l.push(nil, job)
			if tt.refusal != "" {
				if err == nil || !strings.Contains(err.Error(), tt.refusal) || !strings.Contains(err.Error(), "before 2.2") {
					t.Errorf("%v, want …%s…", err, tt.refusal)
				}
				if asked := l.server.Asked(); len(asked) > 2 { // the login, and its version
					t.Errorf("it was asked all the same: %q", asked)
				}
				return
			}
			if err != nil || r.Snapshots != 2 {
				t.Fatalf("%+v %v %q", r, err, l.warned)
			}
			want := []string{":", "home/a/b:", "home/a/b:ct/2" + at, "home/a:", "home:", "home:vm/1" + at}
			if got := l.there(); !slices.Equal(got, want) {
				t.Errorf("there are %q, want %q", got, want)
			}
			before := len(l.server.Asked())
			if r, err := l.push(nil, job); err != nil || r.Snapshots+r.Removed != 0 {
				t.Errorf("once more: %+v %v", r, err)
			}
			for _, a := range l.server.Asked()[before:] {
				if !strings.HasPrefix(a, "GET /api2") && !strings.HasPrefix(a, "POST /api2/json/access/ticket") {
					t.Errorf("with nothing new it was asked to %s", a)
				}
			}
			// What has vanished here goes there, the namespaces with it.
			if err := l.here.RemoveNamespace(t.Context(), "a", true); err != nil {
				t.Fatal(err)
			}
			r, err = l.push(nil, job)
			if got := l.there(); err != nil || r.Removed != 1 || !slices.Equal(got, []string{":", "home:", "home:vm/1" + at}) {
				t.Errorf("%+v %v: there are %q", r, err, got)
			}
		})
	}
}

// What vanishes there, and what does not (features row 77; PBS protocol notes §6.5).
func TestWhatVanishes(t *testing.T) {
	t.Parallel()
	depth := func(n int) func(*settings.SyncJob) { return func(j *settings.SyncJob) { j.MaxDepth = &n } }
	for _, tt := range []struct {
		name   string
		there  string // beside vm/1, which is here too: NS:GROUP, "=" if it is protected, "!" if it is another's
		change func(*settings.SyncJob)
		want   string // of it, what stays; namespaces that stay are "NS:"
	}{
		{"a group", ":vm/2", nil, ""},
		{"not what is protected", ":vm/2=", nil, ":vm/2"},
		{"nor what is another's", ":vm/2!", nil, ":vm/2"},
		{"nor what the filters leave out", ":vm/2 :ct/3", func(j *settings.SyncJob) { j.GroupFilter = []string{"type:vm"} }, ":ct/3"},
		{"a namespace, with the one that it is in", "a/b:vm/2", nil, ""},
		{"a namespace, but not what is another's in it", "a/b:vm/2 a:ct/3!", nil, "a: a:ct/3"},
		{"nor what is protected in it", "a/b:vm/2=", nil, "a/b: a/b:vm/2 a:"},
		{"nor one of others", "a:vm/2! b:vm/2", nil, "a: a:vm/2"},
		{"nor one that has nothing in it", "a: b:vm/2", nil, "a:"},
		{"nor what lies deeper than the job goes", "a/b:vm/2 a:vm/3", depth(1), "a/b: a/b:vm/2 a:"},
		{"nor any other namespace, if it goes nowhere", "a:vm/2", depth(0), "a: a:vm/2"},
		{"nor what lies beside its namespace", "x:vm/2 home2:vm/2", func(j *settings.SyncJob) { j.RemoteNS = "home" }, "home2: home2:vm/2 x: x:vm/2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.in("", "vm/1"+at)
			for word := range strings.FieldsSeq(tt.there) {
				l.put(word)
			}
			job := func(j *settings.SyncJob) {
				if vanish(j); tt.change != nil {
					tt.change(j)
				}
			}
			plan := l.plan(job)
			r, err := l.push(nil, job)
			if err != nil {
				t.Fatalf("%v %q", err, l.warned)
			}
			removed, spaces := 0, 0
			for _, step := range plan {
				if strings.HasPrefix(step, "remove namespace ") {
					spaces++
				} else if strings.HasPrefix(step, "remove ") {
					removed++
				}
			}
			if removed != r.Removed {
				t.Errorf("planned %q, and %d were removed", plan, r.Removed)
			}
			var got []string
			for _, what := range l.there() {
				if what = strings.TrimSuffix(what, at); what != ":" && !strings.HasSuffix(what, ":vm/1") && what != "home:" {
					got = append(got, what)
				}
			}
			if text := strings.Join(got, " "); text != tt.want {
				t.Errorf("there is %q, want %q; planned %q", text, tt.want, plan)
			}
		})
	}
}

// put makes something there: "NS:GROUP", protected with "=", another's with "!".
func (l *lab) put(word string) {
	l.t.Helper()
	ns, group, _ := strings.Cut(strings.TrimRight(word, "=!"), ":")
	owner := pusher
	if strings.HasSuffix(word, "!") {
		owner = "other@pbs"
	}
	d, parent := l.server.Datastore, naming.Namespace("")
	for _, name := range naming.Namespace(ns).Components() {
		child, err := parent.Child(name)
		if err != nil {
			l.t.Fatal(err)
		}
		_ = d.CreateNamespace(child) // it may be there
		parent = child
	}
	if group == "" {
		return
	}
	err := storestest.Make(l.t.Context(), d, storestest.Backup{Namespace: naming.Namespace(ns), Snapshot: group + at, Owner: owner, Files: []storestest.File{{Name: "guest.conf.blob", Content: []byte(word)}}})
	if err == nil && strings.HasSuffix(word, "=") {
		err = d.SetProtected(naming.Namespace(ns), snap(group+at), true)
	}
	if err != nil {
		l.t.Fatal(fmt.Errorf("%s: %w", word, err))
	}
}

// What the job may not read is here all the same: nothing of it is removed there.
func TestWhatTheJobMayNotReadStaysThere(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.in("", "vm/1"+at)
	l.in("", "vm/2"+at)
	if r, err := l.push(nil, vanish); err != nil || r.Snapshots != 2 {
		t.Fatalf("%+v %v", r, err)
	}
	l.may = func(_ naming.Namespace, g naming.Group, _ string) bool { return g.ID != "2" }
	r, err := l.push(nil, vanish)
	if want := []string{":", ":vm/1" + at, ":vm/2" + at}; err != nil || r.Removed != 0 || !slices.Equal(l.there(), want) {
		t.Errorf("%+v %v: there is %q", r, err, l.there())
	}
}

// Whose job may not remove namespaces there leaves them, and empties them.
func TestNamespacesStayWithoutThePrivilege(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.in("", "vm/1"+at)
	l.put("a:vm/2")
	l.mayRemove = func(naming.Namespace) bool { return false }
	r, err := l.push(nil, vanish)
	if want := []string{":", ":vm/1" + at, "a:"}; err != nil || r.Removed != 1 || !slices.Equal(l.there(), want) {
		t.Errorf("%+v %v: there is %q", r, err, l.there())
	}
}

// A target that dies in the middle leaves nothing half there, and the next run goes on.
func TestTargetDies(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for i := range 4 {
		l.back(fmt.Sprintf("vm/1/2026-01-0%dT00:00:00Z", i+1), random(uint64(i), 12<<20), nil)
	}
	l.breakAfter(3, "/fixed_chunk")
	if r, err := l.push(nil, nil); err == nil || r.Snapshots > 1 || r.Failed != 1 {
		t.Errorf("the connection is lost: %+v %v", r, err)
	}
	l.server.Wait()
	for _, what := range l.there() {
		if s, is := strings.CutPrefix(what, ":vm"); is {
			if _, err := l.server.Datastore.Manifest("", snap("vm"+s)); err != nil {
				t.Errorf("there is half of %s: %v", what, err)
			}
		}
	}
	l.breakAfter(-1, "")
	if _, err := l.push(nil, nil); err != nil {
		t.Fatal(err)
	}
	if got := l.there(); len(got) != 5 {
		t.Errorf("there is %q", got)
	}
}
