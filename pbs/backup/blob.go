package backup

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// putBlob answers POST /blob. The manifest is kept until the backup is
// finished, which is what writes it.
func (s *Session) putBlob(w http.ResponseWriter, r *http.Request) error {
	p := upgrade.QueryParams(r)
	name := p.Archive("file-name")
	encoded := p.Int("encoded-size", chunks.PlainHeaderSize, chunks.MaxBlob)
	switch {
	case p.Err() != nil:
		return p.Err()
	case !strings.HasSuffix(name, ".blob"):
		return fmt.Errorf("wrong blob file extension: %s", name)
	}
	u, err := s.receive(r, encoded)
	if e := asSizeError(err); e != nil && e.longer {
		return fmt.Errorf("got blob with unexpected length (%d != more than that)", encoded)
	} else if e != nil {
		return fmt.Errorf("got blob with unexpected length (%d != %d)", encoded, e.got)
	} else if err != nil {
		return err
	}
	defer u.free()
	if err := checkBlob(u.blob); err != nil {
		return err
	}
	if err := s.storeBlob(name, u.blob); err != nil {
		return err
	}
	s.task.Logf("stored %q, %s", name, bytesText(uint64(encoded)))
	return upgrade.Data(w, nil)
}

// checkBlob is Check in the words of PBS.
func checkBlob(b chunks.Blob) error {
	if _, err := b.Kind(); err != nil {
		return fmt.Errorf("unable to parse raw blob - wrong magic: %w", err)
	}
	if err := b.Check(); err != nil {
		return upgrade.Errorf(http.StatusBadRequest, "Data blob has wrong CRC checksum. %w", err)
	}
	return nil
}

func (s *Session) storeBlob(name string, b chunks.Blob) error {
	s.finishing.RLock()
	defer s.finishing.RUnlock()
	if s.finished {
		return errFinished
	}
	if name == manifest.Name {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.manifest == nil {
			s.files++
		}
		s.manifest = bytes.Clone(b)
		s.stats.Size += uint64(len(b))
		return nil
	}
	if err := s.writer.PutBlob(name, b); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files++
	s.stats.Size += uint64(len(b))
	return nil
}
