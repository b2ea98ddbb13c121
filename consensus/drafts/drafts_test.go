package drafts

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/consensus/actor"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
)

var errAway = errors.New("no quorum")

// A world is the ledger of a cluster, and a node that has a quorum or not.
type world struct {
	t       *testing.T
	l       *ledger.Ledger
	key     ed25519.PrivateKey
	index   uint64
	away    bool
	lost    bool // answers of the leader
	rights  string
	file    string
	applied int
	busy    func() // is called before a command of a draft arrives
	*Drafts
}

func newWorld(t *testing.T) *world {
	w := emptyWorld(t)
	w.elsewhere(comment("root@pam", "r"))
	return w
}

// emptyWorld is one in which nobody has changed accounts.
func emptyWorld(t *testing.T) *world {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{10}, 32))
	w := &world{t: t, l: ledger.New(nil), key: key, rights: "all", file: filepath.Join(t.TempDir(), "drafts.json")}
	self := authority.PublicKey(key)
	give := func(link []byte) {
		if _, err := w.client().Do(t.Context(), "node", "", ledger.KindAuthority, ledger.Link{Link: link}); err != nil {
			t.Fatal(err)
		}
	}
	give(authority.Found(authority.GenesisBody{Cluster: [16]byte{7}, Operators: []authority.Key{self}, Threshold: 1}, key))
	chain := w.l.View().Chain()
	give(chain.Sign(chain.Draft(authority.AddNode, authority.Node{Key: self, Name: "home", Site: "home", Role: "full", Votes: true}), key))
	w.reboot()
	return w
}

