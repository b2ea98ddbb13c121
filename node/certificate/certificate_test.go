package certificate

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func write(t *testing.T, f Files, names ...string) {
	t.Helper()
	chain, key, err := Make(names, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string][]byte{f.Chain: chain, f.Key: key} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A keeper follows its files, and keeps what it has while they make no sense.
func TestKeeper(t *testing.T) {
	f := Files{filepath.Join(t.TempDir(), "c.pem"), filepath.Join(t.TempDir(), "k.pem")}
	write(t, f, "one", "127.0.0.1")
	k, err := NewKeeper(Config{Files: f})
	if err != nil {
		t.Fatal(err)
	}
	first := Fingerprint(k.Leaf())
	if got := Names(k.Leaf()); !slices.Equal(got, []string{"one", "127.0.0.1"}) {
		t.Errorf("names %q", got)
	}
	if left := time.Until(k.Leaf().NotAfter); left < 20*365*24*time.Hour {
		t.Errorf("it ends in %s", left)
	}
	key, err := os.ReadFile(f.Key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, f, "two")
	second, err := os.ReadFile(f.Key)
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(f.Key, key, 0o600) // half of a change
	if err := k.Reload(); err == nil || Fingerprint(k.Leaf()) != first {
		t.Errorf("a key of another certificate: %v", err)
	}
	os.WriteFile(f.Key, second, 0o600)
	if err := k.Reload(); err != nil || Names(k.Leaf())[0] != "two" {
		t.Errorf("after the change: %v, %q", err, Names(k.Leaf()))
	}
	if c, err := k.Get(nil); err != nil || Fingerprint(c.Leaf) != Fingerprint(k.Leaf()) {
		t.Error("clients see another certificate")
	}
}
