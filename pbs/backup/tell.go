package backup

import (
	"fmt"
	"net"
)

// tellBegin writes what the session is about to the log of the node and to
// that of the task.
func (s *Session) tellBegin(client net.Addr) {
	s.log.Info("backup begins", "client", client, "auth_id", s.req.AuthID)
	what := "backup"
	if s.req.Benchmark {
		what = "benchmark"
	}
	where := s.req.Store
	if s.req.Namespace != "" {
		where += ", namespace " + string(s.req.Namespace)
	}
	s.task.Logf("%s of %s on datastore %s, for %s at %s", what, s.req.Snapshot, where, s.req.AuthID, client)
	last, had := s.writer.Previous()
	switch {
	case s.base.Time != 0:
		s.task.Logf("last backup: %s; what it has need not be sent again", s.base)
	case had:
		s.task.Warnf("last backup: %s, but its verification failed or its manifest cannot be read: everything has to be sent", last)
	default:
		s.task.Logf("no last backup: everything has to be sent")
	}
}

// tellIndex writes what became of an index.
func (s *Session) tellIndex(id int, x *index, size int64) {
	s.task.Logf("closed index %d, %q: %s; uploaded %s", id, x.name, bytesText(uint64(size)), uploadText(x.sums))
}

// tellEnd writes what a finished backup came to.
func (s *Session) tellEnd() {
	s.log.Info("backup finished", "chunks", s.stats.Count, "bytes", s.stats.Size, "duplicates", s.stats.Duplicates)
	s.task.Logf("backup finished successfully: %d files; uploaded %s", s.files, uploadText(s.stats))
}

func uploadText(u uploadedSums) string {
	text := fmt.Sprintf("%d chunks with %s", u.Count, bytesText(u.Size))
	if u.CompressedSize > 0 {
		text += " as " + bytesText(u.CompressedSize)
	}
	if u.Duplicates > 0 {
		text += fmt.Sprintf(", %d of them were here already", u.Duplicates)
	}
	return text
}

// bytesText writes a number of bytes for people: "23.4 GiB".
func bytesText(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d bytes", n)
	}
	value, unit := float64(n), -1
	for value >= 1024 && unit < 5 {
		value, unit = value/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTPE"[unit])
}
