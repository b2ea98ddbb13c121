package members

import (
	"crypto/ed25519"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/node/keyfile"
	"github.com/holdfast-mesh/holdfast/node/operator"
)

// `operator submit` of what one of two had signed said "1 of the operators have signed,
// want 2", and not who had not; and `member eject` had whoever signs elsewhere sign for
// the removal of an ID without a name.
func TestWhoHasNotSigned(t *testing.T) {
	w := newWorld(t)
	keys, ids := []ed25519.PrivateKey{w.operator}, []string{operator.Name(w.operator)}
	for range 2 {
		key, err := keyfile.Make(filepath.Join(t.TempDir(), "key"))
		if err != nil {
			t.Fatal(err)
		}
		keys, ids = append(keys, key), append(ids, operator.Name(key))
	}
	var m made
	if err := w.sign(operator.Invite, "POST", "/invites", url.Values{"role": {"full"}}, &m); err != nil {
		t.Fatal(err)
	}
	dc, err := w.join(m.Token, "dc", "s")
	if err != nil {
		t.Fatal(err)
	}
	do := func(action, method, path string, params url.Values, by ...ed25519.PrivateKey) (operator.Draft, error) {
		t.Helper()
		var d operator.Draft
		if err := w.call(method, path, params, &d); err != nil {
			t.Fatal(err)
		}
		link, _, err := d.Sign(action, by...)
		if err != nil {
			t.Fatal(err)
		}
		params.Set("link", link)
		return d, w.call(method, path, params, nil)
	}
	set := func() url.Values { return url.Values{"operator": ids, "threshold": {"2"}} }
	if _, err := do(operator.Signers, "POST", "/operators", set(), keys[0], keys[2]); err == nil || !strings.Contains(err.Error(), "each of these has to: "+ids[1]) {
		t.Errorf("a new operator has not signed: %v", err)
	}
	if _, err := do(operator.Signers, "POST", "/operators", set(), keys...); err != nil {
		t.Fatal(err)
	}
	eject := url.Values{"eject": {"1"}}
	d, err := do(operator.Remove, "DELETE", "/members/dc", eject, keys[1])
	if err == nil || !strings.Contains(err.Error(), "1 more of these: ") || !strings.Contains(err.Error(), ids[0]) || !strings.Contains(err.Error(), ids[2]) {
		t.Errorf("one has signed: %v", err)
	}
	if d.Names[dc.NodeID()] != "dc" || len(d.Names) != 1 || len(d.Operators) != 3 || d.Threshold != 2 || d.Recovery != "" {
		t.Errorf("the draft has %+v", d.Voices)
	}
	eject.Del("link")
	if _, err := do(operator.Remove, "DELETE", "/members/dc", eject, keys[1], keys[2]); err != nil {
		t.Error(err)
	}
}
