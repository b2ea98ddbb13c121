package backup

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// finish answers POST /finish. When it has answered with success the client
// forgets what it would need to send anything again, so all is durable by then.
func (s *Session) finish(w http.ResponseWriter, r *http.Request) error {
	s.finishing.Lock()
	defer s.finishing.Unlock()
	m, err := s.completed()
	if err != nil {
		s.task.Warnf("not finished: %v", err)
		return err
	}
	if unlisted := s.writer.Unlisted(m); len(unlisted) > 0 {
		s.task.Warnf("the manifest does not list %s: kept, but no verification covers it", strings.Join(unlisted, ", "))
	}
	if !s.req.Benchmark {
		if err := s.writer.Finish(r.Context(), m); err != nil {
			s.log.Warn("backup cannot be finished", "err", err)
			s.task.Warnf("not finished: %v", err)
			return err
		}
	}
	s.finished = true
	return upgrade.Data(w, nil)
}

// completed returns the manifest if nothing speaks against the end.
func (s *Session) completed() (*manifest.Manifest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.finished:
		return nil, errFinished
	case len(s.indexes) > 0:
		return nil, errors.New("found open index writer - unable to finish backup")
	case s.files == 0:
		return nil, errors.New("backup does not contain valid files (file count == 0)")
	case s.manifest == nil:
		return nil, fmt.Errorf("unable to update manifest blob - %s was not uploaded", manifest.Name)
	}
	m, err := s.readManifest()
	if err != nil {
		return nil, fmt.Errorf("unable to update manifest blob - %w", err)
	}
	m.SetUploadStats(s.stats)
	return m, nil
}
