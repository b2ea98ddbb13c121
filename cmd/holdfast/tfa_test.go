package main

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// oneTime is what an authenticator makes of a secret (RFC 6238).
func oneTime(t *testing.T, secret string) string {
	t.Helper()
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	h := hmac.New(sha1.New, key)
	_ = binary.Write(h, binary.BigEndian, time.Now().Unix()/30) // never fails
	sum := h.Sum(nil)
	at := sum[len(sum)-1] & 15
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[at:])&0x7fffffff%1_000_000)
}

// A script sets an authenticator up without a terminal: it has a secret made,
// and a code of it.
func TestSecondFactorByScript(t *testing.T) {
	t.Parallel()
	d, _ := newDaemon(t)
	d.must("user", "create", "alice@pbs", "-q")
	secret := strings.TrimSpace(d.must("user", "tfa", "secret", "alice@pbs", "-q"))
	if _, err := d.holdfast("user", "tfa", "add", "alice@pbs", "--secret", secret, "--code", "12345"); err == nil {
		t.Error("half a code is taken")
	}
	var made struct{ Recovery []string }
	out := d.must("user", "tfa", "add", "alice@pbs", "--secret", strings.ToLower(secret), "--code", oneTime(t, secret), "--output-format", "json")
	if err := json.Unmarshal([]byte(out), &made); err != nil || len(made.Recovery) != 10 {
		t.Errorf("%d recovery keys, %v: %s", len(made.Recovery), err, out)
	}
	if out := d.must("user", "tfa", "list", "alice@pbs"); !strings.Contains(out, "authenticator") {
		t.Errorf("the second factor is not listed: %s", out)
	}
}
