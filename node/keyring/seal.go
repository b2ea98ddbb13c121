package keyring

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"io"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
)

// maxSealed bounds what is sealed: keys and passwords are short.
const maxSealed = 16 << 10

// Seal encrypts something for one node: the key that is its name opens it, and no
// other. Who may be a member says the authority chain, so no ledger entry can have
// a secret sealed to somebody else.
func Seal(node string, secret []byte) ([]byte, error) {
	key, err := authority.ParseNodeID(node)
	if err != nil {
		return nil, err
	}
	public, err := ssh.NewPublicKey(ed25519.PublicKey(key[:]))
	if err != nil {
		return nil, fmt.Errorf("seal for node %s: %w", node, err)
	}
	to, err := agessh.NewEd25519Recipient(public)
	if err != nil {
		return nil, fmt.Errorf("seal for node %s: %w", node, err)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to)
	if err == nil {
		_, err = w.Write(secret)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("seal for node %s: %w", node, err)
	}
	return out.Bytes(), nil
}

// Open decrypts what was sealed for the node that has a key.
func Open(key ed25519.PrivateKey, sealed []byte) ([]byte, error) {
	id, err := agessh.NewEd25519Identity(key)
	if err != nil {
		return nil, err
	}
	r, err := age.Decrypt(bytes.NewReader(sealed), id)
	if err != nil {
		return nil, fmt.Errorf("open what was sealed for this node: %w", err)
	}
	secret, err := io.ReadAll(io.LimitReader(r, maxSealed+1))
	if err == nil && len(secret) > maxSealed {
		err = fmt.Errorf("it has more than %d bytes", maxSealed)
	}
	if err != nil {
		return nil, fmt.Errorf("open what was sealed for this node: %w", err)
	}
	return secret, nil
}
