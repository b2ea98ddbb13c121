package member

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/node/admin"
	"github.com/holdfast-mesh/holdfast/node/operator"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// A busy cluster is one where others sign, too: so many links are taken between the
// draft of a node's role and the signed link.
type busy struct {
	chain   *authority.Chain
	key     ed25519.PrivateKey
	between int
	drafts  int
	signers bool // others are to be the operators, instead
}

func (b *busy) node(name string) authority.Node {
	return authority.Node{Key: authority.PublicKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte(name[:1]), 32))), Name: name, Site: "s", Role: "full"}
}

func (b *busy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var answer any
	if r.FormValue("draft") != "" {
		b.drafts++
		answer = operator.NewDraft(b.chain, authority.AddNode, b.node("nas"))
		if b.signers {
			answer = operator.NewDraft(b.chain, authority.NewOperators, authority.OperatorsBody{Operators: []authority.Key{authority.PublicKey(b.key)}, Threshold: 1})
		}
		if b.between > 0 {
			b.between--
			b.chain, _ = b.chain.Next(b.chain.Sign(b.chain.Draft(authority.AddNode, b.node("dc")), b.key))
		}
	} else {
		link, _ := base64.StdEncoding.DecodeString(r.FormValue("link"))
		next, err := b.chain.Next(link)
		if err != nil {
			w.Header().Set(rest.HintHeader, operator.Again)
			http.Error(w, "something else was signed: "+err.Error(), http.StatusBadRequest)
			return
		}
		b.chain = next
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"data": answer})
}

// `invite revoke` failed with "link 26 does not stand behind link 26", since another
// operator had signed something between the two calls that it makes.
func TestWhatWasOvertakenIsSignedAgain(t *testing.T) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	for _, c := range []struct {
		action          string
		between, drafts int
		want            string // in the error; "": it is done
	}{
		{operator.Change, 0, 1, ""},
		{operator.Change, 1, 2, ""},
		{operator.Change, 2, 3, ""},
		{operator.Change, 9, 3, authority.Behind},
		{operator.Signers, 1, 1, authority.Behind}, // it would undo what was signed
	} {
		chain, err := authority.Read([][]byte{authority.Found(authority.GenesisBody{Cluster: [16]byte{1}, Operators: []authority.Key{authority.PublicKey(key)}, Threshold: 1}, key)})
		if err != nil {
			t.Fatal(err)
		}
		b := &busy{chain: chain, key: key, between: c.between, signers: c.action == operator.Signers}
		dir, err := os.MkdirTemp("", "hf") // short: there is a socket in it
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		l, err := net.Listen("unix", filepath.Join(dir, admin.Socket))
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: b}
		go func() { _ = server.Serve(l) }() // until it is closed
		t.Cleanup(func() { server.Close() })
		client := admin.NewClient(dir)
		s := &signer{o: &cli.Options{Env: cli.Env{Err: &bytes.Buffer{}}}}
		_, err = s.call(t.Context(), client, []ed25519.PrivateKey{key}, c.action, http.MethodPut, memberPath, url.Values{"member": {"nas"}, "vote": {"false"}})
		client.Close()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) || b.drafts != c.drafts {
			t.Errorf("%s, %d between: %d drafts, %v", c.action, c.between, b.drafts, err)
		}
		if _, is := b.chain.Node(b.node("nas").Key); is != (c.want == "") {
			t.Errorf("%s, %d between: the node is in the chain: %t", c.action, c.between, is)
		}
	}
}
