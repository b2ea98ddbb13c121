package host

import (
	"log/slog"
	"os"
	"sync"

	"github.com/libp2p/go-libp2p/gologshim"
)

// quiet keeps what libp2p and QUIC write to the standard error, in a form of their own,
// away from there: what matters of it comes back as an error, or is found by the doctor.
// Who looks for a fault in them sets GOLOG_LOG_LEVEL.
var quiet = sync.OnceFunc(func() {
	if os.Getenv("GOLOG_LOG_LEVEL") != "" {
		return
	}
	gologshim.SetDefaultHandler(slog.DiscardHandler)
	_ = os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true") // else it warns; the library has no other switch
})
