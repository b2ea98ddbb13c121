package remotes_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
	"github.com/holdfast-mesh/holdfast/replication"
)

const at = "/2026-01-01T00:00:00Z"

// A pull speaks to servers of each release with no parameter that they do not know. Of
// one from before there were namespaces the root is pulled, and what would need them is
// refused with a cure (features rows 48 to 51).
func TestReleases(t *testing.T) {
	t.Parallel()
	all := "vm/1 a:vm/2 a/b:vm/3"
	for _, tt := range []struct {
		name, release string
		from          naming.Namespace
		depth         int    // negative: not set
		want          string // of what is there; "": it is refused
	}{
		{"no depth, from the root, an old server", "2.1.5", "", -1, "vm/1"},
		{"no depth, from the root, an older one", "1.0.11", "", -1, "vm/1"},
		{"depth 0, an old server", "2.1.5", "", 0, "vm/1"},
		{"a depth, an old server", "2.1.5", "", 2, ""},
		{"no depth, below the root, an old server", "2.1.5", "a", -1, ""},
		{"depth 0, below the root, an old server", "2.1.5", "a", 0, ""},
		{"no depth, from the root", "2.2.1", "", -1, all},
		{"no depth, from the root, a newer one", "4.0.1", "", -1, all},
		{"no depth, below the root", "3.2.4", "a", -1, "a:vm/2 a/b:vm/3"},
		{"depth 0, below the root", "3.2.4", "a", 0, "a:vm/2"},
		{"a depth", "3.2.4", "", 1, "vm/1 a:vm/2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			for word := range strings.FieldsSeq(all) {
				ns, group, is := strings.Cut(word, ":")
				if !is {
					ns, group = "", word
				}
				if err := l.server.Datastore.CreateNamespace(naming.Namespace(ns)); is && err != nil {
					t.Fatal(err)
				}
				err := storestest.Make(t.Context(), l.server.Datastore, storestest.Backup{Namespace: naming.Namespace(ns), Snapshot: group + at, Owner: "a@pbs", Files: []storestest.File{
					{Name: "guest.conf.blob", Content: []byte(word)}, {Name: "drive.img.fidx", Content: random(7, 1<<20)},
				}})
				if err != nil {
					t.Fatal(err)
				}
			}
			if err := l.server.ActAs(tt.release); err != nil {
				t.Fatal(err)
			}
			r, err := l.pull(func(j *replication.Job) {
				if j.From = tt.from; tt.depth >= 0 {
					j.MaxDepth = &tt.depth
				}
				j.To = tt.from
			})
			if tt.want == "" {
				if hint, is := err.(interface{ Hint() string }); err == nil || !strings.Contains(err.Error(), "has no namespaces") || is && !strings.Contains(hint.Hint(), "2.2") {
					t.Errorf("%+v %v", r, err)
				}
				return
			}
			if err != nil {
				t.Fatalf("%+v %v", r, err)
			}
			for word := range strings.FieldsSeq(all) {
				ns, group, is := strings.Cut(word, ":")
				if !is {
					ns, group = "", word
				}
				s, err := naming.ParseSnapshot(group + at)
				if err != nil {
					t.Fatal(err)
				}
				_, err = l.here.Manifest(naming.Namespace(ns), s)
				if want := strings.Contains(" "+tt.want+" ", " "+word+" "); (err == nil) != want {
					t.Errorf("%s is here: %v, want %v (%v)", word, err == nil, want, err)
				}
			}
		})
	}
}

// A snapshot that is removed between the list and its turn is left out, and one whose
// reader fails for another reason fails its group only (PBS protocol notes §1.7, §6.2).
func TestSourceChangesMeanwhile(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.back("vm/1"+at, random(1, 6<<20), nil)
	l.back("vm/2"+at, random(2, 6<<20), nil)
	l.back("vm/3"+at, random(3, 6<<20), nil)
	l.server.Before = func(r *http.Request) error {
		q := r.URL.Query()
		switch {
		case !strings.HasSuffix(r.URL.Path, "/reader"):
		case q.Get("backup-id") == "1":
			return upgrade.Errorf(http.StatusBadRequest, "snapshot vm/1%s does not exist.", at)
		case q.Get("backup-id") == "2":
			return upgrade.Errorf(http.StatusInternalServerError, "unable to read: Input/output error")
		}
		return nil
	}
	if err := l.server.ActAs("3.2.4"); err != nil {
		t.Fatal(err)
	}
	r, err := l.pull(nil)
	if err == nil || r.Pulled != 1 || r.Gone != 1 || len(r.Errors) == 0 || !strings.Contains(strings.Join(r.Errors, " "), "Input/output error") {
		t.Errorf("%+v %v", r, err)
	}
	l.check("vm/3"+at, random(3, 6<<20), nil)
}
