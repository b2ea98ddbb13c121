package accounts

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/access/factor"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

const password = "secret12345"

// A site is a router with the accounts of the recordings of a real server
// (golden/real-server): admin, backup and reader with a token each.
type site struct {
	*rest.Router
	accounts *access.Service
	secrets  map[access.AuthID]string
}

func newSite(t *testing.T) *site {
	t.Helper()
	store, err := access.OpenFile(filepath.Join(t.TempDir(), "accounts"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := access.OpenKey(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	s := &site{secrets: map[access.AuthID]string{}}
	if s.accounts, err = access.New(access.Config{Store: store, Key: key}); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"admin@pbs / Admin", "backup@pbs /datastore/store1 DatastoreBackup", "reader@pbs /datastore/store1 DatastoreReader"} {
		f := strings.Fields(line)
		user := access.AuthID(f[0])
		if err := s.accounts.AddUser(t.Context(), access.User{ID: user}, password); err != nil {
			t.Fatal(err)
		}
		token := user + "!tok"
		if s.secrets[token], err = s.accounts.AddToken(t.Context(), access.Token{ID: token}, ""); err != nil {
			t.Fatal(err)
		}
		for _, id := range []access.AuthID{user, token} {
			entry := access.ACLEntry{Path: f[1], ID: id, Role: f[2], Propagate: true}
			if err := s.accounts.ChangeACL(t.Context(), access.Root, access.ACLChange{ACLEntry: entry}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if s.Router, err = rest.New(rest.Config{Gate: s.accounts, Endpoints: Endpoints(s.accounts)}); err != nil {
		t.Fatal(err)
	}
	return s
}

// ask sends "METHOD PATH?QUERY" with a form, as a user, who logs in, or as a
// token, and returns the status and the body.
func (s *site) ask(t *testing.T, who access.AuthID, call string, form url.Values) (int, string) {
	t.Helper()
	method, target, _ := strings.Cut(call, " ")
	req := httptest.NewRequest(method, "/api2/json"+target, strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	switch {
	case who.IsToken():
		req.Header.Set("Authorization", "PBSAPIToken "+string(who)+":"+s.secrets[who])
	case who != "":
		ticket, err := s.accounts.Login(t.Context(), access.Login{User: string(who), Password: password, Source: "192.0.2.1"})
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Cookie", "PBSAuthCookie="+url.QueryEscape(ticket.Text))
		req.Header.Set("CSRFPreventionToken", ticket.CSRF)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, req)
	return w.Code, w.Body.String()
}

// What a real server answers, from its recordings 101 to 103. Comments, the
// default realm and the length of passwords are ours.
func TestRecordedAnswers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	tests := []struct {
		who        access.AuthID
		call, form string
		status     int
		want       string // of the body, or the beginning of its data
	}{
		{"admin@pbs", "GET /access", "", 200, `[{"subdir":"acl"},{"subdir":"domains"},{"subdir":"password"},{"subdir":"permissions"},{"subdir":"roles"},{"subdir":"tfa"},{"subdir":"ticket"},{"subdir":"users"}]`},
		{"admin@pbs", "GET /access/users", "", 200, `[{"userid":"admin@pbs"},{"userid":"backup@pbs"},{"userid":"reader@pbs"},{"userid":"root@pam","comment":"the operator of this machine"}]`},
		{"admin@pbs", "GET /access/users?include_tokens=1", "", 200, `[{"userid":"admin@pbs","tokens":[{"tokenid":"admin@pbs!tok"}]}`},
		{"reader@pbs", "GET /access/users", "", 200, `[{"userid":"reader@pbs"}]`},
		{"admin@pbs", "GET /access/users/admin@pbs", "", 200, `{"userid":"admin@pbs"}`},
		{"admin@pbs", "GET /access/users/admin@pbs/token", "", 200, `[{"tokenid":"admin@pbs!tok","token-name":"tok"}]`},
		{"admin@pbs", "GET /access/users/admin@pbs/token/tok", "", 200, `{"tokenid":"admin@pbs!tok"}`},
		{"admin@pbs", "GET /access/acl?path=/datastore/store1&exact=1", "", 200, `[{"path":"/datastore/store1","ugid":"backup@pbs","ugid_type":"user","propagate":true,"roleid":"DatastoreBackup"},`},
		{"backup@pbs", "GET /access/acl", "", 200, `[{"path":"/datastore/store1","ugid":"backup@pbs!tok","ugid_type":"user","propagate":true,"roleid":"DatastoreBackup"}]`},
		{"backup@pbs!tok", "GET /access/permissions", "", 200, `{"/datastore/store1":{"Datastore.Backup":true}}`},
		{"admin@pbs", "GET /access/permissions?auth-id=backup@pbs!tok&path=/datastore/store1", "", 200, `{"/datastore/store1":{"Datastore.Backup":true}}`},
		{"reader@pbs", "GET /access/permissions?auth-id=admin@pbs", "", 400, "not allowed to list permissions of admin@pbs"},
		{"", "GET /access/domains", "", 200, `[{"comment":"the operator of this machine","realm":"pam","type":"pam"},{"comment":"users kept by holdfast","default":true,"realm":"pbs","type":"pbs"}]`},
		{"admin@pbs", "POST /access/users", "userid=admin%40pbs", 400, "user 'admin@pbs' already exists."},
		{"admin@pbs", "POST /access/users", "userid=u1%40pbs&password=x", 400, "parameter verification failed - 'password': value must be at least 8 characters long"},
		{"admin@pbs", "GET /access/users/ghost@pbs", "", 400, "no such user 'ghost@pbs'"},
		{"admin@pbs", "POST /access/users/vault@node/token/tok", "", 400, "vault@node is the account of a node: it says what that node may read, and nobody logs in with it; make a user in the realm pbs"},
		{"admin@pbs", "POST /access/users/admin@pbs/token/tok", "", 400, "token 'tok' for user 'admin@pbs' already exists."},
		{"admin@pbs", "DELETE /access/users/ghost@pbs", "", 400, "user 'ghost@pbs' does not exist."},
		{"reader@pbs", "DELETE /access/users/admin@pbs", "", 403, "permission check failed"},
		{"admin@pbs", "PUT /access/acl", "path=%2Fnope&role=Admin&auth-id=admin%40pbs", 400, "invalid acl path '/nope'."},
		{"admin@pbs", "PUT /access/acl", "path=%2Fdatastore%2Fstore1&role=Nope&auth-id=admin%40pbs", 400, "parameter verification failed - 'role': value 'Nope' is not defined in the enumeration."},
		{"admin@pbs", "PUT /access/acl", "path=%2Fdatastore%2Fstore1&role=DatastoreReader&auth-id=ghost%40pbs", 400, "no such user."},
		{"reader@pbs", "PUT /access/acl", "path=%2F&role=Admin&auth-id=reader%40pbs", 400, "Unprivileged users can only set ACL items for API tokens."},
		{"admin@pbs", "PUT /access/password", "userid=ghost%40pbs&password=abcdefgh", 401, "missing password"},
		{"", "POST /access/ticket", "username=admin%40pbs&password=wrong", 401, "permission check failed."},
		{"", "POST /access/ticket", "username=admin%40nowhere&password=wrong", 401, "permission check failed."},
	}
	for _, tt := range tests {
		t.Run(string(tt.who)+" "+tt.call+" "+tt.form, func(t *testing.T) {
			t.Parallel() // refusals wait
			form, _ := url.ParseQuery(tt.form)
			status, body := s.ask(t, tt.who, tt.call, form)
			got := body
			if status == http.StatusOK {
				var answer struct{ Data json.RawMessage }
				if err := json.Unmarshal([]byte(body), &answer); err != nil {
					t.Error(err)
				}
				got = string(answer.Data)
			}
			if status != tt.status || !strings.HasPrefix(got, tt.want) || status != 200 && got != tt.want {
				t.Errorf("%d %s, want %d %s", status, got, tt.status, tt.want)
			}
		})
	}
}

// field returns a member of the data of an answer.
func field(t *testing.T, body, name string) string {
	t.Helper()
	var answer struct{ Data map[string]any }
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	text, _ := answer.Data[name].(string)
	return text
}

// must asks for something that has to be answered with 200.
func (s *site) must(t *testing.T, who access.AuthID, call, form string) string {
	t.Helper()
	values, _ := url.ParseQuery(form)
	status, body := s.ask(t, who, call, values)
	if status != http.StatusOK {
		t.Fatalf("%s %s %s: %d %s", who, call, form, status, body)
	}
	return body
}

func TestLifeOfAToken(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	body := s.must(t, "backup@pbs", "POST /access/users/backup@pbs/token/pve1", "comment=host+1")
	if id := field(t, body, "tokenid"); id != "backup@pbs!pve1" {
		t.Errorf("made %s", body)
	}
	s.secrets["backup@pbs!pve1"] = field(t, body, "value")
	if body := s.must(t, "backup@pbs!pve1", "GET /access/permissions", ""); body != `{"data":{}}` {
		t.Errorf("a new token may do %s", body)
	}
	if shown := s.must(t, "backup@pbs", "GET /access/users/backup@pbs/token/pve1", ""); strings.Contains(shown, s.secrets["backup@pbs!pve1"]) || !strings.Contains(shown, "host 1") {
		t.Errorf("shown as %s", shown)
	}
	body = s.must(t, "backup@pbs", "PUT /access/users/backup@pbs/token/pve1", "regenerate=1&delete=comment")
	if status, _ := s.ask(t, "backup@pbs!pve1", "GET /access/permissions", nil); status != 401 {
		t.Errorf("the old secret gets %d", status)
	}
	s.secrets["backup@pbs!pve1"] = field(t, body, "secret")
	s.must(t, "backup@pbs!pve1", "GET /access/permissions", "")
	s.must(t, "backup@pbs", "DELETE /access/users/backup@pbs/token/pve1", "")
	if status, _ := s.ask(t, "backup@pbs!pve1", "GET /access/permissions", nil); status != 401 {
		t.Errorf("a removed token gets %d", status)
	}
}

func TestLifeOfAUser(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(t, "admin@pbs", "POST /access/users", "userid=u1%40pbs&password="+password+"&email=a%40b.example&firstname=Ann")
	if got := s.must(t, "u1@pbs", "GET /access/users/u1@pbs", ""); !strings.Contains(got, `{"userid":"u1@pbs","firstname":"Ann","email":"a@b.example"}`) {
		t.Error(got)
	}
	s.must(t, "u1@pbs", "PUT /access/users/u1@pbs", "comment=me&delete=email&delete=firstname")
	if got := s.must(t, "u1@pbs", "GET /access/users/u1@pbs", ""); !strings.Contains(got, `{"userid":"u1@pbs","comment":"me"}`) {
		t.Error(got)
	}
	// What an administrator decides is not for the user to decide.
	if status, body := s.ask(t, "u1@pbs", "PUT /access/users/u1@pbs", url.Values{"expire": {"0"}}); status != 403 {
		t.Errorf("own expiry: %d %s", status, body)
	}
	stale := url.Values{"comment": {"x"}, "digest": {strings.Repeat("0", 64)}}
	if status, body := s.ask(t, "admin@pbs", "PUT /access/users/u1@pbs", stale); status != 400 || !strings.HasPrefix(body, "detected modified configuration") {
		t.Errorf("stale digest: %d %s", status, body)
	}
	s.must(t, "u1@pbs", "PUT /access/password", "userid=u1%40pbs&password=another12345&confirmation-password="+password)
	if _, err := s.accounts.Login(t.Context(), access.Login{User: "u1@pbs", Password: "another12345", Source: "192.0.2.1"}); err != nil {
		t.Error(err)
	}
	s.must(t, "admin@pbs", "PUT /access/users/u1@pbs", "enable=0")
	if got := s.must(t, "admin@pbs", "GET /access/users/u1@pbs", ""); !strings.Contains(got, `"enable":false`) {
		t.Error(got)
	}
	s.must(t, "admin@pbs", "DELETE /access/users/u1@pbs", "")
}

func TestSecondFactor(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	secret := factor.NewSecret()
	uri := factor.URI("holdfast", "reader@pbs", secret)
	code := codeOf(t, secret)
	if status, _ := s.ask(t, "reader@pbs", "POST /access/tfa/reader@pbs", url.Values{"type": {"totp"}, "totp": {uri}, "value": {code}}); status != 401 {
		t.Errorf("without the password: %d", status)
	}
	form := url.Values{"type": {"totp"}, "totp": {uri}, "value": {code}, "password": {password}}
	status, body := s.ask(t, "reader@pbs", "POST /access/tfa/reader@pbs", form)
	var answer struct{ Data struct{ Recovery []string } }
	if err := json.Unmarshal([]byte(body), &answer); status != 200 || err != nil || len(answer.Data.Recovery) == 0 {
		t.Fatalf("%d %s", status, body)
	}
	login := url.Values{"username": {"reader@pbs"}, "password": {password}}
	_, body = s.ask(t, "", "POST /access/ticket", login)
	challenge := field(t, body, "ticket")
	if !strings.HasPrefix(challenge, "PBS:!tfa!") || field(t, body, "CSRFPreventionToken") != "invalid" {
		t.Fatalf("a password alone gets %s", body)
	}
	login = url.Values{"username": {"reader@pbs"}, "tfa-challenge": {challenge}, "password": {"recovery:" + answer.Data.Recovery[0]}}
	if status, body = s.ask(t, "", "POST /access/ticket", login); status != 200 || strings.Contains(body, "!tfa!") {
		t.Errorf("with a recovery key: %d %s", status, body)
	}
	if got := s.must(t, "admin@pbs", "GET /access/tfa", ""); !strings.Contains(got, `"userid":"reader@pbs"`) {
		t.Error(got)
	}
	s.must(t, "admin@pbs", "DELETE /access/tfa/reader@pbs/totp?password="+password, "")
	s.must(t, "reader@pbs", "GET /access/users", "")
}

// codeOf is what an authenticator shows now (RFC 6238).
func codeOf(t *testing.T, secret string) string {
	t.Helper()
	key, err := factor.ParseSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha1.New, key)
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(time.Now().Unix()/30)))
	sum := mac.Sum(nil)
	at := sum[sum[19]&0xf:]
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(at)&0x7fffffff%1000000)
}
