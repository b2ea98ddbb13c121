package keyring

import (
	"crypto/ed25519"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// A password is opened by the node that it is sealed to and by no other, and what is
// sealed does not show it; one that was kept before is still found.
func TestVault(t *testing.T) {
	const secret = "hush-hush-9d1c"
	vault := func(n byte) Vault {
		key := ed25519.NewKeyFromSeed(append(make([]byte, 31), n))
		return Vault{Ring: New(Config{Key: key}), Legacy: func(remote string) string {
			return map[string]string{"old": secret}[remote]
		}}
	}
	mine, other := vault(1), vault(2)
	sealed, err := mine.Seal(mine.Self(), secret)
	if err != nil || strings.Contains(string(sealed), secret) {
		t.Fatalf("sealed as %q, %v", sealed, err)
	}
	if mine.Self() != authority.PublicKey(mine.cfg.Key).NodeID() {
		t.Error("it is another node")
	}
	r := settings.Remote{Name: "office", Sealed: sealed}
	if got, err := mine.Password(r); got != secret || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := other.Password(r); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("another node opens it: %q, %v", got, err)
	}
	if _, err := mine.Password(settings.Remote{Name: "none"}); err == nil || !strings.Contains(err.(interface{ Hint() string }).Hint(), "remote update none") {
		t.Errorf("none: %v", err)
	}
	if got, err := mine.Password(settings.Remote{Name: "old"}); got != secret || err != nil {
		t.Errorf("one that was kept before: %q, %v", got, err)
	}
}
