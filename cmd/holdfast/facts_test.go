package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

type factsStatus struct {
	Members []struct {
		Name      string
		Snapshots int
		Stores    []struct {
			Store     string
			Total     int64
			Snapshots int
		}
	}
	Groups []struct {
		Group, Home string
		Copies      int
	}
	Warnings []struct{ Level, Node, Text string }
}

func (d *daemon) facts() (s factsStatus) {
	out, err := d.holdfast("status", "--output-format", "json")
	if err != nil || json.Unmarshal([]byte(out), &s) != nil {
		return factsStatus{}
	}
	return s
}

// holds is how many snapshots d believes that a node has.
func (d *daemon) holds(name string) int {
	for _, m := range d.facts().Members {
		if m.Name == name && len(m.Stores) > 0 && m.Stores[0].Total > 0 && m.Stores[0].Snapshots == m.Snapshots {
			return m.Snapshots
		}
	}
	return -1
}

// Three daemons know what each of them holds, also what was done to one while
// nobody could be told; and one that is started from an old image says so.
func TestFactsOfProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	t.Parallel()
	all, _ := newDaemons(t)
	a, b, c := all[0], all[1], all[2]
	a.must("datastore", "create", "main", "--path", filepath.Join(filepath.Dir(a.dir), "store"))
	src := t.TempDir()
	if err := os.WriteFile(filepath.Join(src, "file"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	backUp := func(id string) string {
		t.Helper()
		a.must("backup", "root.pxar:"+src, "--store", "main", "--backup-id", id)
		list := a.must("snapshot", "list", "--store", "main", "--output-format", "json")
		var snaps []struct {
			ID   string `json:"backup-id"`
			Time int64  `json:"backup-time"`
		}
		if err := json.Unmarshal([]byte(list), &snaps); err != nil {
			t.Fatal(err)
		}
		for _, s := range snaps {
			if s.ID == id {
				return "host/" + id + "/" + time.Unix(s.Time, 0).UTC().Format(time.RFC3339)
			}
		}
		t.Fatalf("no backup of %s in %s", id, list)
		return ""
	}
	one := backUp("one")
	for _, d := range all {
		d.wait(60*time.Second, "it knows the first backup", func() bool { return d.holds("a") == 1 })
	}
	image, err := os.ReadFile(filepath.Join(a.dir, "feeds.db"))
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	backUp("two")
	b.wait(30*time.Second, "it knows the second backup", func() bool { return b.holds("a") == 2 })
	t.Logf("another node's status shows a backup %s after it began", time.Since(began).Round(time.Millisecond))
	a.must("snapshot", "forget", one, "--store", "main")
	c.wait(30*time.Second, "it knows that one was forgotten", func() bool { return c.holds("a") == 1 })
	if g := b.facts().Groups; len(g) != 1 || g[0].Group != "host/two" || g[0].Home != "a" || g[0].Copies != 1 {
		t.Errorf("%+v", g)
	}

	// a dies; the others go on showing what it held.
	a.kill(syscall.SIGKILL)
	b.wait(60*time.Second, "it says that a is away", func() bool {
		out, _ := b.holdfast("status")
		return strings.Contains(out, "it has failed")
	})
	if n := b.holds("a"); n != 1 {
		t.Errorf("%d snapshots are shown of a node that is away", n)
	}

	// It comes back from an image that is older than what it has told.
	if err := os.WriteFile(filepath.Join(a.dir, "feeds.db"), image, 0o600); err != nil {
		t.Fatal(err)
	}
	a.start()
	a.wait(90*time.Second, "it says that its disk went back", func() bool {
		w := a.facts().Warnings
		return len(w) > 0 && w[0].Level == "critical" && w[0].Node == "a"
	})
	backUp("three")
	c.wait(30*time.Second, "it believes the new epoch", func() bool { return c.holds("a") == 2 })
	for _, d := range all {
		d.kill(syscall.SIGTERM)
	}
}
