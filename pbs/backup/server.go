package backup

import (
	"cmp"
	"log/slog"
	"runtime"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// Config says how a [Server] works. The zero value of a field means its
// default.
type Config struct {
	// Memory is how many bytes of chunks a session holds before it lets the
	// client wait; default 64 MiB. A client that interleaves its uploads may
	// need more, up to eight times as much, which comes out of Interleaved.
	Memory int64

	// Interleaved is how many bytes all sessions together may hold above Memory;
	// default 16 times Memory. A client that wants more when it is taken is
	// refused the chunk.
	Interleaved int64

	// Verify, if given, is asked to verify a snapshot soon: a new one where the
	// datastore wants that (verify-new), or one whose chunks were found to be
	// missing. It must not wait for the verification.
	Verify func(store string, d *catalog.Datastore, ns catalog.Namespace, s catalog.Snapshot, why string)

	Limits upgrade.Limits
	Log    *slog.Logger // default: discard
}

// A Server takes backups. It may be used by many sessions at the same time.
type Server struct {
	cfg Config

	// checks bounds how many chunks are decoded and hashed at the same time,
	// by all sessions: more than there are processors only need more memory.
	checks *semaphore.Weighted

	pool pool // for what sessions hold above their Memory
}

// New returns a Server. It starts nothing; see [Server.Begin].
func New(cfg Config) *Server {
	cfg.Memory = cmp.Or(cfg.Memory, 64<<20)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	cfg.Limits.Log = cmp.Or(cfg.Limits.Log, cfg.Log)
	s := &Server{cfg: cfg, checks: semaphore.NewWeighted(int64(runtime.GOMAXPROCS(0)))}
	s.pool.left.Store(cmp.Or(cfg.Interleaved, 2*interleaved*cfg.Memory))
	return s
}

// Cost returns how many bytes of memory a session may take, unless its client
// interleaves its uploads: chunks, and what the connection receives ahead.
func (s *Server) Cost() int64 { return s.cfg.Memory + upgrade.Window }

// renewEvery is how often an idle session tells the garbage collector that it
// lives: QEMU says nothing for as long as a guest writes nothing. Leases last
// an hour.
const renewEvery = time.Minute
