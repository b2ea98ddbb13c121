package member

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/access/statefile"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
	"github.com/holdfast-mesh/holdfast/node"
	"github.com/holdfast-mesh/holdfast/node/admin"
	"github.com/holdfast-mesh/holdfast/node/keyfile"
	"github.com/holdfast-mesh/holdfast/node/operator"
)

// A signer has the operators' keys where they are needed.
type signer struct {
	o     *cli.Options
	files []string
	to    string // file for what other operators are still to sign
	alone bool   // one key is enough: that on paper

	only func(what string) bool // nil: whatever the action does
}

func (s *signer) flag(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&s.files, "operator-key", nil, "file with an operator's key, may be repeated; default: "+node.OperatorFile+" in the node's directory")
	cmd.Flags().StringVar(&s.to, "sign-to", "", "if more operators have to sign: the file to write for them, see operator sign")
}

// keys reads the operators' keys.
func (s *signer) keys() (keys []ed25519.PrivateKey, err error) {
	files := s.files
	if len(files) == 0 {
		files = []string{filepath.Join(s.o.Data, node.OperatorFile)}
	}
	for _, file := range files {
		key, err := keyfile.Read(file)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, cli.Hint(fmt.Errorf("the operator's key is not here: %w", err), "bring it back for a moment and name it with --operator-key FILE; `holdfast node init` said where it was")
		}
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// tries is how often what was overtaken is drafted and signed once more, and pause how
// long is waited before: the node may yet have to hear what was taken.
const (
	tries = 2
	pause = time.Second
)

// call calls the API twice: for what is to be signed, and with the signatures. If
// something else was signed between the two, it does so again, as long as that cannot
// undo what somebody else has just decided.
func (s *signer) call(ctx context.Context, c *admin.Client, keys []ed25519.PrivateKey, action, method, path string, params url.Values) (admin.Result, error) {
	for try := 0; ; try++ {
		r, err := s.once(ctx, c, keys, action, method, path, params)
		if !operator.Overtaken(err) || try == tries || !slices.Contains([]string{operator.Invite, operator.Revoke, operator.Change, operator.Remove}, action) {
			return r, err
		}
		if !s.o.Quiet {
			fmt.Fprintln(s.o.Err, "something else was signed meanwhile; once more")
		}
		select {
		case <-ctx.Done():
			return r, err
		case <-time.After(pause):
		}
		params.Del("link")
	}
}

// once is call, once. The first answer is put into the parameters of the second, where
// it says so.
func (s *signer) once(ctx context.Context, c *admin.Client, keys []ed25519.PrivateKey, action, method, path string, params url.Values) (admin.Result, error) {
	params.Set("draft", "1")
	r, err := daemon.Call(ctx, c, method, path, params)
	if err != nil || string(r.Data) == "null" { // it needed no signature, and is done
		return r, err
	}
	var draft operator.Draft
	more := map[string]any{}
	if err := errors.Join(r.Into(&draft), json.Unmarshal(r.Data, &more)); err != nil {
		return r, err
	}
	link, what, err := draft.Sign(action, keys...)
	if err != nil {
		return r, err
	}
	if s.only != nil && !s.only(what) {
		return r, fmt.Errorf("sign: the daemon's draft would %s, which was not asked for; is it yours?", what)
	}
	s.say(what)
	params.Del("draft")
	params.Set("link", link)
	for _, name := range []string{"invite", "seed", "expires"} {
		switch v := more[name].(type) {
		case string:
			params.Set(name, v)
		case float64:
			params.Set(name, fmt.Sprintf("%.0f", v))
		}
	}
	draft.Link = link
	if have := draft.Signatures(); have < draft.Need && !s.alone {
		return r, s.pass(request{draft, operator.Call{Method: method, Path: path, Params: params}}, have)
	}
	return daemon.Call(ctx, c, method, path, params)
}

func (s *signer) say(what string) {
	if !s.o.Quiet {
		fmt.Fprintln(s.o.Err, "signed with the operator's key: "+what)
	}
}

// A request waits for signatures, in a file.
type request struct {
	operator.Draft
	operator.Call
}

// pass writes a request for other operators, and says so as an error: nothing is
// done yet.
func (s *signer) pass(r request, have int) error {
	err := fmt.Errorf("nothing is changed yet: %d operators have signed, and %d have to", have, r.Need)
	if s.to == "" {
		return cli.Hint(err, "name the other keys with --operator-key, too, or with --sign-to FILE write what their owners sign")
	}
	text, wrong := json.Marshal(r)
	if wrong == nil {
		_, wrong = statefile.WriteSecret(s.to, text, true)
	}
	if wrong != nil {
		return wrong
	}
	return cli.Hint(fmt.Errorf("%w; %s is for the others", err, s.to),
		"each of them: holdfast operator sign "+s.to+" --operator-key KEY; then, on a member: holdfast operator submit "+s.to)
}

const maxRequest = 1 << 20

// readRequest reads a request, and the call that its link stands for.
func readRequest(file string) (r request, call operator.Call, err error) {
	text, err := statefile.ReadSecret(file, maxRequest)
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err == nil {
		call, err = r.Implied(r.Call)
	}
	if err != nil {
		return r, call, cli.Hint(fmt.Errorf("read what is to be signed, from %s: %w", file, err), "have it made again, with --sign-to FILE on a member; do not sign or submit this one")
	}
	return r, call, nil
}
