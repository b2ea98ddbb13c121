package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/retention"
)

func TestSettingsSurviveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "settings")
	s, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	depth, before := 2, s.State()
	err = s.Update(t.Context(), func(st *State) error {
		st.Datastores = append(st.Datastores, Datastore{Name: "zwei", Path: "/b", GCSchedule: "daily"}, Datastore{Name: "eins", Path: "/a"})
		st.PruneJobs = append(st.PruneJobs, PruneJob{ID: "p1", Store: "eins", NS: "a/b", MaxDepth: &depth, Schedule: "hourly", Keep: retention.Keep{Last: 3}})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(before.Datastores) != 0 {
		t.Error("a change is seen through a state from before it")
	}
	again, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	st := again.State()
	if len(st.Datastores) != 2 || st.Datastores[0].Name != "eins" || st.PruneJobs[0].Last != 3 || *st.PruneJobs[0].MaxDepth != 2 {
		t.Errorf("read %+v", st)
	}
	if d, ok := st.Datastore("zwei"); !ok || d.GCSchedule != "daily" {
		t.Errorf("found %+v, %v", d, ok)
	}
	if Digest(st) != Digest(s.State()) || CheckDigest(st, Digest(st)) != nil || CheckDigest(st, "") != nil || CheckDigest(st, "0") == nil {
		t.Error("digests do not tell what has changed")
	}
}

func TestSettingsRefuseNonsense(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"no name", `{"version":1,"datastores":[{"name":"x","path":"/a"}]}`, "3"},
		{"a path that depends on where one is", `{"version":1,"datastores":[{"name":"abc","path":"a"}]}`, "not absolute"},
		{"the same twice", `{"version":1,"datastores":[{"name":"abc","path":"/a"},{"name":"abc","path":"/b"}]}`, "twice"},
		{"a job without an ID", `{"version":1,"prune-jobs":[{"store":"abc"}]}`, "without a name"},
		{"a field of the future", `{"version":1,"colour":"red"}`, "unknown field"},
		{"a version of the future", `{"version":2}`, "format 2"},
		{"no version", `{}`, "no format version"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "settings")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := OpenFile(path); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// What is read as settings is written and read again the same.
func FuzzSettingsFile(f *testing.F) {
	f.Add([]byte(`{"version":1,"datastores":[{"name":"abc","path":"/a"}],"traffic-rules":[{"name":"r","network":["10.0.0.0/8"]}]}`))
	f.Add([]byte(`{"version":1,"verify-jobs":[{"id":"v","store":"abc","ignore-verified":false,"outdated-after":30}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := file.Decode(text)
		if err != nil {
			return
		}
		out, err := file.Encode(s)
		if err != nil {
			t.Skip() // too long
		}
		again, err := file.Decode(out)
		if err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if Digest(again) != Digest(s) {
			t.Errorf("%s became %+v", text, again)
		}
	})
}
