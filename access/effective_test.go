package access

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestEffectivePrivileges(t *testing.T) {
	tests := []struct {
		name    string
		entries string // "PATH ID ROLE[ -]", separated by ";"
		id      AuthID
		path    string
		want    string // names of privileges
	}{
		{"nobody has anything", "", "a@pbs", "/", ""},
		{"a role on the path", "/datastore/s1 a@pbs DatastoreAudit", "a@pbs", "/datastore/s1", "Datastore.Audit"},
		{"a role from above", "/ a@pbs DatastoreAudit", "a@pbs", "/datastore/s1/n1", "Datastore.Audit"},
		{"nothing above it", "/datastore/s1 a@pbs DatastoreAudit", "a@pbs", "/datastore", ""},
		{"nothing beside it", "/datastore/s1 a@pbs DatastoreAudit", "a@pbs", "/datastore/s2", ""},
		{"nothing at a name that goes on", "/datastore/s1 a@pbs DatastoreAudit", "a@pbs", "/datastore/s12", ""},
		{"nothing of others", "/ b@pbs Admin", "a@pbs", "/", ""},
		{"two roles add up", "/ a@pbs DatastoreBackup;/ a@pbs DatastoreAudit", "a@pbs", "/", "Datastore.Audit|Datastore.Backup"},
		{"a deeper role replaces", "/ a@pbs DatastoreBackup;/datastore a@pbs DatastoreAudit", "a@pbs", "/datastore/s1", "Datastore.Audit"},
		{"without propagation it holds on the path", "/datastore a@pbs DatastoreAudit -", "a@pbs", "/datastore", "Datastore.Audit"},
		{"and not below", "/datastore a@pbs DatastoreAudit -", "a@pbs", "/datastore/s1", ""},
		{"where what is above comes through", "/ a@pbs DatastoreBackup;/datastore a@pbs DatastoreAudit -", "a@pbs", "/datastore/s1", "Datastore.Backup"},
		{"NoAccess takes away", "/ a@pbs Admin;/datastore/s1 a@pbs NoAccess", "a@pbs", "/datastore/s1/n1", ""},
		{"NoAccess on the path alone", "/ a@pbs DatastoreAudit;/datastore/s1 a@pbs NoAccess -", "a@pbs", "/datastore/s1", ""},
		{"does not reach below", "/ a@pbs DatastoreAudit;/datastore/s1 a@pbs NoAccess -", "a@pbs", "/datastore/s1/n1", "Datastore.Audit"},
		{"a role below NoAccess", "/ a@pbs NoAccess;/datastore/s1 a@pbs DatastoreAudit", "a@pbs", "/datastore/s1", "Datastore.Audit"},
		{"a token has nothing of its own", "/ a@pbs Admin", "a@pbs!tok", "/", ""},
		{"nor more than its user", "/ a@pbs!tok Admin;/ a@pbs DatastoreAudit", "a@pbs!tok", "/datastore/s1", "Datastore.Audit"},
		{"nor anything if the user has none", "/ a@pbs!tok Admin", "a@pbs!tok", "/", ""},
		{"both narrow each other", "/ a@pbs DatastorePowerUser;/ a@pbs!tok DatastoreBackup", "a@pbs!tok", "/datastore/s1", "Datastore.Backup"},
		{"NoAccess of the user binds the token", "/ a@pbs!tok Admin;/ a@pbs Admin;/datastore/s1 a@pbs NoAccess", "a@pbs!tok", "/datastore/s1", ""},
		{"a token's entry is not its user's", "/ a@pbs!tok Admin", "a@pbs", "/", ""},
		{"a token of root@pam has its own", "/ root@pam!tok DatastoreAudit", "root@pam!tok", "/datastore/s1", "Datastore.Audit"},
		{"root@pam is not bound by NoAccess", "/ root@pam NoAccess", "root@pam", "/access", AllPrivileges.String()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := newView(&State{ACL: parseEntries(tt.entries)})
			if got := v.effective(tt.id, tt.path).here; got.String() != tt.want {
				t.Errorf("%s on %s: %s, want %s", tt.id, tt.path, got, tt.want)
			}
		})
	}
}

