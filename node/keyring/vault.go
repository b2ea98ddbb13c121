package keyring

import (
	"fmt"

	"github.com/holdfast-mesh/holdfast/pbs/api/remotes"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// A Vault keeps the passwords of remotes: each lies in the ledger, in the settings of
// every node that may use it, sealed to that node.
type Vault struct {
	*Ring
	Of     func(node string) settings.Store // the settings of a member
	Legacy func(remote string) string       // where this node kept passwords before; "" if it has none
}

var _ remotes.Vault = Vault{}

// Self is the ID of this node.
func (v Vault) Self() string { return v.self() }

// Find returns the ID of a node, by its name or ID.
func (v Vault) Find(node string) (string, error) { return v.cfg.Find(node) }

// Name returns the name of a node.
func (v Vault) Name(id string) string { return v.cfg.Name(id) }

// Settings are those of a node.
func (v Vault) Settings(node string) settings.Store { return v.Of(node) }

// Seal seals a password to a node.
func (v Vault) Seal(node, password string) ([]byte, error) { return Seal(node, []byte(password)) }

// Password returns the password of a remote of this node.
func (v Vault) Password(r settings.Remote) (string, error) {
	if len(r.Sealed) == 0 {
		if old := v.Legacy(r.Name); old != "" {
			return old, nil
		}
		return "", &hinted{fmt.Errorf("this node has no password of remote '%s'", r.Name), "give it again: holdfast remote update " + r.Name + " --password-file FILE"}
	}
	secret, err := Open(v.cfg.Key, r.Sealed)
	if err != nil {
		return "", fmt.Errorf("password of remote '%s': %w", r.Name, err)
	}
	return string(secret), nil
}
