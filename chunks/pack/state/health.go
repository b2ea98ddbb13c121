package state

import (
	"sync"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// Health is what opening a store found and did. The zero value is a store without
// trouble.
type Health struct {
	Clean           bool            `json:"clean"`                       // the last process closed the store
	Rebuilt         bool            `json:"rebuilt,omitempty"`           // the index was made anew from the packs
	RebuildReason   string          `json:"rebuild-reason,omitempty"`    //
	RecoveredPacks  int             `json:"recovered-packs,omitempty"`   // open packs that were checked entry by entry
	CutBytes        int64           `json:"cut-bytes,omitempty"`         // unfinished entries that were cut off
	LostEntries     int             `json:"lost-entries,omitempty"`      // committed entries that are damaged or gone, at least
	MendedHeaders   int             `json:"mended-headers,omitempty"`    // packs whose damaged header was written anew
	MissingPacks    []string        `json:"missing-packs,omitempty"`     // known packs whose files are not there
	DamagedPacks    []string        `json:"damaged-packs,omitempty"`     // packs with a damaged header, footer or length
	ForeignFiles    []string        `json:"foreign-files,omitempty"`     // files among the packs that are not of this store
	LostChunks      []chunks.Digest `json:"lost-chunks,omitempty"`       // of these and of missing packs, the first thousand that the index can name
	JournalSetAside string          `json:"journal-set-aside,omitempty"` // the damaged state journal was renamed so
}

// A Record is a Health that several goroutines add to.
type Record struct {
	Health // as long as only one does

	mu sync.Mutex
}

// Note changes what Now will say.
func (r *Record) Note(change func(*Health)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.Health)
}

// Now returns what was noted.
func (r *Record) Now() Health {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Health
}
