package member

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/signatures"
	"github.com/holdfast-mesh/holdfast/node/admin"
	"github.com/holdfast-mesh/holdfast/node/operator"
)

// A signer has the operators' keys where they are needed.
type signer struct {
	o *cli.Options
	signatures.Flags
	alone bool // one key is enough: that on paper

	only func(what string) bool // nil: whatever the action does
}

func (s *signer) flag(cmd *cobra.Command) { s.Add(cmd) }

// keys reads the operators' keys.
func (s *signer) keys() ([]ed25519.PrivateKey, error) { return s.Keys(s.o) }

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
	s.say(draft, what)
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
	t, err := draft.Tally()
	if err != nil {
		return r, err
	}
	enough := t.Enough() || s.alone && len(draft.Operators) == 0 // a daemon of before says nothing of the key on paper
	if !enough || t.Waits && s.To != "" {
		return r, s.Pass(operator.File{Draft: draft, Call: operator.Call{Method: method, Path: path, Params: params}}, t)
	}
	return daemon.Call(ctx, c, method, path, params)
}

func (s *signer) say(d operator.Draft, what string) { signatures.Say(s.o, d, what) }
