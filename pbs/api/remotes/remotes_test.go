package remotes_test

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/pbs/api/remotes"
	"github.com/holdfast-mesh/holdfast/pbs/secrets"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
)

const secret = "hush-hush-9d1c"

// A vault seals by turning a text round; its nodes are here, dc and nas.
type vault map[string]settings.Store

func (vault) Self() string                             { return "id-here" }
func (vault) Name(id string) string                    { return strings.TrimPrefix(id, "id-") }
func (v vault) Settings(id string) settings.Store      { return v[id] }
func (vault) Seal(id, password string) ([]byte, error) { return reversed(id + "/" + password), nil }

func (v vault) Find(node string) (string, error) {
	if v["id-"+node] == nil {
		return "", fmt.Errorf("there is no node '%s'", node)
	}
	return "id-" + node, nil
}

func (vault) Password(r settings.Remote) (string, error) {
	node, password, _ := strings.Cut(string(reversed(string(r.Sealed))), "/")
	if node != "id-here" {
		return "", fmt.Errorf("it is sealed to %s", node)
	}
	return password, nil
}

func reversed(s string) []byte {
	b := []byte(s)
	slices.Reverse(b)
	return b
}

type world struct {
	*storestest.World
	t     *testing.T
	nodes vault
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{World: storestest.New(t, "main"), t: t}
	w.nodes = vault{"id-here": w.Settings}
	for _, other := range []string{"id-dc", "id-nas"} {
		f, err := settings.OpenFile(filepath.Join(t.TempDir(), "settings.json"))
		if err != nil {
			t.Fatal(err)
		}
		w.nodes[other] = f
	}
	s, err := secrets.Open(filepath.Join(t.TempDir(), "secrets.json"))
	if err != nil {
		t.Fatal(err)
	}
	w.Serve(t, remotes.Endpoints(remotes.Config{Settings: w.Settings, Secrets: s, Vault: w.nodes})...)
	w.AddUser(t, "boss@pbs", "/remote RemoteAdmin")
	w.AddUser(t, "eye@pbs", "/remote RemoteAudit")
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
	if strings.Contains(body, secret) || strings.Contains(body, string(reversed(secret))) || strings.Contains(body, "sealed") {
		w.t.Errorf("%s %s shows the password: %s", method, path, body)
	}
	return body
}

// at returns a remote as a node has it.
func (w *world) at(node, name string) settings.Remote {
	r, _ := w.nodes["id-"+node].State().Remote(name)
	return r
}

const office = "name=office&host=pbs.example.org&auth-id=sync@pbs&password=" + secret