func (w *world) reboot() {
	var err error
	w.Drafts, err = New(Config{
		File: w.file, Key: w.key, Ledger: w.l, Rights: func(string) string { return w.rights }, Applied: func() error { w.applied++; return nil },
		Submit: func(_ context.Context, b []byte) ([]byte, error) { return w.submitted(b) },
		Fresh: func(context.Context) error {
			if w.away {
				return errAway
			}
			return nil
		},
		Check: func(l *ledger.Ledger) error { return ledger.NewAccounts(&ledger.Client{Ledger: l}).State().Check() },
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) submitted(b []byte) ([]byte, error) {
	if w.away {
		return nil, errAway
	}
	if busy := w.busy; busy != nil {
		w.busy = nil // not for its own
		busy()
		w.busy = busy
	}
	w.index++
	answer, err := w.l.Apply(w.index, time.Unix(int64(w.index), 0), b)
	if w.lost {
		return nil, errAway
	}
	return answer, err
}

func (w *world) client() *ledger.Client {
	return &ledger.Client{Key: w.key, Ledger: w.l, Submit: func(_ context.Context, b []byte) ([]byte, error) { return w.submitted(b) }}
}

// elsewhere changes the accounts at another site.
func (w *world) elsewhere(change func(*access.State)) {
	w.t.Helper()
	was := w.away
	w.away = false
	err := ledger.NewAccounts(w.client()).Update(w.t.Context(), func(s *access.State) error { change(s); return nil })
	if w.away = was; err != nil {
		w.t.Fatal(err)
	}
}

// make makes a draft, and returns its number.
func (w *world) make(change func(*access.State)) uint64 {
	w.t.Helper()
	err := w.tryMake(func(s *access.State) error { change(s); return nil })
	var kept *Kept
	if !errors.As(err, &kept) || kept.Hint() == "" {
		w.t.Fatalf("it is no draft: %v", err)
	}
	return kept.Number
}

func (w *world) tryMake(change func(*access.State) error) error {
	return w.Make(actor.With(w.t.Context(), "op@pbs", ""), func(ctx context.Context, on *ledger.Client) error {
		return ledger.NewAccounts(on).Update(ctx, change)
	})
}

func (w *world) users() string {
	var all []string
	for _, u := range ledger.NewAccounts(w.client()).State().Users {
		all = append(all, string(u.ID)+"="+u.Comment)
	}
	return strings.Join(all, " ")
}

func (w *world) acl() []access.ACLEntry { return ledger.NewAccounts(w.client()).State().ACL }

func add(id access.AuthID) func(*access.State) {
	return func(s *access.State) { s.Users = append(s.Users, access.User{ID: id}) }
}

func comment(id access.AuthID, text string) func(*access.State) {
	return func(s *access.State) {
		for i := range s.Users {
			if s.Users[i].ID == id {
				s.Users[i].Comment = text
			}
		}
	}
}

// What is decided without a quorum changes nothing, survives a reboot, and is
// applied in its order when there is one, one change on top of the other.
func TestDrafts(t *testing.T) {
	w := newWorld(t)
	w.away = true
	w.make(add("a@pbs"))
	w.make(comment("a@pbs", "one"))
	w.make(func(s *access.State) {
		s.ACL = append(s.ACL, access.ACLEntry{Path: "/", ID: "a@pbs", Role: "Audit", Propagate: true})
	})
	if got := w.users(); got != "root@pam=r" {
		t.Errorf("a draft is in force: %s", got)
	}
	if err := w.tryMake(func(s *access.State) error { return nil }); err != nil || len(w.List()) != 3 {
		t.Errorf("nothing is changed, and: %v, %d drafts", err, len(w.List()))
	}
	if err := w.Submit(t.Context()); !errors.Is(err, errAway) || !w.Waiting() {
		t.Errorf("submitted without a quorum: %v", err)
	}
	if d := w.List()[0]; d.Actor != "op@pbs" || d.Subject() != "users/a@pbs" || d.Made == 0 {
		t.Errorf("%+v, about %s", d, d.Subject())
	}
	w.reboot()
	w.elsewhere(add("b@pbs")) // which is no conflict
	w.away = false
	if err := w.Submit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.users(); got != "a@pbs=one b@pbs= root@pam=r" || len(w.List()) != 0 || w.applied != 1 {
		t.Errorf("%s, and drafts %+v, %d times told", got, w.List(), w.applied)
	}
	if s := ledger.NewAccounts(w.client()).State(); len(s.ACL) != 1 || s.Check() != nil {
		t.Errorf("%+v", s)
	}
}

// A draft is refused at once for what any change is refused for.
func TestRefused(t *testing.T) {
	w := newWorld(t)
	wrong := errors.New("there is no such user")
	if err := w.tryMake(func(*access.State) error { return wrong }); !errors.Is(err, wrong) {
		t.Errorf("%v", err)
	}
	w.away = true
	w.make(add("a@pbs"))
	var hinted interface{ Hint() string }
	if err := w.tryMake(func(*access.State) error { return wrong }); !errors.Is(err, wrong) || !errors.As(err, &hinted) {
		t.Errorf("it does not say that there are drafts: %v", err)
	}
	if err := w.tryMake(func(s *access.State) error { s.Users = nil; return nil }); err == nil || len(w.List()) != 1 {
		t.Errorf("a state that is not valid is a draft: %v", err)
	}
	if err := w.Make(t.Context(), func(ctx context.Context, on *ledger.Client) error {
		_, err := on.Do(ctx, "op@pbs", "", ledger.KindLevel, ledger.RaiseLevel{Level: 2})
		return err
	}); err == nil || len(w.List()) != 1 {
		t.Errorf("what is no change is a draft: %v", err)
	}
}

// Rights for a user whom a draft would have made are not given to another of that name,
// whom somebody else has made meanwhile: they once were, and a stranger had them.
func TestRightsOfAnother(t *testing.T) {
	grant := func(s *access.State) {
		s.ACL = append(s.ACL, access.ACLEntry{Path: "/", ID: "a@pbs", Role: "Admin", Propagate: true})
	}
	for name, discard := range map[string]bool{"conflict": false, "discarded": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.away = true
			w.make(add("a@pbs"))
			w.make(grant)
			w.make(add("b@pbs"))
			w.elsewhere(func(s *access.State) { s.Users = append(s.Users, access.User{ID: "a@pbs", Comment: "theirs"}) })
			if discard {
				if err := w.Discard(t.Context(), w.List()[0].Number); err != nil {
					t.Fatal(err)
				}
			}
			w.away = false
			if err := w.Submit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := w.users(); got != "a@pbs=theirs b@pbs= root@pam=r" {
				t.Errorf("users are %s", got)
			}
			if acl := w.acl(); len(acl) != 0 {
				t.Errorf("a stranger has %v", acl)
			}
			list := w.List()
			if last := list[len(list)-1]; !strings.Contains(last.Why, "about the user a@pbs of draft 1") {
				t.Errorf("left are %+v", list)
			}
		})
	}
}

