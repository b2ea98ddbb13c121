package notifications_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/pbs/api/notifications"
	"github.com/holdfast-mesh/holdfast/pbs/secrets"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
)

// A teller takes all but what is called bad. What a target does is tested in the
// packages below notify.
type teller struct {
	tested []string
	with   map[string]string // secrets of the target that was looked at last
}

func (t *teller) CheckTarget(target settings.NotifyTarget, secrets map[string]string) error {
	t.with = secrets
	if target.Comment == "bad" {
		return errors.New("it is bad")
	}
	return nil
}

func (t *teller) CheckMatcher(m settings.NotifyMatcher) error {
	if m.Comment == "bad" {
		return errors.New("it is bad")
	}
	return nil
}

func (t *teller) Test(_ context.Context, target string) error {
	t.tested = append(t.tested, target)
	if target == "deaf" {
		return errors.New("connection refused")
	}
	return nil
}

func (*teller) Deliveries() any { return []map[string]int{{"waiting": 7}} }
func (*teller) Types() []string { return []string{"gc", "sync"} }

const secret = "hush-hush-3f8a"

func coded(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

type world struct {
	*storestest.World
	t    *testing.T
	dir  string
	tell *teller
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{World: storestest.New(t, "main"), t: t, dir: t.TempDir(), tell: &teller{}}
	s, err := secrets.Open(filepath.Join(w.dir, "secrets.json"))
	if err != nil {
		t.Fatal(err)
	}
	w.Serve(t, notifications.Endpoints(notifications.Config{Settings: w.Settings, Secrets: s, Teller: w.tell})...)
	w.AddUser(t, "boss@pbs", "/system/notifications Admin")
	w.AddUser(t, "eye@pbs", "/system/notifications Audit")
	w.AddUser(t, "none@pbs")
	return w
}

// do calls the API as the boss, who is never answered with a secret.
func (w *world) do(method, path, form, want string) string {
	w.t.Helper()
	status, body := w.Ask("boss@pbs", method, path, storestest.Form, form)
	if want == "" && status != 200 || want != "" && (status == 200 || !strings.Contains(body, want)) {
		w.t.Errorf("%s %s %s: %d %s, want %q", method, path, form, status, body, want)
	}
	if strings.Contains(body, secret) || strings.Contains(body, coded(secret)) {
		w.t.Errorf("%s %s shows a secret: %s", method, path, body)
	}
	return body
}

// kept tells whether a secret is in the file of secrets.
func (w *world) kept(text string) bool {
	data, err := os.ReadFile(filepath.Join(w.dir, "secrets.json"))
	return err == nil && strings.Contains(string(data), text)
}

const (
	endpoints = "/config/notifications/endpoints/"
	ours      = "/holdfast/notifications/"
	matchers  = "/config/notifications/matchers"
)

// Of each kind a target is made, shown without its secret, changed, and removed with
// it; what it needs has to be there.
func TestTargets(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		path, form string // without a name
		must       string // parameters that have to be there
		shown      string
		change     string // a parameter with another value
		secret     string // the parameter that is one
	}{
		{endpoints + "smtp", "server=mail.example.org&port=587&mode=starttls&username=u&password=SECRET&mailto=a@example.org&mailto=b@example.org&from-address=f@example.org&author=us", "server mailto from-address", `"mailto":["a@example.org","b@example.org"]`, "port=25", "password"},
		{endpoints + "gotify", "server=https://push.example.org&token=SECRET", "server token", `"server":"https://push.example.org"`, "server=https://other.example.org", "token"},
		{ours + "ntfy", "server=https://ntfy.example.org&topic=backups&username=u&password=SECRET", "server topic", `"topic":"backups"`, "topic=more", "password"},
		{ours + "service", "url=slack://SECRET", "url", `"name":"one"`, "interval=12h", "url"},
		{endpoints + "webhook", "url=https://hook.example.org&method=put&body=" + coded("{{ title }}") + "&header=name%3DX-A,value%3D" + coded("b") + "&secret=name%3Dtoken,value%3DBASE64", "url", `"secret":["name=token"]`, "method=post", ""},
	} {
		t.Run(tt.path[strings.LastIndex(tt.path, "/")+1:], func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			form := strings.NewReplacer("SECRET", secret, "BASE64", url.QueryEscape(coded(secret))).Replace(tt.form) + "&comment=what it is for"
			for name := range strings.FieldsSeq(tt.must) {
				q, err := url.ParseQuery(form)
				if err != nil {
					t.Fatal(err)
				}
				q.Del(name)
				w.do("POST", tt.path, "name=one&"+q.Encode(), "'"+name+"'")
			}
			w.do("POST", tt.path, "name=one&"+strings.Replace(form, "comment=what", "interval=often&comment=what", 1)+"&port=99999&disable=perhaps", "'disable'")
			w.do("POST", tt.path, "name=one&"+strings.Replace(form, "what it is for", "bad", 1), "it is bad")
			if w.kept(secret) {
				t.Error("the secret of a target that is refused is kept")
			}
			w.do("POST", tt.path, "name=one&"+form, "")
			w.do("POST", tt.path, "name=one&"+form, "already exists")
			if !w.kept(secret) || w.tell.with[""]+w.tell.with["token"] != secret && !strings.Contains(w.tell.with[""], secret) {
				t.Errorf("the secret is not kept, or not looked at: %v", w.tell.with)
			}
			for _, path := range []string{tt.path, tt.path + "/one"} {
				if got := w.do("GET", path, "", ""); !strings.Contains(got, tt.shown) || !strings.Contains(got, "what it is for") {
					t.Errorf("%s shows %s", path, got)
				}
			}
			if got := w.do("GET", "/config/notifications/targets", "", ""); !strings.Contains(got, `"name":"one"`) || !strings.Contains(got, `"origin":"user-created"`) {
				t.Errorf("targets: %s", got)
			}
			name, value, _ := strings.Cut(tt.change, "=")
			w.do("PUT", tt.path+"/one", tt.change+"&delete=comment", "")
			if got := w.do("GET", tt.path+"/one", "", ""); !strings.Contains(got, strings.TrimSuffix(`"`+name+`":`+value, "h")) && !strings.Contains(got, `"`+name+`":"`+value+`"`) || strings.Contains(got, "what it is for") {
				t.Errorf("changed: %s", got)
			}
			w.do("PUT", tt.path+"/one", "comment=bad", "it is bad")
			w.do("PUT", tt.path+"/none", "comment=x", "does not exist")
			w.do("PUT", tt.path+"/one", "delete="+strings.Fields(tt.must)[0], "'delete'")
			w.do("POST", matchers, "name=all&target=one", "")
			w.do("DELETE", tt.path+"/one", "", "referenced by: all")
			w.do("DELETE", matchers+"/all", "", "")
			w.do("DELETE", tt.path+"/one", "", "")
			w.do("DELETE", tt.path+"/one", "", "does not exist")
			if w.kept(secret) || w.kept(coded(secret)) {
				t.Error("the target is gone, and its secret is there still")
			}
		})
	}
}

