package access

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestParseAuthID(t *testing.T) {
	tests := []struct {
		name, id string
		good     bool
	}{
		{"a user", "admin@pbs", true},
		{"a token", "admin@pbs!tok", true},
		{"a name with an @", "a@b@pbs", true},
		{"a name with a !", "a!b@pbs", true},
		{"a name that is not ASCII", "jörg@pbs", true},
		{"the shortest realm", "a@bc", true},
		{"the longest user", strings.Repeat("a", 60) + "@pbs", true},
		{"nothing", "", false},
		{"no realm", "admin", false},
		{"an empty realm", "admin@", false},
		{"a realm of one letter", "admin@p", false},
		{"a realm of 33 letters", "a@" + strings.Repeat("r", 33), false},
		{"a realm that begins with a dot", "a@.bc", false},
		{"no name", "@pbs", false},
		{"a user of 65 characters", strings.Repeat("a", 61) + "@pbs", false},
		{"a blank", "a b@pbs", false},
		{"a wide blank", "a\u3000b@pbs", false},
		{"a colon", "a:b@pbs", false},
		{"a slash", "a/b@pbs", false},
		{"a control character", "a\x00b@pbs", false},
		{"not UTF-8", "a\xff@pbs", false},
		{"an empty token", "admin@pbs!", false},
		{"a token of two letters", "admin@pbs!ab", false},
		{"a token of 65 letters", "admin@pbs!" + strings.Repeat("t", 65), false},
		{"a token with a !", "admin@pbs!to!k", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id, err := ParseAuthID(tt.id)
			if tt.good && (err != nil || string(id) != tt.id) {
				t.Errorf("%q: %v", id, err)
			}
			if hinted, ok := err.(interface{ Hint() string }); !tt.good && (!errors.Is(err, ErrInvalid) || !ok || hinted.Hint() == "" || len(err.Error()) > 250) {
				t.Errorf("%q: %v", tt.id, err)
			}
		})
	}
}

func TestPartsOfAnAuthID(t *testing.T) {
	for _, tt := range []struct {
		id, user    AuthID
		realm, name string
		token       bool
	}{
		{"a@pbs", "a@pbs", "pbs", "", false},
		{"a@pbs!tok", "a@pbs", "pbs", "tok", true},
		{"a!x@b@pam!tok", "a!x@b@pam", "pam", "tok", true},
	} {
		if id := tt.id; id.User() != tt.user || id.Realm() != tt.realm || id.TokenName() != tt.name || id.IsToken() != tt.token {
			t.Errorf("%s: %s %s %s %v", id, id.User(), id.Realm(), id.TokenName(), id.IsToken())
		}
	}
}