// What somebody else has changed in the meantime is not overwritten: the draft
// stays, with the reason, and so do those on top of it; others are applied.
func TestConflicts(t *testing.T) {
	for _, tt := range []struct {
		name      string
		meanwhile func(w *world)
		want      string // users
		why       string // of the first draft
		left      int
	}{
		{"nothing", func(*world) {}, "a@pbs=two c@pbs= root@pam=r", "", 0},
		{"the same user was changed", func(w *world) { w.elsewhere(comment("a@pbs", "theirs")) }, "a@pbs=theirs c@pbs= root@pam=r", "changed", 2},
		{"the user was removed", func(w *world) {
			w.elsewhere(func(s *access.State) { s.Users = s.Users[1:] })
		}, "c@pbs= root@pam=r", "not there", 2},
		{"its author may do less", func(w *world) { w.rights = "less" }, "a@pbs= root@pam=r", "may do was changed", 3},
		{"its author is gone", func(w *world) { w.rights = "" }, "a@pbs= root@pam=r", "may do was changed", 3},
		{"it was discarded", func(w *world) {
			if err := w.Discard(w.t.Context(), w.List()[0].Number); err != nil {
				w.t.Error(err)
			}
		}, "a@pbs= c@pbs= root@pam=r", "on top of a draft", 1},
		{"together they are wrong", func(w *world) {
			w.elsewhere(func(s *access.State) { s.Users = append(s.Users, access.User{ID: "c@pbs", Comment: "theirs"}) })
		}, "a@pbs=two c@pbs=theirs root@pam=r", "there already", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.elsewhere(add("a@pbs"))
			w.away = true
			w.make(comment("a@pbs", "one"))
			w.make(comment("a@pbs", "two"))
			w.make(add("c@pbs"))
			tt.meanwhile(w)
			w.away = false
			if err := w.Submit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := w.users(); got != tt.want {
				t.Errorf("users are %s, want %s", got, tt.want)
			}
			list := w.List()
			if len(list) != tt.left || tt.left > 0 && !strings.Contains(list[0].Why, tt.why) {
				t.Errorf("left are %+v, want %d, the first with %q", list, tt.left, tt.why)
			}
			w.rights = "all"
			before := w.index
			if err := w.Submit(t.Context()); err != nil || w.index != before {
				t.Errorf("what is not applied is submitted again: %v", err)
			}
		})
	}
}

// Rows that nobody else has changed can be wrong together with what was changed.
func TestWrongTogether(t *testing.T) {
	w := newWorld(t)
	w.elsewhere(add("a@pbs"))
	w.away = true
	w.make(func(s *access.State) { s.Tokens = append(s.Tokens, access.Token{ID: "a@pbs!pve"}) })
	w.elsewhere(func(s *access.State) { s.Users = s.Users[1:] })
	w.away = false
	if err := w.Submit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := ledger.NewAccounts(w.client()).State(); len(s.Tokens) != 0 || s.Check() != nil {
		t.Errorf("a token of nobody: %+v", s.Tokens)
	}
	if list := w.List(); len(list) != 1 || !strings.Contains(list[0].Why, "with what was changed since") {
		t.Errorf("left are %+v", list)
	}
}

// That the answer of the leader is lost does not apply a draft twice.
func TestAnswerIsLost(t *testing.T) {
	w := newWorld(t)
	w.away = true
	w.make(add("a@pbs"))
	w.make(comment("a@pbs", "one"))
	w.away, w.lost = false, true
	if err := w.Submit(t.Context()); !errors.Is(err, errAway) || len(w.List()) != 2 {
		t.Errorf("%v, %d drafts", err, len(w.List()))
	}
	w.lost = false
	if err := w.Submit(t.Context()); err != nil || w.users() != "a@pbs=one root@pam=r" || len(w.List()) != 0 {
		t.Errorf("%v, users %s, drafts %+v", err, w.users(), w.List())
	}
}

