package access

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestAddUser(t *testing.T) {
	s, _ := newService(t)
	u := User{ID: "a@pbs", Comment: "who", FirstName: "A", LastName: "B", Email: "a@example.com", Expire: 4e9}
	if err := s.AddUser(t.Context(), u, goodPassword); err != nil {
		t.Fatal(err)
	}
	if got, err := s.User("a@pbs"); err != nil || got != u {
		t.Errorf("%+v, %v", got, err)
	}
	wantRefusal(t, "again", s.AddUser(t.Context(), u, ""), ErrExists, "user 'a@pbs' already exists.")
	for _, tt := range []struct {
		name, param string
		u           User
		password    string
	}{
		{"a short password", "password", User{ID: "b@pbs"}, "1234567"},
		{"a password of a megabyte", "password", User{ID: "b@pbs"}, strings.Repeat("x", 1<<20)},
		{"a password that is not UTF-8", "password", User{ID: "b@pbs"}, "12345678\xff"},
		{"a long comment", "comment", User{ID: "b@pbs", Comment: strings.Repeat("ä", 129)}, ""},
		{"a comment of two lines", "comment", User{ID: "b@pbs", Comment: "a\nb"}, ""},
		{"a long name", "firstname", User{ID: "b@pbs", FirstName: strings.Repeat("ä", 65)}, ""},
		{"a time before 1970", "expire", User{ID: "b@pbs", Expire: -1}, ""},
		{"a token", "userid", User{ID: "b@pbs!tok"}, ""},
		{"a user of pam", "userid", User{ID: "b@pam"}, ""},
		{"an unknown realm", "userid", User{ID: "b@ldap"}, ""},
		{"no realm", "", User{ID: "b"}, ""},
	} {
		err := s.AddUser(t.Context(), tt.u, tt.password)
		if refusal := (*Error)(nil); !errors.As(err, &refusal) || refusal.Kind != ErrInvalid || refusal.Param != tt.param {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if n := len(s.Users(Root)); n != 2 {
		t.Errorf("%d users", n)
	}
}

func TestChangeUser(t *testing.T) {
	s, _ := newService(t)
	addUsers(t, s, "a@pbs")
	no, yes, comment, empty, expire := false, true, "hello", "", int64(4e9)
	change := func(c UserChange) User {
		t.Helper()
		if err := s.ChangeUser(t.Context(), "a@pbs", c); err != nil {
			t.Fatal(err)
		}
		u, err := s.User("a@pbs")
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	if u := change(UserChange{Comment: &comment, Enable: &no, Expire: &expire}); u != (User{ID: "a@pbs", Comment: comment, Disabled: true, Expire: expire}) {
		t.Errorf("%+v", u)
	}
	if u := change(UserChange{Enable: &yes}); u != (User{ID: "a@pbs", Comment: comment, Expire: expire}) {
		t.Errorf("%+v", u)
	}
	if u := change(UserChange{Comment: &empty, Email: &comment, LastName: &comment, FirstName: &comment}); u.Comment != "" || u.Email != comment || u.FirstName != comment || u.LastName != comment {
		t.Errorf("%+v", u)
	}
	wantRefusal(t, "an unknown user", s.ChangeUser(t.Context(), "ghost@pbs", UserChange{}), ErrNotFound, "no such user 'ghost@pbs'")
	if err := s.ChangeUser(t.Context(), Root, UserChange{Enable: &no}); !errors.Is(err, ErrInvalid) || !s.Active(Root) {
		t.Errorf("root@pam was disabled: %v", err)
	}
}

func TestRemovedUserLeavesNothing(t *testing.T) {
	s, store := newService(t)
	addUsers(t, s, "a@pbs", "aa@pbs")
	addToken(t, s, "a@pbs!tok")
	addToken(t, s, "aa@pbs!tok")
	setACL(t, s, "/ a@pbs Admin", "/datastore a@pbs!tok Admin", "/ aa@pbs Audit")
	if err := s.RemoveUser(t.Context(), "a@pbs", ""); err != nil {
		t.Fatal(err)
	}
	text, err := stateFile.Encode(store.State())
	if err != nil || strings.Contains(string(text), `"a@pbs`) {
		t.Errorf("%s, %v", text, err)
	}
	if _, err := s.Token("aa@pbs!tok"); err != nil || s.Privileges("aa@pbs") == 0 {
		t.Errorf("another user was hit: %v", err)
	}
	wantRefusal(t, "again", s.RemoveUser(t.Context(), "a@pbs", ""), ErrNotFound, "user 'a@pbs' does not exist.")
	if err := s.RemoveUser(t.Context(), Root, ""); !errors.Is(err, ErrInvalid) {
		t.Errorf("root@pam was removed: %v", err)
	}
}

func TestSetPasswordRefuses(t *testing.T) {
	s, _ := newService(t)
	addUsers(t, s, "a@pbs")
	for _, tt := range []struct {
		name     string
		id       AuthID
		password string
		kind     error
	}{
		{"root@pam", Root, goodPassword, ErrInvalid},
		{"an unknown user", "ghost@pbs", goodPassword, ErrNotFound},
		{"a short one", "a@pbs", "1234567", ErrInvalid},
		{"none", "a@pbs", "", ErrInvalid},
	} {
		if err := s.SetPassword(t.Context(), tt.id, tt.password); !errors.Is(err, tt.kind) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestTokens(t *testing.T) {
	s, store := newService(t)
	addUsers(t, s, "a@pbs", "b@pbs")
	secret := addToken(t, s, "a@pbs!tok")
	addToken(t, s, "b@pbs!tok")
	good := func(secret string) bool {
		_, err := s.checkToken("a@pbs!tok", secret, anyTime)
		return err == nil
	}
	if len(secret) != 64 || !good(secret) {
		t.Errorf("secret %q", secret)
	}
	_, err := s.AddToken(t.Context(), Token{ID: "a@pbs!tok"}, "")
	wantRefusal(t, "again", err, ErrExists, "token 'tok' for user 'a@pbs' already exists.")
	_, err = s.AddToken(t.Context(), Token{ID: "ghost@pbs!tok"}, "")
	wantRefusal(t, "of nobody", err, ErrNotFound, "no such user 'ghost@pbs'")
	for _, bad := range []Token{{ID: "a@pbs"}, {ID: "a@pbs!x y"}, {ID: "a@pbs!two", Comment: "\n"}, {ID: "a@pbs!two", Expire: -1}} {
		if _, err := s.AddToken(t.Context(), bad, ""); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	renewed, err := s.RegenerateToken(t.Context(), "a@pbs!tok", "")
	if err != nil || good(secret) || !good(renewed) {
		t.Errorf("the old secret works, or the new one does not: %v", err)
	}
	comment := "for the tests"
	if err := s.ChangeToken(t.Context(), "a@pbs!tok", TokenChange{Comment: &comment}); err != nil {
		t.Fatal(err)
	}
	addUsers(t, s, "a@pbs!x@pbs")
	addToken(t, s, "a@pbs!x@pbs!tok")
	if got := s.Tokens("a@pbs"); !slices.Equal(got, []Token{{ID: "a@pbs!tok", Comment: comment}}) {
		t.Errorf("%+v", got)
	}
	setACL(t, s, "/ a@pbs!tok Admin", "/ a@pbs Admin")
	if err := s.RemoveToken(t.Context(), "a@pbs!tok", ""); err != nil {
		t.Fatal(err)
	}
	if n := len(store.State().ACL); n != 1 || len(store.State().TokenSums) != 2 {
		t.Errorf("%d entries, %d sums", n, len(store.State().TokenSums))
	}
	for name, err := range map[string]error{
		"change": s.ChangeToken(t.Context(), "a@pbs!tok", TokenChange{}), "remove": s.RemoveToken(t.Context(), "a@pbs!tok", ""),
		"renew": func() error { _, err := s.RegenerateToken(t.Context(), "a@pbs!tok", ""); return err }(),
		"show":  func() error { _, err := s.Token("a@pbs!tok"); return err }(),
	} {
		wantRefusal(t, name, err, ErrNotFound, "no such token 'a@pbs!tok'")
	}
}

func TestUsersCannotFillTheFile(t *testing.T) {
	s, store := newService(t)
	addUsers(t, s, "a@pbs")
	err := store.Update(t.Context(), func(state *State) error {
		for i := range maxTokens {
			state.Tokens = append(state.Tokens, Token{ID: AuthID(fmt.Sprintf("a@pbs!t%04d", i))})
		}
		for i := range maxEntries {
			state.ACL = append(state.ACL, ACLEntry{Path: fmt.Sprint("/datastore/s", i), ID: "a@pbs!t0000", Role: "Audit"})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddToken(t.Context(), Token{ID: "a@pbs!more"}, ""); !errors.Is(err, ErrInvalid) {
		t.Errorf("token: %v", err)
	}
	c := ACLChange{ACLEntry: ACLEntry{Path: "/", ID: "a@pbs!t0000", Role: "Audit"}}
	if err := s.ChangeACL(t.Context(), "a@pbs", c); !errors.Is(err, ErrInvalid) {
		t.Errorf("entry: %v", err)
	}
}

func TestChangeACL(t *testing.T) {
	s, store := newService(t)
	addUsers(t, s, "a@pbs")
	show := func() string {
		var b strings.Builder
		for _, e := range store.State().ACL {
			fmt.Fprintf(&b, "%s %s %s %v;", e.Path, e.ID, e.Role, e.Propagate)
		}
		return b.String()
	}
	for _, tt := range []struct {
		name string
		c    ACLChange
		want string
	}{
		{"a role", ACLChange{ACLEntry: ACLEntry{"/datastore/", "a@pbs", "Audit", true}}, "/datastore a@pbs Audit true;"},
		{"the same again", ACLChange{ACLEntry: ACLEntry{"/datastore", "a@pbs", "Audit", false}}, "/datastore a@pbs Audit false;"},
		{"another beside it", ACLChange{ACLEntry: ACLEntry{"/datastore", "a@pbs", "DatastoreBackup", true}}, "/datastore a@pbs Audit false;/datastore a@pbs DatastoreBackup true;"},
		{"elsewhere", ACLChange{ACLEntry: ACLEntry{"/", "a@pbs", "NoAccess", true}}, "/ a@pbs NoAccess true;/datastore a@pbs Audit false;/datastore a@pbs DatastoreBackup true;"},
		{"NoAccess in place of all", ACLChange{ACLEntry: ACLEntry{"/datastore", "a@pbs", "NoAccess", true}}, "/ a@pbs NoAccess true;/datastore a@pbs NoAccess true;"},
		{"a role in place of NoAccess", ACLChange{ACLEntry: ACLEntry{"/datastore", "a@pbs", "Audit", true}}, "/ a@pbs NoAccess true;/datastore a@pbs Audit true;"},
		{"deleting another role", ACLChange{ACLEntry: ACLEntry{"/datastore", "a@pbs", "Admin", true}, Delete: true}, "/ a@pbs NoAccess true;/datastore a@pbs Audit true;"},
		{"deleting", ACLChange{ACLEntry: ACLEntry{"/datastore", "a@pbs", "Audit", false}, Delete: true}, "/ a@pbs NoAccess true;"},
		{"deleting of an unknown user", ACLChange{ACLEntry: ACLEntry{"/", "ghost@pbs", "Audit", false}, Delete: true}, "/ a@pbs NoAccess true;"},
	} {
		if err := s.ChangeACL(t.Context(), Root, tt.c); err != nil || show() != tt.want {
			t.Errorf("%s: %s, %v", tt.name, show(), err)
		}
	}
	for _, tt := range []struct {
		name string
		e    ACLEntry
		kind error
		text string
	}{
		{"an unknown path", ACLEntry{Path: "/nope", ID: "a@pbs", Role: "Admin"}, ErrInvalid, "invalid acl path '/nope'."},
		{"an unknown role", ACLEntry{Path: "/", ID: "a@pbs", Role: "Nope"}, ErrInvalid, "value 'Nope' is not defined in the enumeration."},
		{"an unknown user", ACLEntry{Path: "/", ID: "ghost@pbs", Role: "Admin"}, ErrNotFound, "no such user."},
		{"an unknown token", ACLEntry{Path: "/", ID: "a@pbs!none", Role: "Admin"}, ErrNotFound, "no such API token."},
	} {
		wantRefusal(t, tt.name, s.ChangeACL(t.Context(), Root, ACLChange{ACLEntry: tt.e}), tt.kind, tt.text)
	}
}

func TestWhoMayChangeTheACL(t *testing.T) {
	s, _ := newService(t)
	addUsers(t, s, "a@pbs", "b@pbs", "boss@pbs")
	addToken(t, s, "a@pbs!tok")
	addToken(t, s, "b@pbs!tok")
	addToken(t, s, "boss@pbs!tok")
	setACL(t, s, "/access boss@pbs Admin", "/access/acl boss@pbs!tok Admin")
	for _, tt := range []struct {
		name   string
		by, id AuthID
		good   bool
	}{
		{"root@pam", Root, "a@pbs", true},
		{"who has Permissions.Modify", "boss@pbs", "a@pbs", true},
		{"his token that has it too", "boss@pbs!tok", "a@pbs", true},
		{"a user for his token", "a@pbs", "a@pbs!tok", true},
		{"a user for himself", "a@pbs", "a@pbs", false},
		{"a user for another", "a@pbs", "b@pbs", false},
		{"a user for another's token", "a@pbs", "b@pbs!tok", false},
		{"a token for itself", "a@pbs!tok", "a@pbs!tok", false},
		{"a token for its user", "a@pbs!tok", "a@pbs", false},
	} {
		for _, remove := range []bool{false, true} {
			c := ACLChange{ACLEntry: ACLEntry{Path: "/", ID: tt.id, Role: "Audit", Propagate: true}, Delete: remove}
			err := s.ChangeACL(t.Context(), tt.by, c)
			if tt.good && err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			if !tt.good {
				wantRefusal(t, tt.name, err, ErrInvalid, "Unprivileged users can only set ACL items for API tokens.")
			}
		}
	}
}

func TestACLOfAPath(t *testing.T) {
	s, _ := newService(t)
	addUsers(t, s, "a@pbs")
	setACL(t, s, "/ a@pbs Audit", "/datastore/s1 a@pbs Audit", "/datastore/s1/n1 a@pbs Audit", "/datastore/s12 a@pbs Audit")
	for _, tt := range []struct {
		path  string
		exact bool
		want  int
	}{{"", false, 4}, {"/", true, 1}, {"/datastore", false, 3}, {"/datastore", true, 0}, {"/datastore/s1", false, 2}, {"/datastore/s1", true, 1}} {
		if got, err := s.ACL(Root, tt.path, tt.exact); err != nil || len(got) != tt.want {
			t.Errorf("%q, exact %v: %v, %v", tt.path, tt.exact, got, err)
		}
	}
	if _, err := s.ACL(Root, "/nope", false); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
}

func TestDigests(t *testing.T) {
	s, store := newService(t)
	addUsers(t, s, "a@pbs")
	addToken(t, s, "a@pbs!tok")
	const modified = "detected modified configuration - file changed by other user? Try again."
	users, acl := store.State().UsersDigest(), store.State().ACLDigest()
	if len(users) != 64 || len(acl) != 64 || RealmsDigest() != "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Errorf("%s %s %s", users, acl, RealmsDigest())
	}
	if err := s.SetPassword(t.Context(), "a@pbs", "another password"); err != nil || store.State().UsersDigest() != users {
		t.Errorf("a password is no change of the configuration: %v", err)
	}
	comment := "changed"
	if err := s.ChangeUser(t.Context(), "a@pbs", UserChange{Comment: &comment, Digest: strings.ToUpper(users)}); err != nil {
		t.Fatal(err)
	}
	_, regenerate := s.RegenerateToken(t.Context(), "a@pbs!tok", users)
	_, add := s.AddToken(t.Context(), Token{ID: "a@pbs!two"}, users)
	for name, err := range map[string]error{
		"change a user":  s.ChangeUser(t.Context(), "a@pbs", UserChange{Comment: &comment, Digest: users}),
		"remove a user":  s.RemoveUser(t.Context(), "a@pbs", users),
		"change a token": s.ChangeToken(t.Context(), "a@pbs!tok", TokenChange{Comment: &comment, Digest: users}),
		"remove a token": s.RemoveToken(t.Context(), "a@pbs!tok", users),
		"renew a token":  regenerate,
		"add a token":    add,
	} {
		wantRefusal(t, name, err, ErrModified, modified)
	}
	entry := ACLEntry{Path: "/", ID: "a@pbs", Role: "Audit"}
	if err := s.ChangeACL(t.Context(), Root, ACLChange{ACLEntry: entry, Digest: acl}); err != nil {
		t.Errorf("users are not the acl: %v", err)
	}
	wantRefusal(t, "acl", s.ChangeACL(t.Context(), Root, ACLChange{ACLEntry: entry, Digest: acl}), ErrModified, modified)
}
