package ledger

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/access/ticket"
	"github.com/holdfast-mesh/holdfast/consensus/actor"
)

func newService(t *testing.T, store access.Store) *access.Service {
	t.Helper()
	s, err := access.New(access.Config{Store: store, Key: ticket.NewKey()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What was set up on a lone node is all there in the cluster, and the two kinds
// of store cannot be told apart.
func TestAccountsMoveIntoTheLedger(t *testing.T) {
	file, err := access.OpenFile(filepath.Join(t.TempDir(), "accounts.json"))
	if err != nil {
		t.Fatal(err)
	}
	local := newService(t, file)
	if err := local.AddUser(t.Context(), access.User{ID: "op@pbs", Comment: "operator"}, "secret12345"); err != nil {
		t.Fatal(err)
	}
	err = file.Update(t.Context(), func(s *access.State) error {
		for i := range 1200 { // more than one command can hold
			s.Users = append(s.Users, access.User{ID: access.AuthID(fmt.Sprintf("user%d@pbs", i))})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	accounts := NewAccounts(w.client(10))
	if s := accounts.State(); len(s.Users) != 1 || s.Users[0].ID != access.Root || s.Check() != nil {
		t.Errorf("an empty ledger has %+v", s)
	}
	for range 2 {
		if err := accounts.TakeOver(t.Context(), file.State()); err != nil {
			t.Fatal(err)
		}
		if got, want := accounts.State(), file.State(); got.UsersDigest() != want.UsersDigest() || got.ACLDigest() != want.ACLDigest() || got.Passwords["op@pbs"] != want.Passwords["op@pbs"] {
			t.Error("the ledger has other accounts than the file")
		}
	}
	if one, two := accounts.State(), accounts.State(); one != two {
		t.Error("a state that has not changed is another one")
	}
	s := newService(t, accounts)
	if err := s.AddUser(t.Context(), access.User{ID: "op@pbs"}, "secret12345"); !errors.Is(err, access.ErrExists) {
		t.Errorf("%v", err)
	}
	if err := s.AddUser(t.Context(), access.User{ID: "new@pbs"}, "secret12345"); err != nil {
		t.Fatal(err)
	}
	w.restart()
}

func TestTakeOverGoesOnBehindACrash(t *testing.T) {
	w := newWorld(t)
	client := w.client(10)
	submit, n := client.Submit, 0
	client.Submit = func(ctx context.Context, b []byte) ([]byte, error) {
		if n++; n == 2 {
			return nil, errors.New("killed")
		}
		return submit(ctx, b)
	}
	from := &access.State{Users: []access.User{{ID: access.Root}}}
	for i := range 1500 {
		from.Users = append(from.Users, access.User{ID: access.AuthID(fmt.Sprintf("user%d@pbs", i))})
	}
	accounts := NewAccounts(client)
	if err := accounts.TakeOver(t.Context(), from); err == nil {
		t.Fatal("it was done in one command")
	}
	if got := len(accounts.State().Users); got == 0 || got >= 1501 {
		t.Fatalf("%d users behind the crash", got)
	}
	if err := accounts.TakeOver(t.Context(), from); err != nil {
		t.Fatal(err)
	}
	if got := accounts.State(); len(got.Users) != 1501 || got.Check() != nil {
		t.Errorf("%d users", len(got.Users))
	}
}

// Two sites change the accounts at once: both changes are there, and a user
// that one removes has no token of the other.
func TestAccountsOfTwoSites(t *testing.T) {
	w := newWorld(t)
	w.addNode(11, "dc-1", "dc", "full", true)
	here, there := NewAccounts(w.client(10)), NewAccounts(w.client(11))
	add := func(id access.AuthID) func(*access.State) error {
		return func(s *access.State) error {
			s.Users = append(s.Users, access.User{ID: id})
			return nil
		}
	}
	tries := 0
	err := here.Update(t.Context(), func(s *access.State) error {
		if tries++; tries == 1 {
			if err := there.Update(actor.With(t.Context(), "op@pbs", ""), add("there@pbs")); err != nil {
				t.Fatal(err)
			}
		}
		return add("here@pbs")(s)
	})
	if err != nil || tries != 2 || len(here.State().Users) != 3 {
		t.Errorf("%v, %d tries, %+v", err, tries, here.State().Users)
	}
	tries = 0
	err = here.Update(t.Context(), func(s *access.State) error {
		if tries++; tries == 1 {
			if err := newService(t, there).RemoveUser(t.Context(), "there@pbs", ""); err != nil {
				t.Fatal(err)
			}
		}
		for _, u := range s.Users {
			if u.ID == "there@pbs" {
				s.Tokens = append(s.Tokens, access.Token{ID: "there@pbs!tok"})
				return nil
			}
		}
		return access.ErrNotFound
	})
	if !errors.Is(err, access.ErrNotFound) || here.State().Check() != nil {
		t.Errorf("%v, %+v", err, here.State())
	}
	if err := here.Update(t.Context(), func(s *access.State) error { s.Users = nil; return nil }); err == nil {
		t.Error("a state that is not valid was stored")
	}
}

// Two histories of a cluster have different accounts behind a mark of one version: those
// of the one that took the place of the other are read. A node that lost its part of the
// ledger to a later incarnation once kept the accounts of before, until the next change.
func TestAccountsOfAnotherHistory(t *testing.T) {
	users := func(name access.AuthID) (*world, []byte) {
		w := newWorld(t)
		err := NewAccounts(w.client(10)).Update(t.Context(), func(s *access.State) error {
			s.Users = append(s.Users, access.User{ID: name})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return w, w.l.View().encode()
	}
	w, _ := users("one@pbs")
	_, later := users("two@pbs")
	accounts := NewAccounts(w.client(10))
	was, _ := Settings.Get(w.l.View(), generationKey)
	if s := accounts.State(); len(s.Users) != 2 || s.Users[0].ID != "one@pbs" {
		t.Fatalf("%+v", s.Users)
	}
	w.l.Reset()
	if err := w.l.Restore(later); err != nil {
		t.Fatal(err)
	}
	if now, _ := Settings.Get(w.l.View(), generationKey); now.Version != was.Version {
		t.Fatalf("the test is of nothing: versions %d and %d", was.Version, now.Version)
	}
	if s := accounts.State(); len(s.Users) != 2 || s.Users[1].ID != "two@pbs" && s.Users[0].ID != "two@pbs" {
		t.Errorf("%+v", s.Users)
	}
}