// Not even a node that its cluster was recovered without loses its drafts.
func TestAnotherIncarnation(t *testing.T) {
	w := newWorld(t)
	w.away = true
	w.make(add("a@pbs"))
	w.away = false
	chain := w.l.View().Chain()
	link := chain.Sign(chain.Draft(authority.Recover, authority.Recovery{Incarnation: 2, Base: authority.PublicKey(w.key), Reason: "x"}), w.key)
	if _, err := w.client().Do(t.Context(), "node", "", ledger.KindAuthority, ledger.Link{Link: link}); err != nil {
		t.Fatal(err)
	}
	if err := w.Submit(t.Context()); err != nil || w.users() != "a@pbs= root@pam=r" {
		t.Errorf("%v, users %s, drafts %+v", err, w.users(), w.List())
	}
}

// A change waited in an election, became a draft, and its author made it again with
// success: the draft was "not applied" for ever, though there was nothing to do.
func TestFulfilled(t *testing.T) {
	w := newWorld(t)
	w.away = true
	w.make(add("a@pbs"))
	w.make(comment("root@pam", "mine"))
	w.elsewhere(add("a@pbs")) // made again
	w.elsewhere(comment("root@pam", "theirs"))
	w.away = false
	if err := w.Submit(t.Context()); err != nil {
		t.Fatal(err)
	}
	list := w.List()
	if len(list) != 1 || list[0].Subject() != "users/root@pam" || list[0].Why == "" {
		t.Errorf("%+v", list)
	}
	w.elsewhere(comment("root@pam", "mine")) // it did not fit, and is wanted still
	if err := w.Submit(t.Context()); err != nil || len(w.List()) != 0 {
		t.Errorf("%v, %+v", err, w.List())
	}
	w.away = true
	w.make(func(s *access.State) {
		s.Users = slices.DeleteFunc(s.Users, func(u access.User) bool { return u.ID == "a@pbs" })
	})
	w.elsewhere(func(s *access.State) {
		s.Users = slices.DeleteFunc(s.Users, func(u access.User) bool { return u.ID == "a@pbs" })
	})
	w.make(add("b@pbs"))
	w.make(comment("b@pbs", "on top"))
	w.elsewhere(add("b@pbs"))
	w.away = false
	if err := w.Submit(t.Context()); err != nil || len(w.List()) != 0 || w.users() != "b@pbs=on top root@pam=mine" {
		t.Errorf("%v, %+v, %s", err, w.List(), w.users())
	}
}

// A draft that was submitted in the moment in which others changed accounts was "changed
// by somebody else", though nobody had touched what it wants: it was tried again as the
// request that had been answered before.
func TestDraftWaitsForAQuietMoment(t *testing.T) {
	w := newWorld(t)
	w.away = true
	w.make(add("ops@pbs"))
	w.away = false
	n := 0
	w.busy = func() {
		n++
		w.elsewhere(comment("root@pam", strings.Repeat("x", n)))
	}
	if err := w.Submit(t.Context()); err == nil || !w.Waiting() {
		t.Errorf("%v, drafts: %+v", err, w.List())
	}
	w.busy = nil
	if err := w.Submit(t.Context()); err != nil || w.Waiting() || len(w.List()) != 0 {
		t.Errorf("%v, drafts: %+v", err, w.List())
	}
	if got := w.users(); !strings.Contains(got, "ops@pbs") {
		t.Error(got)
	}
}

// The first change of accounts makes root@pam, too. When another node had made the
// first one meanwhile, the draft was refused: "users/root@pam: it is there already".
func TestTwoFirstUsers(t *testing.T) {
	w := emptyWorld(t)
	w.away = true
	w.make(add("ops@pbs"))
	w.away = false
	w.elsewhere(add("other@pbs"))
	if err := w.Submit(t.Context()); err != nil || len(w.List()) != 0 {
		t.Errorf("%v, drafts: %+v", err, w.List())
	}
	if got := w.users(); !strings.Contains(got, "ops@pbs") || !strings.Contains(got, "other@pbs") {
		t.Error(got)
	}
}
