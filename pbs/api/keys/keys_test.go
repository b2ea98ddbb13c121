package keys_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/api/keys"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
)

// A ring keeps keys in memory. That they are sealed and where they go is tested where
// it is, in the package keyring of a node.
type ring struct {
	list []keys.Info
	made map[string]*chunks.Key // nil: a new one was asked for
}

func (r *ring) List() []keys.Info { return r.list }

func (r *ring) Add(_ context.Context, name string, key *chunks.Key, o keys.Options) error {
	if slices.Contains(o.Nodes, "mars") {
		return fmt.Errorf("there is no node 'mars'")
	}
	r.made[name] = key
	r.list = append(r.list, keys.Info{ID: name, KDF: "none", Fingerprint: "01:02", Hint: o.Hint, Comment: o.Comment, Nodes: o.Nodes})
	return nil
}

func (r *ring) at(name string) (*keys.Info, error) {
	for i := range r.list {
		if r.list[i].ID == name {
			return &r.list[i], nil
		}
	}
	return nil, fmt.Errorf("%w '%s'", keys.ErrNone, name)
}

func (r *ring) Archive(_ context.Context, name string, archive bool) error {
	k, err := r.at(name)
	if err == nil {
		if k.ArchivedAt = 0; archive {
			k.ArchivedAt = 1_700_000_000
		}
	}
	return err
}

func (r *ring) Share(_ context.Context, name string, nodes []string) error {
	k, err := r.at(name)
	if err == nil {
		k.Nodes = append(k.Nodes, nodes...)
	}
	return err
}

func (r *ring) Remove(_ context.Context, name string) error {
	if k, err := r.at(name); err != nil {
		return err
	} else if k.ArchivedAt == 0 {
		return fmt.Errorf("key '%s' is not archived", name)
	}
	r.list = slices.DeleteFunc(r.list, func(k keys.Info) bool { return k.ID == name })
	return nil
}

// Keys are added, listed without what they are, archived, shared and removed as a PBS
// has it, by who may.
func TestKeys(t *testing.T) {
	t.Parallel()
	r := &ring{made: map[string]*chunks.Key{}}
	w := storestest.New(t)
	w.Serve(t, keys.Endpoints(r)...)
	w.AddUser(t, "boss@pbs", "/system/encryption-keys Admin")
	w.AddUser(t, "one@pbs", "/system/encryption-keys/key1 Admin")
	w.AddUser(t, "eye@pbs", "/system/encryption-keys Audit")
	w.AddUser(t, "none@pbs")
	file, err := os.ReadFile("../../../chunks/keys/testdata/none.json")
	if err != nil {
		t.Fatal(err)
	}
	locked, err := os.ReadFile("../../../chunks/keys/testdata/scrypt.json")
	if err != nil {
		t.Fatal(err)
	}
	const all = "/config/encryption-keys"
	for _, tt := range []struct {
		who, method, path, form string
		status                  int
		says                    string
	}{
		{"none@pbs", "POST", all, "id=key1", 403, ""},
		{"one@pbs", "POST", all, "id=key2", 403, ""},
		{"boss@pbs", "POST", all, "id=key1&hint=in the safe&comment=of the office&node=home&node=dc", 200, "null"},
		{"boss@pbs", "POST", all, "id=key1", 400, "key 'key1' already exists"},
		{"boss@pbs", "POST", all, "id=key2&" + url.Values{"key": {string(file)}}.Encode(), 200, "null"},
		{"boss@pbs", "POST", all, "id=key3&" + url.Values{"key": {string(locked)}}.Encode(), 400, "key"},
		{"boss@pbs", "POST", all, "id=key3&key=none", 400, "'key'"},
		{"boss@pbs", "POST", all, "id=key3&node=mars", 400, "no node 'mars'"},
		{"boss@pbs", "POST", all, "id=k/3", 400, "'id'"},
		{"boss@pbs", "POST", all, "id=key3&comment=" + strings.Repeat("x", 129), 400, "'comment'"},
		{"none@pbs", "GET", all, "", 200, "[]"},
		{"eye@pbs", "GET", all, "", 200, `"id":"key1"`},
		{"eye@pbs", "POST", all + "/key1", "", 403, ""},
		{"none@pbs", "DELETE", all + "/key1", "", 403, ""},
		{"boss@pbs", "PUT", all + "/key2", "node=dc", 200, ""},
		{"boss@pbs", "PUT", all + "/key2", "", 400, "'node'"},
		{"boss@pbs", "DELETE", all + "/key2", "", 400, "is not archived"},
		{"one@pbs", "POST", all + "/key1", "", 200, ""}, // it is archived
		{"boss@pbs", "POST", all + "/key9", "", 400, "there is no key 'key9'"},
		{"boss@pbs", "POST", all + "/key2", "archived=0", 200, ""},
		{"boss@pbs", "DELETE", all + "/key2", "", 400, "is not archived"},
		{"boss@pbs", "POST", all + "/key2", "archived=1", 200, ""},
		{"boss@pbs", "GET", all, "", 200, `{"data":[]}`},
		{"boss@pbs", "GET", all + "?include-archived=1", "", 200, `"archived-at":1700000000`},
		{"one@pbs", "DELETE", all + "/key2", "", 403, ""},
		{"boss@pbs", "DELETE", all + "/key2", "", 200, ""},
		{"one@pbs", "POST", all + "/key1", "", 200, ""}, // and back
	} {
		status, body := w.Ask(tt.who, tt.method, tt.path, storestest.Form, strings.ReplaceAll(tt.form, " ", "%20"))
		if status != tt.status || !strings.Contains(body, tt.says) {
			t.Errorf("%s: %s %s %.60s: %d %s, want %d %s", tt.who, tt.method, tt.path, tt.form, status, body, tt.status, tt.says)
		}
		if strings.Contains(body, `"key"`) || strings.Contains(body, `"data":"`) {
			t.Errorf("%s %s shows a key: %s", tt.method, tt.path, body)
		}
	}
	if k := r.made["key2"]; k == nil || r.made["key1"] != nil {
		t.Errorf("added: %v", r.made)
	}
	if len(r.list) != 1 || r.list[0].ID != "key1" || r.list[0].ArchivedAt != 0 || r.list[0].Hint != "in the safe" || !slices.Equal(r.list[0].Nodes, []string{"home", "dc"}) {
		t.Errorf("in the end there is %+v", r.list)
	}
}
