package archive

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// Progress says how far a backup or a restore is. All counts are those of the
// whole run so far.
type Progress struct {
	Archive string // what is being worked on
	Entries int64  // files, directories and so on that were done
	Bytes   int64  // of content that were read from the source, or written to the target
	New     int64  // of content that the target did not hold yet (backup)
	Stored  int64  // of encoded chunks and blobs that were added (backup)
	Total   int64  // of content that there is to do; 0: not known
}

// progressEvery is the shortest time between two reports: ten per second look
// continuous, and cost nothing.
const progressEvery = 100 * time.Millisecond

// A meter counts what is done, and reports it to whoever wants to know. It is
// safe for concurrent use.
type meter struct {
	report                     func(Progress) // nil: nobody wants to know
	entries, bytes, new, store atomic.Int64

	mu      sync.Mutex
	archive string
	total   int64
	last    time.Time
}

// begin says that the counts belong to archive from now on.
func (m *meter) begin(archive string) {
	m.mu.Lock()
	m.archive = archive
	m.mu.Unlock()
}

// stored counts a chunk.
func (m *meter) stored(s chunks.Stored) {
	m.bytes.Add(int64(s.Size))
	if !s.Known {
		m.new.Add(int64(s.Size))
		m.store.Add(int64(s.Blob))
	}
	m.tick(false)
}

// done counts n bytes of content.
func (m *meter) done(n int64) {
	m.bytes.Add(n)
	m.tick(false)
}

// reach says how far a restore is that counts by itself, perhaps in several
// goroutines.
func (m *meter) reach(entries, bytes int64) {
	m.mu.Lock()
	m.entries.Store(max(entries, m.entries.Load()))
	m.bytes.Store(max(bytes, m.bytes.Load()))
	m.mu.Unlock()
	m.tick(false)
}

// tick reports, unless it did so a moment ago and this is not the end.
func (m *meter) tick(end bool) {
	if m.report == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if !end && now.Sub(m.last) < progressEvery {
		return
	}
	m.last = now
	m.report(Progress{
		Archive: m.archive, Entries: m.entries.Load(), Bytes: m.bytes.Load(),
		New: m.new.Load(), Stored: m.store.Load(), Total: m.total,
	})
}
