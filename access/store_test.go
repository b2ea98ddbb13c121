package access

import (
	"github.com/holdfast-mesh/holdfast/access/statefile"

	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/access/factor"
	"github.com/holdfast-mesh/holdfast/access/ticket"
)

var fuzzKey = ticket.NewKey()

// A fixedStore never changes.
type fixedStore struct{ state *State }

func (s fixedStore) State() *State { return s.state }

func (s fixedStore) Update(context.Context, func(*State) error) error {
	return errors.New("this store never changes")
}

func TestStateSurvivesARestart(t *testing.T) {
	s, store := newService(t)
	addUsers(t, s, "a@pbs")
	secret := addToken(t, s, "a@pbs!tok")
	setACL(t, s, "/datastore a@pbs!tok DatastoreBackup", "/datastore a@pbs DatastoreAdmin")
	totp := factor.NewSecret()
	if _, err := s.SetTOTP(t.Context(), "a@pbs", totp, code(t, totp, time.Now())); err != nil {
		t.Fatal(err)
	}
	again, err := OpenFile(store.Path())
	if err != nil {
		t.Fatal(err)
	}
	want, _ := stateFile.Encode(store.State())
	got, _ := stateFile.Encode(again.State())
	if string(got) != string(want) {
		t.Errorf("read %s\nwrote %s", got, want)
	}
	s2, err := New(Config{Store: again, Key: s.key})
	if err != nil {
		t.Fatal(err)
	}
	if id, err := s2.Check(t.Context(), Credentials{Authorization: "PBSAPIToken a@pbs!tok:" + secret}); err != nil || id != "a@pbs!tok" {
		t.Errorf("%s, %v", id, err)
	}
	text, err := os.ReadFile(store.Path())
	if err != nil || strings.Contains(string(text), secret) || strings.Contains(string(text), goodPassword) {
		t.Errorf("the file shows a secret, or %v", err)
	}
	info, err := os.Stat(store.Path())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(filepath.Dir(store.Path()))
	if err != nil || len(entries) != 1 {
		t.Errorf("files left: %v, %v", entries, err)
	}
}

