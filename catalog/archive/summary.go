package archive

import (
	"fmt"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
)

// maxWarnings bounds the list of warnings of a backup or a restore; all count.
const maxWarnings = 1000

// Counts sums up what became of content. A blob has no chunks; its stored bytes
// are those of its encoded form.
type Counts struct {
	chunks.IngestStats
	Entries int64 // of archives of directories: files, directories and so on
}

// Reused returns how many chunks were held already.
func (c Counts) Reused() int64 { return c.Chunks - c.NewChunks }

func (c *Counts) add(o Counts) {
	c.Chunks += o.Chunks
	c.NewChunks += o.NewChunks
	c.Bytes += o.Bytes
	c.NewBytes += o.NewBytes
	c.StoredBytes += o.StoredBytes
	c.Entries += o.Entries
}

// An ArchiveSummary says what one archive of a backup came to.
type ArchiveSummary struct {
	Name string // server name: "root.pxar.didx"
	Counts
	Duration time.Duration
}

// A Summary says what a backup came to.
type Summary struct {
	Archives []ArchiveSummary // in the order of the manifest
	Total    Counts
	Duration time.Duration
	Warnings Warnings
}

// stats is what the manifest tells of the backup. Where PBS counts what was
// sent, all of the content counts here, so that the share of duplicates means
// the same whether they were found before or after sending.
func (s Summary) stats() manifest.UploadStats {
	t := s.Total
	return manifest.UploadStats{
		Count: uint64(t.Chunks), Size: uint64(t.Bytes),
		CompressedSize: uint64(t.StoredBytes), Duplicates: uint64(t.Reused()),
	}
}

// Warnings are sentences about what did not go as it should, without being a
// reason to stop.
type Warnings struct {
	Count int
	List  []string // the first 1,000
}

func (w *Warnings) add(format string, args ...any) {
	if w.Count++; len(w.List) < maxWarnings {
		w.List = append(w.List, fmt.Sprintf(format, args...))
	}
}
