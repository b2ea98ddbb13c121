package sessions_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/api/sessions"
	"github.com/holdfast-mesh/holdfast/pbs/backup"
	"github.com/holdfast-mesh/holdfast/pbs/pbstest"
	"github.com/holdfast-mesh/holdfast/pbs/reader"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/sitetest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// A site is a server and whoever has an account there: each with a token
// "tok", by which they speak.
type site struct {
	*sitetest.Site
	t       *testing.T
	secrets map[string]string
}

func newSite(t *testing.T, cfg sessions.Config) *site {
	t.Helper()
	d := pbstest.NewDatastore(t)
	if err := d.CreateNamespace("a"); err != nil {
		t.Fatal(err)
	}
	s, err := sitetest.New(sitetest.Config{
		Dir: t.TempDir(), Sessions: cfg,
		Datastores: map[string]*catalog.Datastore{"store1": d},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &site{s, t, map[string]string{}}
	for who, role := range map[access.AuthID]string{
		"admin@pbs": "Admin", "backup@pbs": "DatastoreBackup", "reader@pbs": "DatastoreReader", "audit@pbs": "DatastoreAudit", "noacc@pbs": "NoAccess",
	} {
		w.user(who, "/ "+role)
	}
	w.user("inside@pbs", "/datastore/store1/a DatastoreBackup")
	return w
}

// user makes a user without a password, which would cost a second, and a token
// of the user, and one more that may do the same.
func (s *site) user(id access.AuthID, grants ...string) {
	s.t.Helper()
	if err := s.Access.AddUser(s.t.Context(), access.User{ID: id}, ""); err != nil {
		s.t.Fatal(err)
	}
	if err := s.AddUser(s.t.Context(), id, grants...); err != nil {
		s.t.Fatal(err)
	}
	secret, err := s.AddToken(s.t.Context(), id+"!tok", grants...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.secrets[string(id)] = secret
}

// ask asks for a session as a user's token. A target of "backup g1 1700000000"
// is short for the one that clients send.
func (s *site) ask(who, target string, headers ...string) (*pbstest.Client, pbstest.Answer) {
	s.t.Helper()
	protocol := upgrade.Backup
	if f := strings.Fields(target); len(f) > 2 {
		target = fmt.Sprintf("//api2/json/%s?store=store1&backup-type=host&backup-id=%s&backup-time=%s", f[0], f[1], f[2]) + strings.Join(f[3:], "")
	}
	if strings.Contains(target, "json/reader") {
		protocol = upgrade.Reader
	}
	if headers == nil {
		headers = []string{"connection: upgrade", "upgrade: " + protocol}
	}
	headers = append(headers, "authorization: PBSAPIToken "+who+"!tok:"+s.secrets[who])
	return pbstest.Connect(s.t, s.Addr, target, headers...)
}

// back makes a snapshot.
func (s *site) back(who, target string) {
	s.t.Helper()
	c, a := s.ask(who, target)
	if a.Status != http.StatusSwitchingProtocols {
		s.t.Fatalf("%s: %d %s", target, a.Status, a.Body)
	}
	defer c.Close()
	fields := strings.Fields(target)
	if err := c.BackUpBlob("host/"+fields[1], fields[2], "x.conf.blob", "hello"); err != nil {
		s.t.Fatal(err)
	}
	c.Close()
	s.idle(0)
}

func (s *site) refused(who, target string, status int, text string, headers ...string) {
	s.t.Helper()
	c, a := s.ask(who, target, headers...)
	if c != nil {
		c.Close()
	}
	if a.Status != status || !strings.Contains(string(a.Body), text) {
		s.t.Errorf("%s by %s: %d %s, want %d %s", target, who, a.Status, a.Body, status, text)
	}
	if _, tasks := s.Tasks.List(jobs.Filter{Running: true}); tasks != 0 {
		s.t.Errorf("%s by %s: refused, and %d tasks run", target, who, tasks)
	}
}

// The refusals of recordings 11, 27-29, 56, 70, 71 and 102, in their words.
func TestRefusals(t *testing.T) {
	s := newSite(t, sessions.Config{})
	s.back("admin@pbs", "backup g1 1700000000")
	s.back("backup@pbs", "backup own 1700000000")
	up := "connection: upgrade"
	for _, tt := range []struct {
		name, who, target string
		status            int
		text              string
		headers           []string
	}{
		{"no privilege", "audit@pbs", "backup g1 1800000000", 403, "missing permissions 'Datastore.Backup' on '/datastore/store1'", nil},
		{"no privilege in a namespace", "audit@pbs", "backup g1 1800000000 &ns=a/b", 403, "missing permissions 'Datastore.Backup' on '/datastore/store1/a/b'", nil},
		{"a privilege below is none here", "inside@pbs", "backup g1 1800000000", 403, "missing permissions 'Datastore.Backup' on '/datastore/store1'", nil},
		{"a privilege is asked for first", "noacc@pbs", "//api2/json/backup?store=nostore&backup-type=host&backup-id=x&backup-time=1", 403, "missing permissions 'Datastore.Backup' on '/datastore/nostore'", nil},
		{"no such datastore", "admin@pbs", "//api2/json/backup?store=nostore&backup-type=host&backup-id=x&backup-time=1", 400, "no such datastore 'nostore'", nil},
		{"no upgrade", "admin@pbs", "backup x 1", 400, "missing Upgrade header", []string{up}},
		{"another protocol", "admin@pbs", "backup x 1", 400, "invalid protocol name", []string{up, "upgrade: wrong-protocol"}},
		{"no time", "admin@pbs", "//api2/json/backup?store=store1&backup-type=host&backup-id=x", 400, "parameter verification failed - 'backup-time': parameter is missing and it is not optional.", nil},
		{"no such namespace", "admin@pbs", "backup g1 1700000000 &ns=nope", 404, "namespace not found", nil},
		{"the group of benchmarks", "admin@pbs", "backup benchmark 1", 400, "unable to run benchmark without --benchmark flags", nil},
		{"a benchmark elsewhere", "admin@pbs", "backup g1 1800000000 &benchmark=true", 400, "benchmark is only allowed", nil},
		{"older", "admin@pbs", "backup g1 1600000000", 400, "backup timestamp is older than last backup.", nil},
		{"the same time", "admin@pbs", "backup g1 1700000000", 400, "backup timestamp is older than last backup.", nil},
		{"somebody else's group", "backup@pbs", "backup g1 1800000000", 400, "backup owner check failed (backup@pbs!tok != admin@pbs!tok)", nil},
		{"read without privilege", "audit@pbs", "reader g1 1700000000", 400, "no permissions on /datastore/store1", nil},
		{"read in a namespace without privilege", "noacc@pbs", "reader g1 1700000000 &ns=a", 400, "no permissions on /datastore/store1/a", nil},
		{"read what somebody else owns", "backup@pbs", "reader g1 1700000000", 400, "backup owner check failed!", nil},
		{"read what is not there, without Read", "backup@pbs", "reader g2 1700000000", 400, "backup owner check failed!", nil},
		{"read at another time", "admin@pbs", "reader g1 1577836800", 400, "snapshot host/g1/2020-01-01T00:00:00Z does not exist.", nil},
		{"read another group", "admin@pbs", "reader zz 1577836800", 400, "snapshot host/zz/2020-01-01T00:00:00Z does not exist.", nil},
		{"read in no namespace", "admin@pbs", "reader g1 1700000000 &ns=nope", 400, "snapshot host/g1/2023-11-14T22:13:20Z does not exist.", nil},
		{"read without upgrade", "admin@pbs", "reader g1 1700000000", 400, "missing Upgrade header", []string{up}},
		{"read by the protocol of backups", "admin@pbs", "reader g1 1700000000", 400, "invalid protocol name", []string{up, "upgrade: " + upgrade.Backup}},
	} {
		t.Run(tt.name, func(t *testing.T) { s.t = t; s.refused(tt.who, tt.target, tt.status, tt.text, tt.headers...) })
	}
	s.t = t
	for _, allowed := range []string{"inside@pbs backup n1 1700000000 &ns=a", "backup@pbs backup own 1700000001", "backup@pbs reader own 1700000000", "reader@pbs reader own 1700000000"} {
		who, target, _ := strings.Cut(allowed, " ")
		if c, a := s.ask(who, target); a.Status != http.StatusSwitchingProtocols {
			t.Errorf("%s: %d %s", allowed, a.Status, a.Body)
		} else {
			c.Close()
		}
	}
}

// Of a backup into a datastore that is a draft nothing said so: "no such datastore", and
// the hint was to check its name. Who may not list drafts is told nothing of them.
func TestDatastoreIsADraft(t *testing.T) {
	s := newSite(t, sessions.Config{Drafted: func(store string) string {
		if store == "new" {
			return "it is draft 4"
		}
		return ""
	}})
	for _, tt := range []struct{ who, store, hint string }{{"admin@pbs", "new", "it is draft 4"}, {"backup@pbs", "new", ""}, {"admin@pbs", "other", ""}} {
		for _, what := range []string{"backup", "reader"} {
			target := "//api2/json/" + what + "?store=" + tt.store + "&backup-type=host&backup-id=x&backup-time=1"
			c, a := s.ask(tt.who, target)
			if c != nil {
				c.Close()
			}
			if a.Status != 400 || !strings.Contains(string(a.Body), "no such datastore '"+tt.store+"'") || a.Header.Get(rest.HintHeader) != tt.hint {
				t.Errorf("%s of %s by %s: %d %s, hint %q", what, tt.store, tt.who, a.Status, a.Body, a.Header.Get(rest.HintHeader))
			}
		}
	}
}

// What the owner of a group is follows from who owns whom: a user may write
// and read what the user's tokens own, a token what it owns itself.
func TestUserWritesForTokens(t *testing.T) {
	s := newSite(t, sessions.Config{})
	s.back("backup@pbs", "backup own 1700000000")
	ticket := s.Access.LoginLocal() // root may do everything, and owns nothing of others
	_, a := pbstest.Connect(t, s.Addr, "//api2/json/backup?store=store1&backup-type=host&backup-id=own&backup-time=1800000000",
		"upgrade: "+upgrade.Backup, "cookie: PBSAuthCookie="+ticket.Text)
	if want := "backup owner check failed (root@pam != backup@pbs!tok)"; a.Status != 400 || string(a.Body) != want {
		t.Errorf("%d %s, want %s", a.Status, a.Body, want)
	}
	if err := s.Access.SetPassword(t.Context(), "backup@pbs", sitetest.Password); err != nil {
		t.Fatal(err)
	}
	mine, err := s.Access.Login(t.Context(), access.Login{User: "backup@pbs", Password: sitetest.Password})
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"reader?backup-time=1700000000", "backup?backup-time=1700000060"} {
		protocol := upgrade.Backup
		if strings.HasPrefix(target, "reader") {
			protocol = upgrade.Reader
		}
		c, a := pbstest.Connect(t, s.Addr, "//api2/json/"+target+"&store=store1&backup-type=host&backup-id=own", "upgrade: "+protocol, "cookie: PBSAuthCookie="+mine.Text)
		if c == nil {
			t.Errorf("%s: %d %s", target, a.Status, a.Body)
			continue
		}
		c.Close()
	}
}

func TestMaintenance(t *testing.T) {
	s := newSite(t, sessions.Config{})
	s.back("admin@pbs", "backup g1 1700000000")
	for _, tt := range []struct {
		mode           catalog.Mode
		backup, reader string
	}{
		{catalog.ReadOnly, "datastore 'store1' is in read-only maintenance mode: new disks", ""},
		{catalog.Offline, "datastore 'store1' is in offline maintenance mode: new disks", "datastore 'store1' is in offline maintenance mode: new disks"},
	} {
		if err := s.Stores["store1"].SetSettings(catalog.Settings{Maintenance: catalog.Maintenance{Mode: tt.mode, Message: "new disks"}}); err != nil {
			t.Fatal(err)
		}
		s.refused("admin@pbs", "backup g1 1800000000", 400, tt.backup, "upgrade: wrong") // before the header is looked at
		if tt.reader != "" {
			s.refused("admin@pbs", "reader g1 1700000000", 400, tt.reader, "upgrade: wrong")
		}
	}
}

func TestAdmission(t *testing.T) {
	one := backup.New(backup.Config{}).Cost()
	for _, tt := range []struct {
		name string
		cfg  sessions.Config
		want string
	}{
		{"as many as there may be", sessions.Config{Backups: 2}, "2 backup sessions are running"},
		{"as many as memory is for", sessions.Config{Memory: 2*one + reader.New(reader.Config{}).Cost() - 1}, "no memory is left for another backup session: 2 backups and 0 readers"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, tt.cfg)
			var open []*pbstest.Client
			for i := range 2 {
				c, a := s.ask("admin@pbs", fmt.Sprintf("backup g%d 1700000000", i))
				if c == nil {
					t.Fatalf("%d %s", a.Status, a.Body)
				}
				open = append(open, c)
			}
			if backups, readers := s.Sessions.Active("store1"); backups != 2 || readers != 0 {
				t.Errorf("%d backups and %d readers are counted", backups, readers)
			}
			c, a := s.ask("admin@pbs", "backup g3 1700000000")
			if c != nil || a.Status != http.StatusServiceUnavailable || !strings.Contains(string(a.Body), tt.want) {
				t.Errorf("%d %s, want 503 %s", a.Status, a.Body, tt.want)
			}
			open[0].Close()
			s.idle(1)
			if c, a := s.ask("admin@pbs", "backup g3 1700000000"); c == nil {
				t.Errorf("after one has ended: %d %s", a.Status, a.Body)
			}
		})
	}
}