// A file edited by hand may have NoAccess beside other roles.
func TestNoAccessBeatsWhatStandsBesideIt(t *testing.T) {
	v := newView(&State{ACL: parseEntries("/datastore a@pbs NoAccess -;/datastore a@pbs Admin")})
	if e := v.effective("a@pbs", "/datastore"); e.here != 0 || e.passed != 0 || e.below != AllPrivileges {
		t.Errorf("%+v", e)
	}
	v = newView(&State{ACL: parseEntries("/datastore a@pbs NoAccess;/datastore a@pbs Admin")})
	if e := v.effective("a@pbs", "/datastore"); e != (effective{}) {
		t.Errorf("%+v", e)
	}
}

func TestAnyBelow(t *testing.T) {
	tests := []struct {
		name, entries string
		id            AuthID
		path, want    string
	}{
		{"a namespace below", "/datastore/s1/n1 a@pbs DatastoreBackup", "a@pbs", "/datastore/s1", "Datastore.Backup"},
		{"not beside", "/datastore/s1/n1 a@pbs DatastoreBackup", "a@pbs", "/datastore/s2", ""},
		{"not above", "/ a@pbs DatastoreAudit -", "a@pbs", "/datastore", ""},
		{"several together", "/datastore/s1 a@pbs DatastoreBackup;/datastore/s2 a@pbs DatastoreAudit", "a@pbs", "/datastore", "Datastore.Audit|Datastore.Backup"},
		{"what the path itself hides from itself", "/ a@pbs DatastoreAudit;/datastore a@pbs NoAccess -", "a@pbs", "/datastore", "Datastore.Audit"},
		{"a token above, its user below", "/datastore a@pbs!tok Admin;/datastore/s1 a@pbs DatastoreAudit", "a@pbs!tok", "/datastore", "Datastore.Audit"},
		{"a token below, its user above", "/datastore a@pbs DatastoreAudit;/datastore/s1 a@pbs!tok Admin", "a@pbs!tok", "/datastore", "Datastore.Audit"},
		{"a token beside its user", "/datastore/s1 a@pbs Admin;/datastore/s2 a@pbs!tok Admin", "a@pbs!tok", "/datastore", ""},
		{"root@pam", "", "root@pam", "/datastore/s1", AllPrivileges.String()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := newView(&State{ACL: parseEntries(tt.entries)})
			if got := v.anyBelow(tt.id, tt.path); got.String() != tt.want {
				t.Errorf("%s on %s: %s, want %s", tt.id, tt.path, got, tt.want)
			}
		})
	}
}

func parseEntries(s string) (acl []ACLEntry) {
	for e := range strings.SplitSeq(s, ";") {
		if f := strings.Fields(e); len(f) > 0 {
			acl = append(acl, ACLEntry{Path: f[0], ID: AuthID(f[1]), Role: f[2], Propagate: len(f) == 3})
		}
	}
	return acl
}

// A slowNode is the tree of protocol notes §7.1, as it is written there.
type slowNode struct {
	children map[string]*slowNode
	roles    map[AuthID]map[string]bool // role to propagate
}

func newSlowNode() *slowNode {
	return &slowNode{children: map[string]*slowNode{}, roles: map[AuthID]map[string]bool{}}
}

func slowTree(acl []ACLEntry) *slowNode {
	root := newSlowNode()
	for _, e := range acl {
		n := root
		for _, c := range slowParts(e.Path) {
			if n.children[c] == nil {
				n.children[c] = newSlowNode()
			}
			n = n.children[c]
		}
		if n.roles[e.ID] == nil {
			n.roles[e.ID] = map[string]bool{}
		}
		n.roles[e.ID][e.Role] = e.Propagate
	}
	return root
}

func slowParts(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(s string) bool { return s == "" })
}

