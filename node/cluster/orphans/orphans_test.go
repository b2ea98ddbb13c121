package orphans

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
)

func TestPlain(t *testing.T) {
	for subject, want := range map[string]string{
		"users/old@pbs, users/root@pam, settings/accounts": "users/old@pbs, users/root@pam",
		"datastores/N/lone, settings/node/N":               "datastores/N/lone",
		"settings/node/N/traffic":                          "settings/node/N/traffic",
		"settings/accounts":                                "settings/accounts",
		"users/j\xc3":                                      "users/j",
		"acl//\x00a@pbs\x00Admin":                          "acl// a@pbs Admin",
		"authority/00000000000000000008":                   "what operators signed (link 8)",
	} {
		if got := plain(subject); got != want {
			t.Errorf("%q is %q, want %q", subject, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	id := authority.Key{7}.NodeID()
	name := func(string) string { return "n1" }
	all := []Change{{What: "datastores/" + id + "/lone, jobs/" + id}, {What: "users/x@pbs"}, {What: "users/x@pbs"}, {What: ""}}
	if got := Names(all, name); !slices.Equal(got, []string{"datastores/n1/lone, jobs/n1", "users/x@pbs", ""}) {
		t.Errorf("%q", got)
	}
}

// The oldest parts go, and a file that cannot be read is an error and no empty list.
func TestFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "orphans")
	if all, err := Read(file); all != nil || err != nil {
		t.Errorf("%v, %v", all, err)
	}
	var all []Part
	for i := range maxParts + 3 {
		all = append(all, Part{Ended: int64(i), Dir: fmt.Sprint("raft.orphan-", i), Changes: []Change{{What: "x"}}})
	}
	for range 2 {
		if err := Write(file, all); err != nil {
			t.Fatal(err)
		}
		got, err := Read(file)
		if err != nil || len(got) != maxParts || got[0].Ended != 3 || got[maxParts-1].Dir != "raft.orphan-22" {
			t.Fatalf("%d parts, %v", len(got), err)
		}
	}
	if err := Write(file, nil); err != nil {
		t.Fatal(err)
	}
	if all, err := Read(file); all != nil || err != nil {
		t.Errorf("%v, %v", all, err)
	}
	if err := Write(filepath.Join(file, "nowhere"), all); err == nil {
		t.Error("it is written into nothing")
	}
}