// A matcher names targets that there are, and its options are checked, kept and taken
// back.
func TestMatchers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do("POST", ours+"ntfy", "name=phone&server=https://ntfy.example.org&topic=t", "")
	w.do("POST", matchers, "name=one&target=nobody", "could not find endpoint 'nobody'")
	w.do("POST", matchers, "name=one&target=phone&mode=some", "'mode'")
	w.do("POST", matchers, "name=one&target=phone&comment=bad", "it is bad")
	w.do("POST", matchers, "name=one&target=phone&mode=any&match-severity=error&match-severity=warning&match-field=exact:type%3Dgc&match-calendar=mon..fri 8-17&invert-match=1&comment=by day", "")
	w.do("POST", matchers, "name=one&target=phone", "already exists")
	if got := w.do("GET", matchers+"/one", "", ""); !strings.Contains(got, `"match-severity":["error","warning"]`) || !strings.Contains(got, `"match-calendar":["mon..fri 8-17"]`) || !strings.Contains(got, `"invert-match":true`) || !strings.Contains(got, `"mode":"any"`) {
		t.Errorf("shown: %s", got)
	}
	w.do("PUT", matchers+"/one", "delete=mode&delete=match-severity&delete=match-field&delete=match-calendar&delete=invert-match&delete=comment", "")
	if m := w.Settings.State().NotifyMatchers[0]; m.Mode != "" || len(m.Severity)+len(m.Field)+len(m.Calendar) > 0 || m.Invert || m.Comment != "" || len(m.Target) != 1 {
		t.Errorf("taken back: %+v", m)
	}
	w.do("PUT", matchers+"/one", "target=nobody", "could not find endpoint")
	w.do("PUT", matchers+"/one", "delete=name", "'delete'")
	w.do("PUT", matchers+"/two", "comment=x", "does not exist")
	w.do("PUT", matchers+"/one", "comment=x&digest="+strings.Repeat("0", 64), settings.ErrModified.Error())
	w.do("DELETE", matchers+"/one", "", "")
	w.do("DELETE", matchers+"/one", "", "does not exist")
}

// A target is tried at once, how deliveries stand is shown, and what matchers can
// match; who may look may not change.
func TestTestAndLists(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.Settings.Update(t.Context(), func(s *settings.State) error {
		s.SyncJobs = []settings.SyncJob{{ID: "copy-job", Store: "main", Remote: "dc", RemoteStore: "main", Comment: "from dc"}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	w.do("POST", ours+"ntfy", "name=phone&server=https://ntfy.example.org&topic=t", "")
	w.do("POST", ours+"ntfy", "name=deaf&server=https://ntfy.example.org&topic=t", "")
	w.do("POST", "/config/notifications/targets/phone/test", "", "")
	w.do("POST", "/config/notifications/targets/deaf/test", "", "connection refused")
	w.do("POST", "/config/notifications/targets/none/test", "", "could not find endpoint 'none'")
	if got := strings.Join(w.tell.tested, " "); got != "phone deaf" {
		t.Errorf("tried %s", got)
	}
	for path, want := range map[string]string{
		ours + "deliveries":                          `"waiting":7`,
		"/config/notifications/matcher-fields":       `{"name":"job-id"}`,
		"/config/notifications/matcher-field-values": `{"field":"job-id","value":"copy-job","comment":"from dc"}`,
	} {
		if got := w.do("GET", path, "", ""); !strings.Contains(got, want) {
			t.Errorf("%s: %s", path, got)
		}
		if status, _ := w.Ask("eye@pbs", "GET", path, "", ""); status != 200 {
			t.Errorf("who may look: %s: %d", path, status)
		}
		if status, _ := w.Ask("none@pbs", "GET", path, "", ""); status != 403 {
			t.Errorf("who may not: %s: %d", path, status)
		}
	}
	for _, call := range []string{"POST " + matchers, "DELETE " + ours + "ntfy/phone", "PUT " + ours + "ntfy/phone", "POST /config/notifications/targets/phone/test"} {
		method, path, _ := strings.Cut(call, " ")
		if status, body := w.Ask("eye@pbs", method, path, storestest.Form, "name=two"); status != 403 {
			t.Errorf("who may only look: %s: %d %s", call, status, body)
		}
	}
}