// slowRoles is step 2 of the algorithm.
func (n *slowNode) slowRoles(id AuthID, path []string) map[string]bool {
	roles := map[string]bool{}
	for {
		here := map[string]bool{}
		for role, propagate := range n.roles[id] {
			if propagate || len(path) == 0 {
				here[role] = propagate
			}
		}
		if _, barred := here["NoAccess"]; barred {
			here = map[string]bool{"NoAccess": false}
		}
		if len(here) > 0 {
			roles = here
		}
		if len(path) == 0 || n.children[path[0]] == nil {
			return roles
		}
		n, path = n.children[path[0]], path[1:]
	}
}

func (n *slowNode) slowPrivileges(id AuthID, path string) (here, passed Privilege) {
	if id == "root@pam" {
		return AllPrivileges, AllPrivileges
	}
	for role, propagate := range n.slowRoles(id, slowParts(path)) {
		for _, r := range roles {
			if r.ID == role {
				here |= r.Privileges
				if propagate {
					passed |= r.Privileges
				}
			}
		}
	}
	if user, _, isToken := strings.Cut(string(id), "!"); isToken {
		h, p := n.slowPrivileges(AuthID(user), path)
		here, passed = here&h, passed&p
	}
	return here, passed
}

// TestPrivilegesAreThoseOfTheSlowTree compares with the algorithm as it is
// written, and "any below" with asking for every path there is, including
// those that nobody has an entry on.
func TestPrivilegesAreThoseOfTheSlowTree(t *testing.T) {
	paths := []string{
		"/", "/access", "/datastore", "/datastore/s1", "/datastore/s2",
		"/datastore/s1/n1", "/datastore/s1/n1/n2", "/datastore/s1/n1/n2/n3",
	}
	var universe []string
	for _, p := range paths {
		universe = append(universe, p, strings.TrimSuffix(p, "/")+"/x") // x has no entry ever
	}
	ids := []AuthID{"a@pbs", "a@pbs!t1", "a@pbs!t2", "b@pbs", "root@pam", "root@pam!t1"}
	rapid.Check(t, func(t *rapid.T) {
		entry := rapid.Custom(func(t *rapid.T) ACLEntry {
			return ACLEntry{
				Path: rapid.SampledFrom(paths).Draw(t, "path"), ID: rapid.SampledFrom(ids).Draw(t, "id"),
				Role:      rapid.SampledFrom([]string{"Admin", "NoAccess", "Audit", "DatastoreBackup", "DatastorePowerUser", "DatastoreReader"}).Draw(t, "role"),
				Propagate: rapid.Bool().Draw(t, "propagate"),
			}
		})
		acl := rapid.SliceOfNDistinct(entry, 0, 12, func(e ACLEntry) string { return fmt.Sprint(e.Path, e.ID, e.Role) }).Draw(t, "acl")
		slow, v := slowTree(acl), newView(&State{ACL: acl})
		for _, id := range ids {
			for _, path := range universe {
				here, passed := slow.slowPrivileges(id, path)
				if e := v.effective(id, path); e.here != here || e.passed != passed {
					t.Fatalf("%s on %s: %s, of that passed %s; want %s and %s", id, path, e.here, e.passed, here, passed)
				}
				var below Privilege
				for _, p := range universe {
					if p == path || path == "/" || strings.HasPrefix(p, path+"/") {
						h, _ := slow.slowPrivileges(id, p)
						below |= h
					}
				}
				if got := v.anyBelow(id, path); got != below {
					t.Fatalf("%s below %s: %s, want %s", id, path, got, below)
				}
			}
		}
	})
}