// A remote is made, shown without its password, changed a field at a time, and
// removed; nonsense is refused by the name of the parameter.
func TestRemote(t *testing.T) {
	w := newWorld(t)
	w.do("POST", "/config/remote", office+"&port=8008&comment=the+office", "")
	w.do("POST", "/config/remote", office, "already exists")
	for param, wrong := range map[string]string{"host": "", "auth-id": "nobody", "fingerprint": "12:34", "port": "0", "node": "mars"} {
		form, _ := url.ParseQuery(office)
		form.Set("name", "two")
		form.Set(param, wrong)
		w.do("POST", "/config/remote", form.Encode(), param)
	}
	w.do("POST", "/config/remote", "name=two&host=h&auth-id=a@pbs", "password")
	print := strings.Repeat("0a:", 31) + "0a"
	w.do("PUT", "/config/remote/office", "fingerprint="+strings.ToUpper(print), "")
	if got := w.do("GET", "/config/remote/office", "", ""); !strings.Contains(got, print) || !strings.Contains(got, `"port":8008`) || !strings.Contains(got, "the office") {
		t.Errorf("one field was changed: %s", got)
	}
	w.do("PUT", "/config/remote/office", "delete=comment&delete=port", "")
	if r := w.at("here", "office"); r.Comment != "" || r.Port != 0 || r.Fingerprint != print {
		t.Errorf("set back: %+v", r)
	}
	w.do("PUT", "/config/remote/office", "delete=host", "delete")
	w.do("PUT", "/config/remote/none", "host=x", "no such remote")
	if status, body := w.Ask("eye@pbs", "GET", "/config/remote", "", ""); status != 200 || !strings.Contains(body, "office") {
		t.Errorf("who may look: %d %s", status, body)
	}
	if _, body := w.Ask("none@pbs", "GET", "/config/remote", "", ""); strings.Contains(body, "office") {
		t.Errorf("who may not: %s", body)
	}
	err := w.Settings.Update(t.Context(), func(s *settings.State) error {
		s.SyncJobs = []settings.SyncJob{{ID: "j", Store: "main", Remote: "office", RemoteStore: "x"}}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.do("DELETE", "/config/remote/office", "", "is used by sync job 'j'")
}

// Nodes that may use a remote have its record, with the password sealed to each; a
// change reaches all of them.
func TestShare(t *testing.T) {
	w := newWorld(t)
	w.do("POST", "/config/remote", office+"&node=dc", "")
	sealedTo := func(node, password string) {
		t.Helper()
		if got := string(reversed(string(w.at(node, "office").Sealed))); got != "id-"+node+"/"+password {
			t.Errorf("%s has %q", node, got)
		}
	}
	sealedTo("here", secret)
	sealedTo("dc", secret)
	if got := w.do("GET", "/config/remote", "", ""); !strings.Contains(got, `"nodes":["dc","here"]`) {
		t.Errorf("shown as %s", got)
	}
	if err := w.nodes["id-nas"].Update(t.Context(), func(s *settings.State) error {
		s.Remotes = []settings.Remote{{Name: "office", Host: "other.example.org", AuthID: "x@pbs"}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	w.do("PUT", "/holdfast/remotes/office/share", "node=nas", "has another remote 'office'")
	if err := w.nodes["id-nas"].Update(t.Context(), func(s *settings.State) error { s.Remotes = nil; return nil }); err != nil {
		t.Fatal(err)
	}
	w.do("PUT", "/holdfast/remotes/office/share", "node=nas", "")
	sealedTo("nas", secret)
	w.do("PUT", "/config/remote/office", "host=new.example.org", "")
	w.do("PUT", "/config/remote/office", "password=another", "")
	for _, node := range []string{"here", "dc", "nas"} {
		sealedTo(node, "another")
		if r := w.at(node, "office"); r.Host != "new.example.org" || len(r.Nodes) != 3 {
			t.Errorf("%s has %+v", node, r)
		}
	}
	w.do("DELETE", "/config/remote/office?node=mars", "", "no node 'mars'")
	w.do("DELETE", "/config/remote/office?node=nas", "", "")
	if _, is := w.nodes["id-nas"].State().Remote("office"); is {
		t.Error("taken back from nas, it has it still")
	}
	for _, node := range []string{"here", "dc"} {
		if sealedTo(node, "another"); slices.Contains(w.at(node, "office").Nodes, "id-nas") {
			t.Errorf("%s has %+v", node, w.at(node, "office"))
		}
	}
	w.do("DELETE", "/config/remote/office?node=nas", "", "may not use remote")
	use := func(jobs ...settings.SyncJob) {
		t.Helper()
		if err := w.nodes["id-dc"].Update(t.Context(), func(s *settings.State) error {
			s.Datastores, s.SyncJobs = []settings.Datastore{{Name: "main", Path: "/x"}}, jobs
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	use(settings.SyncJob{ID: "j", Store: "main", Remote: "office", RemoteStore: "x"})
	w.do("DELETE", "/config/remote/office", "", "is used by sync job 'j' (datastore 'main') of node dc")
	sealedTo("here", "another")
	use()
	w.do("DELETE", "/config/remote/office", "", "")
	for _, node := range []string{"here", "dc"} {
		if r := w.at(node, "office"); r.Name != "" {
			t.Errorf("removed, %s has %+v", node, r)
		}
	}
}

// Who may use a remote and is the one that it is removed at leaves it to the others.
func TestRemoveHere(t *testing.T) {
	w := newWorld(t)
	w.do("POST", "/config/remote", office+"&node=dc", "")
	w.do("DELETE", "/config/remote/office?node=here", "", "")
	if r := w.at("dc", "office"); r.Name == "" || slices.Contains(r.Nodes, "id-here") || len(r.Sealed) == 0 {
		t.Errorf("removed here, dc has %+v", r)
	}
	if r := w.at("here", "office"); r.Name != "" {
		t.Errorf("removed here, it is %+v", r)
	}
}

// Two remotes that are the same user of the same server are warned of (features
// row 62).
func TestSameUser(t *testing.T) {
	w := newWorld(t)
	w.do("POST", "/config/remote", office, "")
	if got := w.do("POST", "/config/remote", strings.Replace(office, "name=office", "name=two", 1)+"&port=8007", ""); !strings.Contains(got, "is also the user of remote office") {
		t.Errorf("the same user: %s", got)
	}
	if got := w.do("PUT", "/config/remote/two", "auth-id=push@pbs", ""); strings.Contains(got, "warning") {
		t.Errorf("another user: %s", got)
	}
}