func TestOwns(t *testing.T) {
	for _, tt := range []struct {
		name      string
		id, owner AuthID
		want      bool
	}{
		{"oneself", "a@pbs", "a@pbs", true},
		{"a user his token's", "a@pbs", "a@pbs!tok", true},
		{"a token its user's", "a@pbs!tok", "a@pbs", false},
		{"a token its sibling's", "a@pbs!tok", "a@pbs!other", false},
		{"another user", "b@pbs", "a@pbs", false},
		{"another user's token", "b@pbs", "a@pbs!tok", false},
	} {
		if got := tt.id.Owns(tt.owner); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestPrivilegeNamesComeBack(t *testing.T) {
	if len(AllPrivileges.Names()) != 23 || len(privilegeNames) != 23 {
		t.Fatalf("%d privileges: %s", len(AllPrivileges.Names()), AllPrivileges)
	}
	for i, name := range privilegeNames {
		p, err := ParsePrivilege(name)
		if err != nil || p != 1<<i || p.String() != name || !AllPrivileges.Has(p) {
			t.Errorf("%s: %d, %v", name, p, err)
		}
	}
	for p, name := range map[Privilege]string{
		PrivDatastoreBackup: "Datastore.Backup", PrivSysConsole: "Sys.Console", PrivRealmAllocate: "Realm.Allocate",
		PrivRemoteDatastorePrune: "Remote.DatastorePrune", PrivDatastoreAudit | PrivDatastoreBackup: "Datastore.Audit|Datastore.Backup", 0: "",
	} {
		if p.String() != name {
			t.Errorf("%s, want %s", p, name)
		}
	}
	if _, err := ParsePrivilege("Datastore.Nope"); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
	if p := PrivSysAudit; p.Has(PrivSysAudit|PrivSysModify) || !p.HasAny(PrivSysAudit|PrivSysModify) || p.HasAny(PrivSysModify) {
		t.Error("Has and HasAny are mixed up")
	}
}

// recording is what a real server answered.
type recording struct {
	Roles []struct {
		RoleID string   `json:"roleid"`
		Privs  []string `json:"privs"`
	} `json:"roles"`
	ACL   []recordedEntry `json:"acl"`
	Users []struct {
		UserID AuthID `json:"userid"`
		Enable *bool  `json:"enable"`
		Expire int64  `json:"expire"`
		Tokens []struct {
			TokenID AuthID `json:"tokenid"`
		} `json:"tokens"`
	} `json:"users"`
	Permissions map[AuthID]struct {
		Own   map[string]map[string]bool `json:"own"`
		ACL   []recordedEntry            `json:"acl"`
		Users []struct {
			UserID AuthID `json:"userid"`
		} `json:"users"`
	} `json:"permissions"`
}

type recordedEntry struct {
	Path      string `json:"path"`
	Propagate bool   `json:"propagate"`
	RoleID    string `json:"roleid"`
	UGID      AuthID `json:"ugid"`
}

func realServer(t *testing.T) recording {
	t.Helper()
	text, err := os.ReadFile("testdata/real-server.json")
	if err != nil {
		t.Fatal(err)
	}
	var r recording
	if err := json.Unmarshal(text, &r); err != nil || len(r.Roles) == 0 || len(r.ACL) == 0 || len(r.Users) == 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	return r
}

// The recorded server is older than pushing to a remote, for which there are
// three privileges and three roles more.
func TestRolesAreThoseOfARealServer(t *testing.T) {
	push := PrivRemoteDatastoreBackup | PrivRemoteDatastoreModify | PrivRemoteDatastorePrune
	for _, r := range realServer(t).Roles {
		role, err := ParseRole(r.RoleID)
		if err != nil {
			t.Errorf("%s: %v", r.RoleID, err)
			continue
		}
		if names := (role.Privileges &^ push).Names(); !slices.Equal(names, r.Privs) {
			t.Errorf("%s: %v, want %v", role.ID, names, r.Privs)
		}
	}
	if n := len(Roles()); n != len(realServer(t).Roles)+3 {
		t.Errorf("%d roles", n)
	}
	if !slices.IsSortedFunc(Roles(), func(a, b Role) int { return strings.Compare(a.ID, b.ID) }) {
		t.Error("roles are not sorted by name")
	}
	_, err := ParseRole("Nope")
	wantRefusal(t, "unknown role", err, ErrInvalid, "value 'Nope' is not defined in the enumeration.")
}

func TestRealms(t *testing.T) {
	want := []Realm{{"pam", "pam", "the operator of this machine", false}, {"pbs", "pbs", "users kept by holdfast", true}}
	if got := Realms(); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}

func TestParsePath(t *testing.T) {
	seven := strings.Repeat("/n", 7)
	tests := []struct{ name, path, want string }{
		{"the root", "/", "/"},
		{"many slashes", "//", "/"},
		{"a store", "/datastore/store1", "/datastore/store1"},
		{"slashes too many", "//datastore//store1/", "/datastore/store1"},
		{"the deepest namespace", "/datastore/store1" + seven, "/datastore/store1" + seven},
		{"one deeper", "/datastore/store1" + seven + "/n", ""},
		{"a remote's namespace", "/remote/r1/store1" + seven, "/remote/r1/store1" + seven},
		{"one deeper", "/remote/r1/store1" + seven + "/n", ""},
		{"every branch of access", "/access/openid/x", "/access/openid/x"},
		{"what is not there", "/access/tickets", ""},
		{"below a leaf", "/access/acl/x", ""},
		{"a network interface", "/system/network/interfaces/eth0", "/system/network/interfaces/eth0"},
		{"what is not in network", "/system/network/eth0", ""},
		{"a service", "/system/services/sshd", "/system/services/sshd"},
		{"the branch alone", "/system/services", "/system/services"},
		{"a tape job", "/tape/job/j1", "/tape/job/j1"},
		{"what is not on tape", "/tape/x", ""},
		{"no such top", "/nope", ""},
		{"no slash at the front", "datastore", ""},
		{"nothing", "", ""},
		{"a dot", "/datastore/..", ""},
		{"a blank", "/datastore/a b", ""},
		{"a name that begins with a dash", "/datastore/-a", ""},
		{"too long", "/datastore/" + strings.Repeat("a", maxPath), ""},
		{"a part too long", "/datastore/" + strings.Repeat("a", 256), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParsePath(tt.path)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("%q: %q, %v", tt.path, got, err)
			}
		})
	}
	_, err := ParsePath("/nope")
	wantRefusal(t, "unknown", err, ErrInvalid, "invalid acl path '/nope'.")
}

func FuzzParsePathHasOneSpelling(f *testing.F) {
	f.Add("/datastore/store1/a/b")
	f.Add("//access///acl/")
	f.Add("/tape/../x")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePath(s)
		if err != nil {
			return
		}
		if again, err := ParsePath(p); err != nil || again != p {
			t.Errorf("%q: %q is read as %q, %v", s, p, again, err)
		}
		if joinPath(strings.Split(s, "/")...) != p || p != "/" && strings.HasSuffix(p, "/") {
			t.Errorf("%q: %q is not joined from its parts", s, p)
		}
		n := 0
		for a := range above(p) {
			n++
			if _, err := ParsePath(a); err != nil || !isBelow(p, a) || isBelow(a, p) {
				t.Errorf("%q is not above %q: %v", a, p, err)
			}
		}
		if want := strings.Count(strings.TrimSuffix(p, "/"), "/"); n != want {
			t.Errorf("%d paths above %q, want %d", n, p, want)
		}
	})
}

func FuzzParseAuthID(f *testing.F) {
	f.Add("admin@pbs!tok")
	f.Add("a@b@c!d")
	f.Add("\xff@pbs")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseAuthID(s)
		raw := AuthID(s)
		_, _ = raw.User(), raw.TokenName() // of anything, without a panic
		if err != nil {
			return
		}
		user, err := ParseAuthID(string(id.User()))
		if err != nil || user.IsToken() || user.Realm() != id.Realm() || strings.ContainsAny(s, " \n\r\x00:/") {
			t.Errorf("%q: user %q, %v", s, user, err)
		}
		if id.IsToken() && string(user)+"!"+id.TokenName() != s {
			t.Errorf("%q: parts do not make the whole", s)
		}
	})
}