func TestNewStateHasRootAndNoFile(t *testing.T) {
	s, store := newService(t)
	if u := s.Users(Root); len(u) != 1 || u[0].ID != Root {
		t.Errorf("%+v", u)
	}
	if _, err := os.Stat(store.Path()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestOpenFileRefuses(t *testing.T) {
	const users = `"users":[{"userid":"root@pam"}`
	tests := []struct{ name, text, want string }{
		{"nothing", ``, "unexpected end"},
		{"half a file", `{"version":1,` + users, "unexpected end"},
		{"no version", `{` + users + `]}`, "no format version"},
		{"null", `null`, "no format version"},
		{"a newer version", `{"version":2,` + users + `]}`, "format 2"},
		{"an unknown field", `{"version":1,` + users + `],"groups":[]}`, "groups"},
		{"an unknown field of a user", `{"version":1,` + users + `,{"userid":"a@pbs","shell":"sh"}]}`, "shell"},
		{"something behind", `{"version":1,` + users + `]} {}`, "after top-level value"},
		{"no root@pam", `{"version":1,"users":[]}`, "missing"},
		{"a user twice", `{"version":1,` + users + `,{"userid":"root@pam"}]}`, "twice"},
		{"a user of no realm", `{"version":1,` + users + `,{"userid":"a"}]}`, "no realm"},
		{"a user of an unknown realm", `{"version":1,` + users + `,{"userid":"a@ldap"}]}`, "no realm 'ldap'"},
		{"another user of pam", `{"version":1,` + users + `,{"userid":"a@pam"}]}`, "no user but root@pam"},
		{"a token among users", `{"version":1,` + users + `,{"userid":"root@pam!tok"}]}`, "not a user"},
		{"root@pam disabled", `{"version":1,"users":[{"userid":"root@pam","disabled":true}]}`, "neither disabled"},
		{"a token without a user", `{"version":1,` + users + `],"tokens":[{"tokenid":"a@pbs!tok"}]}`, "has no user"},
		{"a user among tokens", `{"version":1,` + users + `],"tokens":[{"tokenid":"root@pam"}]}`, "not a token"},
		{"an unknown role", `{"version":1,` + users + `],"acl":[{"path":"/","auth-id":"root@pam","role":"Nope"}]}`, "Nope"},
		{"an unknown path", `{"version":1,` + users + `],"acl":[{"path":"/x","auth-id":"root@pam","role":"Admin"}]}`, "/x"},
		{"a path of another spelling", `{"version":1,` + users + `],"acl":[{"path":"/access/","auth-id":"root@pam","role":"Admin"}]}`, "written /access"},
		{"an entry of nobody", `{"version":1,` + users + `],"acl":[{"path":"/","auth-id":"a@pbs","role":"Admin"}]}`, "no user or token"},
		{"an entry twice", `{"version":1,` + users + `],"acl":[{"path":"/","auth-id":"root@pam","role":"Admin"},{"path":"/","auth-id":"root@pam","role":"Admin","propagate":true}]}`, "twice"},
		{"a password of nobody", `{"version":1,` + users + `],"passwords":{"a@pbs":{"hash":"x"}}}`, "no user"},
		{"a password of root@pam", `{"version":1,` + users + `],"passwords":{"root@pam":{"hash":"x"}}}`, "no user of realm pbs"},
		{"a password in another form", `{"version":1,` + users + `,{"userid":"a@pbs"}],"passwords":{"a@pbs":{"hash":"$5$x"}}}`, "argon2id"},
		{"a sum of nobody", `{"version":1,` + users + `],"token-sums":{"root@pam!tok":""}}`, "malformed"},
		{"a second factor of nobody", `{"version":1,` + users + `],"second-factors":{"a@pbs":{}}}`, "no user"},
		{"a second factor without a secret", `{"version":1,` + users + `],"second-factors":{"root@pam":{}}}`, "0 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "accounts.json")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := OpenFile(path)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestFileThatOthersMayReadIsRefused(t *testing.T) {
	s, store := newService(t)
	addUsers(t, s, "a@pbs")
	if err := os.Chmod(store.Path(), 0o640); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"open":   func() error { _, err := OpenFile(store.Path()); return err }(),
		"change": s.AddUser(t.Context(), User{ID: "b@pbs"}, ""),
	} {
		var hinted interface{ Hint() string }
		if !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "chmod 600") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFileChangedBehindOurBackIsNotOverwritten(t *testing.T) {
	s, store := newService(t)
	addUsers(t, s, "a@pbs")
	edited := newState()
	edited.Users = append(edited.Users, User{ID: "edited@pbs"})
	text, err := stateFile.Encode(edited)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(store.Path(), text, 0o600); err != nil {
		t.Fatal(err)
	}
	err = s.AddUser(t.Context(), User{ID: "b@pbs"}, "")
	if err == nil || !strings.Contains(err.Error(), "another program") {
		t.Fatalf("%v", err)
	}
	if found, err := os.ReadFile(store.Path()); err != nil || string(found) != string(text) {
		t.Fatalf("%s, %v", found, err)
	}
	if err := store.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := s.AddUser(t.Context(), User{ID: "b@pbs"}, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := s.User("edited@pbs"); err != nil {
		t.Error(err)
	}
}

func TestReloadOfADamagedFileKeepsTheState(t *testing.T) {
	s, store := newService(t)
	addUsers(t, s, "a@pbs")
	if err := os.WriteFile(store.Path(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := store.Reload(); err == nil {
		t.Fatal("it was read")
	}
	if _, err := s.User("a@pbs"); err != nil {
		t.Error(err)
	}
}

func TestFileThatIsGoneIsNotMadeAnew(t *testing.T) {
	s, store := newService(t)
	addUsers(t, s, "a@pbs")
	before := store.State()
	if err := os.Rename(store.Path(), store.Path()+".away"); err != nil {
		t.Fatal(err)
	}
	err := s.AddUser(t.Context(), User{ID: "b@pbs"}, "")
	if err == nil || !strings.Contains(err.Error(), "gone") || store.State() != before {
		t.Errorf("%v", err)
	}
	if err := os.Rename(store.Path()+".away", store.Path()); err != nil {
		t.Fatal(err)
	}
	if err := s.AddUser(t.Context(), User{ID: "b@pbs"}, ""); err != nil {
		t.Errorf("when it is back: %v", err)
	}
}

// The name is short enough for the file, but not for what is written first.
func TestWhatCannotBeWrittenDidNotHappen(t *testing.T) {
	store, err := OpenFile(filepath.Join(t.TempDir(), strings.Repeat("a", 250)))
	if err != nil {
		t.Fatal(err)
	}
	before := store.State()
	err = store.Update(t.Context(), func(s *State) error {
		s.Users[0].Comment = "changed"
		return nil
	})
	if !errors.Is(err, syscall.ENAMETOOLONG) || store.State() != before || before.Users[0].Comment == "changed" {
		t.Errorf("%v, %+v", err, store.State().Users)
	}
	if _, err := OpenKey(store.Path()); !errors.Is(err, syscall.ENAMETOOLONG) {
		t.Errorf("key: %v", err)
	}
}

func TestWhatACrashLeftIsRemoved(t *testing.T) {
	_, store := newService(t)
	left := filepath.Join(filepath.Dir(store.Path()), "."+filepath.Base(store.Path())+".tmp-123")
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFile(store.Path()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestBrokenStatesAreNotStored(t *testing.T) {
	_, store := newService(t)
	err := store.Update(t.Context(), func(s *State) error {
		s.ACL = append(s.ACL, ACLEntry{Path: "/", ID: "ghost@pbs", Role: "Admin"})
		return nil
	})
	if err == nil || len(store.State().ACL) != 0 {
		t.Errorf("%v, %+v", err, store.State().ACL)
	}
	own := errors.New("my own")
	if err := store.Update(t.Context(), func(*State) error { return own }); err != own {
		t.Errorf("%v", err)
	}
}

func TestUpdateWithoutAChangeWritesNothing(t *testing.T) {
	s, store := newService(t)
	addUsers(t, s, "a@pbs")
	before, state := stat(t, store.Path()), store.State()
	if err := store.Update(t.Context(), func(*State) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, stat(t, store.Path())) || store.State() != state {
		t.Error("the file or the state was replaced")
	}
}

func stat(t *testing.T, path string) os.FileInfo {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// Questions are answered while accounts change, each from one state.
func TestReadersAndWritersAtOnce(t *testing.T) {
	s, store := newService(t)
	for _, id := range []AuthID{"a@pbs", "b@pbs"} {
		if err := s.AddUser(t.Context(), User{ID: id}, ""); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var readers, writers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for ctx.Err() == nil {
				// Admin is given first and stays, so there is nothing between.
				for _, p := range []Privilege{s.Privileges("a@pbs", "datastore"), s.AnyBelow("b@pbs", "datastore")} {
					if p != 0 && p != AllPrivileges {
						t.Errorf("%s", p)
					}
				}
			}
		})
	}
	for _, id := range []AuthID{"a@pbs", "b@pbs"} {
		writers.Go(func() {
			for i := range 20 {
				c := ACLChange{ACLEntry: ACLEntry{Path: "/datastore", ID: id, Role: roles[i%3].ID, Propagate: true}}
				if err := s.ChangeACL(t.Context(), Root, c); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	cancel()
	readers.Wait()
	if n := len(store.State().ACL); n != 2*3 {
		t.Errorf("%d entries: %+v", n, store.State().ACL)
	}
}

func TestCloneSharesNothing(t *testing.T) {
	s := newState()
	s.Users = append(s.Users, User{ID: "a@pbs"})
	s.ACL = append(s.ACL, ACLEntry{Path: "/", ID: "a@pbs", Role: "Audit"})
	s.SecondFactors["a@pbs"] = factor.Factor{Secret: make([]byte, 20), Recovery: []string{"x"}}
	before, _ := json.Marshal(s)
	c := s.Clone()
	c.Users[0].Comment, c.ACL[0].Role = "changed", "Admin"
	c.SecondFactors["a@pbs"].Recovery[0] = "changed"
	c.Passwords["a@pbs"], c.TokenSums["a@pbs!tok"] = Password{}, "changed"
	if after, _ := json.Marshal(s); string(after) != string(before) {
		t.Errorf("%s, was %s", after, before)
	}
}

func TestOpenKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ticket.key")
	k, err := OpenKey(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenKey(path)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if again.Sign(ticket.Claim{Data: "a@pbs"}, "a@pbs", now) != k.Sign(ticket.Claim{Data: "a@pbs"}, "a@pbs", now) {
		t.Error("tickets do not survive a restart")
	}
	if mode := stat(t, path).Mode().Perm(); mode != 0o600 {
		t.Errorf("mode %v", mode)
	}
	if err := os.WriteFile(path, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = OpenKey(path)
	var hinted interface{ Hint() string }
	if !errors.As(err, &hinted) || hinted.Hint() == "" || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err = OpenKey(path); !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "chmod 600") {
		t.Errorf("%v", err)
	}
	if _, err := OpenKey(filepath.Join(path, "x")); err == nil {
		t.Error("a key in a file")
	}
}

// Two nodes that start at once in one directory agree on the key of the first.
func TestKeyIsNotOverwritten(t *testing.T) {
	shared := filepath.Join(t.TempDir(), "shared.key")
	first, err := makeKey(shared)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := makeKey(shared); err != nil || !slices.Equal(first, second) {
		t.Errorf("the second is another: %v", err)
	}
	path := filepath.Join(t.TempDir(), "ticket.key")
	if _, err := statefile.WriteSecret(path, []byte("first"), false); err != nil {
		t.Fatal(err)
	}
	if placed, err := statefile.WriteSecret(path, []byte("second"), false); placed || !errors.Is(err, os.ErrExist) {
		t.Errorf("placed %v, %v", placed, err)
	}
	if text, err := statefile.ReadSecret(path, 5); err != nil || string(text) != "first" {
		t.Errorf("%s, %v", text, err)
	}
	if _, err := statefile.ReadSecret(path, 4); err == nil || !strings.Contains(err.Error(), "more than 4 bytes") {
		t.Errorf("%v", err)
	}
}

func TestPasswordHash(t *testing.T) {
	p := newPassword(goodPassword, time.Unix(7, 0))
	if !strings.HasPrefix(p.Hash, "$argon2id$v=19$m=19456,t=2,p=1$") || p.Since != 7 {
		t.Errorf("%+v", p)
	}
	if p.Hash == newPassword(goodPassword, time.Unix(7, 0)).Hash {
		t.Error("the salt is always the same")
	}
	if !p.matches(goodPassword) || p.matches("") || p.matches(goodPassword+"x") {
		t.Error("it matches what it should not")
	}
	for _, hash := range []string{
		"", "$argon2id$v=19$m=19456,t=2,p=1$AAAA", "$argon2i$v=19$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=16$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=4294967295,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=64,t=0,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=64,t=1,p=0$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=64,t=1,p=1$AAAA$AAAAAAAAAAAAAAAAAAAAAA", "$argon2id$v=19$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAA",
	} {
		if (Password{Hash: hash}).matches("") {
			t.Errorf("%q matches", hash)
		}
		if _, err := parseHash(hash); err == nil {
			t.Errorf("%q was read", hash)
		}
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id$v=19$m=+1,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parseHash(s)
		if err == nil && (h.String() != s || h.memory > maxHashMemory || h.passes > maxHashPasses) {
			t.Errorf("%q is written as %q", s, h)
		}
	})
}

// What a file may hold either is refused or comes back as it was.
func FuzzDecodeState(f *testing.F) {
	s := newState()
	s.Users = append(s.Users, User{ID: "a@pbs", Comment: "x", Expire: 7})
	s.Tokens = append(s.Tokens, Token{ID: "a@pbs!tok"})
	s.ACL = append(s.ACL, ACLEntry{Path: "/datastore", ID: "a@pbs!tok", Role: "Audit", Propagate: true})
	text, err := stateFile.Encode(s)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"version":1,"users":null}`))
	f.Add([]byte(`{"version":1,"users":[{"userid":"root@pam"}],"second-factors":{"root@pam":{"totp-secret":"AAAAAAAAAAAAAAAAAAAA"}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := stateFile.Decode(text)
		if err != nil {
			return
		}
		v := newView(s)
		for _, u := range s.Users {
			v.anyBelow(u.ID, "/")
		}
		out, err := stateFile.Encode(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := stateFile.Decode(out)
		if err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if back, _ := stateFile.Encode(again); !slices.Equal(back, out) {
			t.Errorf("%s\ncame back as\n%s", out, back)
		}
	})
}
