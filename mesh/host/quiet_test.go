package host

import (
	"crypto/ed25519"
	"log/slog"
	"os"
	"testing"

	"github.com/libp2p/go-libp2p/gologshim"
)

// `node join` with a mesh port that could not be opened printed three raw lines of
// libp2p's log before its error.
func TestLibp2pIsQuiet(t *testing.T) {
	if os.Getenv("GOLOG_LOG_LEVEL") != "" {
		t.Skip("GOLOG_LOG_LEVEL is set")
	}
	if _, err := New(Config{Key: ed25519.NewKeyFromSeed(make([]byte, 32)), Roster: nobody{}}); err != nil {
		t.Fatal(err)
	}
	if gologshim.Logger("p2p-config").Enabled(t.Context(), slog.LevelError) {
		t.Error("it writes to the standard error")
	}
}

type nobody struct{}

func (nobody) Member(string) bool  { return false }
func (nobody) Removed(string) bool { return true }
