package access

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/access/ticket"
)

const goodPassword = "secret12345"

// newService returns a service whose accounts are in a file of the test.
func newService(t *testing.T) (*Service, *FileStore) {
	t.Helper()
	store, err := OpenFile(filepath.Join(t.TempDir(), "accounts.json"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Store: store, Key: ticket.NewKey()})
	if err != nil {
		t.Fatal(err)
	}
	return s, store
}

// addUsers makes users of those names in the realm pbs, with goodPassword.
func addUsers(t *testing.T, s *Service, names ...AuthID) {
	t.Helper()
	for _, id := range names {
		if err := s.AddUser(t.Context(), User{ID: id}, goodPassword); err != nil {
			t.Fatal(err)
		}
	}
}

// addToken makes a token and returns its secret.
func addToken(t *testing.T, s *Service, id AuthID) string {
	t.Helper()
	secret, err := s.AddToken(t.Context(), Token{ID: id}, "")
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// setACL sets ACL entries written as "PATH ID ROLE", with a "-" behind those
// that do not propagate.
func setACL(t *testing.T, s *Service, entries ...string) {
	t.Helper()
	for _, e := range entries {
		f := strings.Fields(e)
		c := ACLChange{ACLEntry: ACLEntry{Path: f[0], ID: AuthID(f[1]), Role: f[2], Propagate: len(f) == 3}}
		if err := s.ChangeACL(t.Context(), Root, c); err != nil {
			t.Fatalf("%s: %v", e, err)
		}
	}
}

// wantRefusal checks the kind of an error and the text that a client reads.
func wantRefusal(t *testing.T, what string, err, kind error, text string) {
	t.Helper()
	var refusal *Error
	if !errors.As(err, &refusal) || !errors.Is(err, kind) || refusal.Text != text {
		t.Errorf("%s: %v (%+v), want %v: %s", what, err, refusal, kind, text)
	}
}

// anyTime is a moment at which nothing of these tests has expired.
var anyTime = time.Unix(2e9, 0)

func TestNewNeedsItsParts(t *testing.T) {
	_, store := newService(t)
	for _, cfg := range []Config{{}, {Store: store}, {Key: ticket.NewKey()}} {
		if s, err := New(cfg); err == nil || s != nil {
			t.Errorf("%+v gave a service", cfg)
		}
	}
}

func TestRootMayDoEverythingAndItsTokensNothing(t *testing.T) {
	s, _ := newService(t)
	addToken(t, s, "root@pam!tok")
	if got := s.Privileges(Root, "datastore", "store1"); got != AllPrivileges {
		t.Errorf("root@pam has %s", got)
	}
	if got := s.AnyBelow("root@pam!tok"); got != 0 {
		t.Errorf("its token has %s", got)
	}
	setACL(t, s, "/datastore root@pam!tok DatastoreReader")
	if got := s.Privileges("root@pam!tok", "datastore", "store1"); got != readDatastore {
		t.Errorf("its token with an entry has %s", got)
	}
}

func TestRequireSaysWhatIsMissingWhere(t *testing.T) {
	s, _ := newService(t)
	addUsers(t, s, "audit@pbs")
	setACL(t, s, "/datastore/store1 audit@pbs DatastoreAudit")
	if err := s.Require("audit@pbs", PrivDatastoreAudit|PrivDatastoreBackup, "datastore", "store1", "a/b"); err != nil {
		t.Errorf("one of two is enough: %v", err)
	}
	err := s.Require("audit@pbs", PrivDatastoreVerify|PrivDatastoreBackup, "datastore", "store1", "")
	wantRefusal(t, "verify", err, ErrForbidden, "permission check failed - missing Datastore.Verify|Datastore.Backup on /datastore/store1")
	err = s.Require("audit@pbs", PrivDatastoreAudit, "datastore", "store2", "a/b")
	wantRefusal(t, "another store", err, ErrForbidden, "permission check failed - missing Datastore.Audit on /datastore/store2/a/b")
	if refusal := (*Error)(nil); !errors.As(err, &refusal) || refusal.Status() != 403 || !strings.HasPrefix(err.Error(), "audit@pbs lacks") {
		t.Errorf("%v", err)
	}
}

func TestStatusOfRefusals(t *testing.T) {
	for kind, want := range map[error]int{
		ErrUnauthenticated: 401, ErrForbidden: 403, ErrBusy: 503, ErrNotFound: 400, ErrExists: 400, ErrModified: 400, ErrInvalid: 400,
	} {
		if got := (&Error{Kind: kind}).Status(); got != want {
			t.Errorf("%v is %d, want %d", kind, got, want)
		}
	}
}

func TestCancelledChangesChangeNothing(t *testing.T) {
	s, store := newService(t)
	addUsers(t, s, "a@pbs")
	before := store.State()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, err := range map[string]error{
		"add a user":    s.AddUser(ctx, User{ID: "b@pbs"}, ""),
		"remove a user": s.RemoveUser(ctx, "a@pbs", ""),
		"password":      s.SetPassword(ctx, "a@pbs", goodPassword),
		"acl":           s.ChangeACL(ctx, Root, ACLChange{ACLEntry: ACLEntry{Path: "/", ID: "a@pbs", Role: "Admin"}}),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if store.State() != before {
		t.Error("the state has changed")
	}
}
