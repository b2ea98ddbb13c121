package secrets

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSecrets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secrets.json")
	s, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	before := s.Version()
	if err := s.Set(t.Context(), map[string]string{"notify/hook": "a", "notify/hook/token": "b", "notify/hook2": "c"}); err != nil {
		t.Fatal(err)
	}
	if s.Version() == before {
		t.Error("a change is not seen")
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v %v", info.Mode(), err)
	}
	if s, err = Open(file); err != nil || s.Get("notify/hook") != "a" || len(s.Below("notify/hook/")) != 1 {
		t.Fatalf("read again: %v", err)
	}
	if err := s.Set(t.Context(), map[string]string{"notify/hook": ""}); err != nil {
		t.Fatal(err)
	}
	if s.Get("notify/hook") != "" || s.Get("notify/hook/token") != "" || s.Get("notify/hook2") != "c" {
		t.Errorf("after forgetting one: %v", s.Below(""))
	}
}