// TestListsAreThoseOfARealServer sets up the accounts of the recorded server
// and compares what each of its users sees.
func TestListsAreThoseOfARealServer(t *testing.T) {
	real := realServer(t)
	s, _ := newService(t)
	for _, u := range real.Users {
		if u.UserID == Root {
			continue
		}
		user := User{ID: u.UserID, Expire: u.Expire, Disabled: u.Enable != nil && !*u.Enable}
		if err := s.AddUser(t.Context(), user, ""); err != nil {
			t.Fatal(err)
		}
		for _, tok := range u.Tokens {
			addToken(t, s, tok.TokenID)
		}
	}
	for _, e := range real.ACL {
		c := ACLChange{ACLEntry: ACLEntry{Path: e.Path, ID: e.UGID, Role: e.RoleID, Propagate: e.Propagate}}
		if err := s.ChangeACL(t.Context(), Root, c); err != nil {
			t.Fatal(err)
		}
	}
	for id, want := range real.Permissions {
		got, err := s.Permissions(id, id, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, privs := range got { // newer than the recording
			maps.DeleteFunc(privs, func(name string, _ bool) bool { return strings.HasPrefix(name, "Remote.Datastore") })
		}
		if !maps.EqualFunc(got, want.Own, maps.Equal) {
			t.Errorf("permissions of %s: %v, want %v", id, got, want.Own)
		}
		var users, wantUsers []AuthID
		for _, u := range s.Users(id) {
			users = append(users, u.ID)
		}
		for _, u := range want.Users {
			wantUsers = append(wantUsers, u.UserID)
		}
		slices.Sort(wantUsers)
		if !slices.Equal(users, wantUsers) {
			t.Errorf("%s sees the users %v, want %v", id, users, wantUsers)
		}
		acl, err := s.ACL(id, "", false)
		if err != nil {
			t.Fatal(err)
		}
		wantACL := make([]ACLEntry, 0, len(want.ACL))
		for _, e := range want.ACL {
			wantACL = append(wantACL, ACLEntry{Path: e.Path, ID: e.UGID, Role: e.RoleID, Propagate: e.Propagate})
		}
		slices.SortFunc(wantACL, compareEntries)
		if !slices.Equal(acl, wantACL) {
			t.Errorf("%s sees the entries %v, want %v", id, acl, wantACL)
		}
	}
}

func TestPermissionsOfOthers(t *testing.T) {
	s, _ := newService(t)
	addUsers(t, s, "a@pbs", "b@pbs", "audit@pbs")
	addToken(t, s, "a@pbs!tok")
	addToken(t, s, "audit@pbs!tok")
	setACL(t, s, "/datastore/s1 a@pbs DatastoreAudit", "/datastore/s1 a@pbs!tok DatastoreAudit", "/access audit@pbs Audit")
	want := map[string]map[string]bool{"/datastore/s1": {"Datastore.Audit": true}}
	for _, tt := range []struct {
		name       string
		viewer, of AuthID
		good       bool
	}{
		{"one's own", "a@pbs", "a@pbs", true},
		{"one's token's", "a@pbs", "a@pbs!tok", true},
		{"an auditor's", "audit@pbs", "a@pbs", true},
		{"root's", Root, "a@pbs!tok", true},
		{"somebody else", "b@pbs", "a@pbs", false},
		{"a token its user's", "a@pbs!tok", "a@pbs", false},
		{"an auditor's token without an entry", "audit@pbs!tok", "a@pbs", false},
	} {
		got, err := s.Permissions(tt.viewer, tt.of, "/datastore/s1")
		if tt.good && (err != nil || !maps.EqualFunc(got, want, maps.Equal)) {
			t.Errorf("%s: %v, %v", tt.name, got, err)
		}
		if !tt.good {
			wantRefusal(t, tt.name, err, ErrInvalid, "not allowed to list permissions of "+string(tt.of))
		}
	}
	if _, err := s.Permissions(Root, Root, "/nope"); err == nil {
		t.Error("an unknown path is listed")
	}
}

func BenchmarkPrivileges(b *testing.B) {
	var acl []ACLEntry
	for i := range 1000 {
		acl = append(acl, ACLEntry{Path: fmt.Sprintf("/datastore/s%d/n%d", i%10, i%100), ID: AuthID(fmt.Sprintf("u%d@pbs!tok", i%200)), Role: "DatastoreBackup", Propagate: true},
			ACLEntry{Path: "/datastore", ID: AuthID(fmt.Sprintf("u%d@pbs", i%200)), Role: "DatastoreAdmin", Propagate: true})
	}
	v := newView(&State{ACL: acl})
	for b.Loop() {
		if v.effective("u5@pbs!tok", joinPath("datastore", "s5", "n5/x/y")).here == 0 {
			b.Fatal("no privileges")
		}
	}
}
