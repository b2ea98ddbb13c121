// Package secrets keeps passwords and tokens apart from the configuration that
// they belong to, in a file of the mode 0600 that nothing prints.
//
// A secret has a name with slashes: "notify/mail" is the password of the target
// mail, "notify/hook/token" a secret of that name of a web hook.
package secrets

import (
	"context"
	"maps"
	"strings"

	"github.com/holdfast-mesh/holdfast/access/statefile"
)

// state is the content of the file.
type state struct {
	Secrets map[string]string `json:"secrets"`
}

var kind = statefile.Kind[state]{
	Name: "secrets", Version: 1, Limit: 4 << 20,
	New:   func() *state { return &state{Secrets: map[string]string{}} },
	Clone: func(s *state) *state { return &state{Secrets: maps.Clone(s.Secrets)} },
	Tidy: func(s *state) {
		if s.Secrets == nil {
			s.Secrets = map[string]string{}
		}
	},
	Check: func(*state) error { return nil },
	Loss:  "set the password or token of each notification target and remote again",
}

// Secrets are those of one node. Methods may be called concurrently.
type Secrets struct{ file *statefile.File[state] }

// Open reads the file at path, if there is one.
func Open(path string) (*Secrets, error) {
	f, err := statefile.Open(path, kind)
	if err != nil {
		return nil, err
	}
	return &Secrets{f}, nil
}

// Get returns a secret, "" if there is none.
func (s *Secrets) Get(name string) string { return s.file.State().Secrets[name] }

// Below returns the secrets whose names begin with a prefix, by the rest of the
// name.
func (s *Secrets) Below(prefix string) map[string]string {
	all := map[string]string{}
	for name, secret := range s.file.State().Secrets {
		if rest, is := strings.CutPrefix(name, prefix); is {
			all[rest] = secret
		}
	}
	return all
}

// Set keeps secrets by their names; "" forgets one. Those below a name are
// forgotten with it.
func (s *Secrets) Set(ctx context.Context, change map[string]string) error {
	return s.file.Update(ctx, func(now *state) error {
		for name, secret := range change {
			if secret != "" {
				now.Secrets[name] = secret
				continue
			}
			maps.DeleteFunc(now.Secrets, func(n, _ string) bool { return n == name || strings.HasPrefix(n, name+"/") })
		}
		return nil
	})
}

// Version changes whenever a secret does.
func (s *Secrets) Version() any { return s.file.State() }
