package members

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/consensus/actor"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/drafts"
	"github.com/holdfast-mesh/holdfast/consensus/guard"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/node/cluster"
)

// A draft that made something and one that removed it were shown alike, as the name of a
// row: whoever looked whether to discard it could not tell.
func TestWhatDraftsDo(t *testing.T) {
	w := newWorld(t)
	ctx := actor.With(t.Context(), "root@pam", "")
	if err := w.cluster.Accounts().Update(ctx, func(s *access.State) error {
		s.Users = append(s.Users, access.User{ID: "old@pbs"}, access.User{ID: "there@pbs"})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	draft := func(change func(context.Context, *ledger.Client) error) {
		t.Helper()
		var kept *drafts.Kept
		if err := w.cluster.Drafts().Make(ctx, change); !errors.As(err, &kept) {
			t.Fatal(err)
		}
	}
	accounts := func(change func(*access.State)) {
		t.Helper()
		draft(func(ctx context.Context, on *ledger.Client) error {
			return ledger.NewAccounts(on).Update(ctx, func(s *access.State) error { change(s); return nil })
		})
	}
	accounts(func(s *access.State) { s.Users = append(s.Users, access.User{ID: "new@pbs"}) })
	accounts(func(s *access.State) {
		for i := range s.Users {
			if s.Users[i].ID != "root@pam" {
				s.Users[i].Comment = "x"
			}
		}
	})
	accounts(func(s *access.State) {
		s.Users = s.Users[1:]
		s.Users = append(s.Users, access.User{ID: "zoe@pbs"})
	})
	draft(func(ctx context.Context, on *ledger.Client) error {
		put := ledger.Datastores.Put(w.cluster.Self()+"/extra", 0, ledger.Datastore{})
		_, err := on.Do(ctx, "root@pam", "", ledger.KindChange, ledger.Change{Ops: []ledger.Op{put}})
		return err
	})
	var list []Draft
	if err := w.call("GET", "/drafts", nil, &list); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range list {
		got = append(got, d.What)
	}
	want := []string{
		"make users/new@pbs",
		"change users/new@pbs, users/old@pbs, users/there@pbs",
		"remove users/new@pbs, make users/zoe@pbs",
		"make datastores/home/extra",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for store, want := range map[string]string{"extra": "it is draft 4, which waits for a quorum", "other": ""} {
		if hint := MakesStore(w.cluster.Drafts().List(), w.cluster.Self(), store); !strings.HasPrefix(hint, want) || want == "" && hint != "" {
			t.Errorf("%s: %q", store, hint)
		}
	}
}

// On a node that was removed drafts "waited for a quorum" for ever, and to submit them
// said "no leader", without a hint, as it did without a quorum.
func TestDraftsOfARemovedNode(t *testing.T) {
	w := newWorld(t)
	ctx := actor.With(t.Context(), "root@pam", "")
	var kept *drafts.Kept
	if err := w.cluster.Drafts().Make(ctx, func(ctx context.Context, on *ledger.Client) error {
		return ledger.NewAccounts(on).Update(ctx, func(s *access.State) error {
			s.Users = append(s.Users, access.User{ID: "new@pbs"})
			return nil
		})
	}); !errors.As(err, &kept) {
		t.Fatal(err)
	}
	self, err := authority.ParseNodeID(w.cluster.Self())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cluster.Guard().Block("op", guard.Block{What: cluster.BlockOf(self)}); err != nil {
		t.Fatal(err)
	}
	var list []Draft
	if err := w.call("GET", "/drafts", nil, &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || list[0].State != "not applied" || !strings.Contains(list[0].Why, "was removed") {
		t.Errorf("%+v", list)
	}
	if warn := Drafted(w.cluster.Undecided(), "n3"); len(warn) != 1 || !strings.Contains(warn[0].Text, "is not applied: this node was removed") {
		t.Errorf("%+v", warn)
	}
	var hint interface{ Hint() string }
	if err := w.call("POST", "/drafts", nil, nil); err == nil || !strings.Contains(err.Error(), "was removed") {
		t.Errorf("submitted: %v", err)
	}
	if err := w.cluster.Drafts().Submit(t.Context()); !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "join it again") {
		t.Errorf("submitted: %v, without a hint", err)
	}
	if len(w.cluster.Drafts().List()) != 1 || !w.cluster.Drafts().Waiting() {
		t.Error("the draft is gone, which its owner may still look at")
	}
}

// Six drafts were six warnings of status, and what else was wrong came after them, and was
// not shown.
func TestOneWarningForAllDrafts(t *testing.T) {
	d := func(n uint64, why string) drafts.Draft {
		return drafts.Draft{Number: n, Actor: "root@pam", Made: 1795867200, Why: why}
	}
	for _, tt := range []struct {
		list []drafts.Draft
		want []string
	}{
		{nil, nil},
		{[]drafts.Draft{d(7, "")}, []string{"draft 7 of root@pam waits for a quorum"}},
		{[]drafts.Draft{d(2, ""), d(3, ""), d(4, "it was changed"), d(5, "")}, []string{
			"3 drafts wait for a quorum; the oldest, draft 2 of root@pam, since 2026-11-28 12:00:00", "draft 4 of root@pam is not applied: it was changed",
		}},
		{[]drafts.Draft{d(4, "it was changed"), d(5, "x")}, []string{"2 drafts are not applied; the oldest, draft 4 of root@pam: it was changed"}},
	} {
		var got []string
		for _, w := range Drafted(tt.list, "n3") {
			got = append(got, w.Text)
		}
		if strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
		}
	}
}
