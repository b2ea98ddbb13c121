package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/consensus/guard"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
)

// A node from before there were clusters starts as a cluster of its own, with
// all that it had, whenever that is cut short; its files stay.
func TestMigration(t *testing.T) {
	c := initialised(t)
	for _, later := range []string{clusterDir, guard.HeadOf(clusterDir), OperatorFile} {
		if err := os.RemoveAll(c.at(later)); err != nil {
			t.Fatal(err)
		}
	}
	accounts, err := access.OpenFile(c.at(accountsFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := accounts.Update(t.Context(), func(s *access.State) error {
		s.Users = append(s.Users, access.User{ID: "old@pbs", Comment: "kept"})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	had, err := settings.OpenFile(c.at(settingsFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := had.Update(t.Context(), func(s *settings.State) error {
		s.PruneJobs = append(s.PruneJobs, settings.PruneJob{ID: "old", Store: "main", Schedule: "daily"})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for life := range 3 {
		if life == 1 { // as if the first had ended before it was told that it was done
			if err := os.WriteFile(c.at(clusterDir+"/founding"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		n, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		if s := n.access.State(); len(s.Users) != 2 || s.Users[0].ID != "old@pbs" || s.Users[0].Comment != "kept" {
			t.Errorf("life %d: users %+v", life, s.Users)
		}
		if s := n.settings.State(); len(s.PruneJobs) != 1 || s.PruneJobs[0].ID != "old" {
			t.Errorf("life %d: jobs %+v", life, s.PruneJobs)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{accountsFile, settingsFile} {
		if there(c.at(file)) || !there(c.at(file+migrated)) {
			t.Errorf("%s is where it was, or gone", file)
		}
	}
}

// A node whose directory of the cluster was lost does not found another in its
// place. (It did, without a word, and its log of before hung behind a chain that
// it did not belong to.)
func TestLostCluster(t *testing.T) {
	for _, gone := range [][]string{{clusterDir}, {clusterDir + "/authority"}, {clusterDir + "/authority", clusterDir + "/guard.1", clusterDir + "/guard.2"}, {clusterDir + "/authority", guard.HeadOf(clusterDir)}} {
		c := initialised(t)
		for _, file := range gone {
			if err := os.RemoveAll(c.at(file)); err != nil {
				t.Fatal(err)
			}
		}
		n, err := New(c)
		var hint interface{ Hint() string }
		if !errors.As(err, &hint) || there(c.at(clusterDir+"/authority")) || there(c.at(clusterDir+"/founding")) {
			t.Errorf("without %v it starts: %v", gone, err)
		}
		if err == nil {
			n.Close()
		}
	}
}

// A datastore with a floor stays in the settings. (Taken out and put back under
// another name it had no floor, and all of it could be destroyed.)
func TestDatastoreWithAFloorStays(t *testing.T) {
	n, err := New(initialised(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	if err := n.cluster.Guard().Raise("op", guard.Floor{Scope: "main/ns", MinAge: 1}); err != nil {
		t.Fatal(err)
	}
	st := settings.Datastore{Name: "main", Path: filepath.Join(n.cfg.Dir, "main")}
	if err := n.settings.Update(t.Context(), func(s *settings.State) error {
		s.Datastores = append(s.Datastores, st)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, destroy := range []bool{false, true} {
		if _, err := n.stores.StartRemove(t.Context(), "root@pam", stores.Remove{Name: "main", Destroy: destroy}); !errors.Is(err, catalog.ErrGuarded) {
			t.Errorf("removed: %v", err)
		}
	}
}

// A node is up soon, and takes its first change soon: nobody waits for an
// election of one.
func TestStart(t *testing.T) {
	c := initialised(t)
	began := time.Now()
	n, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	opened := time.Since(began)
	if err := n.access.AddUser(ctx, access.User{ID: "a@pbs"}, ""); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 4*time.Second { // an election alone takes 5
		t.Errorf("the first change was there after %s", took)
	} else {
		t.Logf("open after %s, the first change after %s", opened, took)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
