package facts

import (
	"cmp"
	"maps"
	"slices"

	"github.com/holdfast-mesh/holdfast/mesh/feed"
)

// An Alarm says that something has happened to the node that people have to look
// at, wherever they look. The same key with no text says that it is over.
type Alarm struct {
	Key   string `cbor:"1,keyasint"`
	Text  string `cbor:"2,keyasint,omitempty"`
	Hint  string `cbor:"3,keyasint,omitempty"`
	Since int64  `cbor:"4,keyasint,omitempty"` // Unix seconds
}

func (Alarm) kind() uint16 { return KindAlarm }

// maxAlarms bounds how many alarms of one node are remembered.
const maxAlarms = 16

func (s *state) alarm(a Alarm) {
	if a.Text == "" {
		delete(s.alarms, a.Key)
	} else if _, known := s.alarms[a.Key]; known || len(s.alarms) < maxAlarms {
		s.alarms[a.Key] = a
	}
}

// Alarms returns what a node says that people have to look at, oldest first.
func (m *Model) Alarms(o feed.Origin) []Alarm {
	m.mu.RLock()
	defer m.mu.RUnlock()
	s := m.nodes[o]
	if s == nil {
		return nil
	}
	return s.alarmed()
}

func (s *state) alarmed() []Alarm {
	return slices.SortedFunc(maps.Values(s.alarms), func(a, b Alarm) int { return cmp.Or(cmp.Compare(a.Since, b.Since), cmp.Compare(a.Key, b.Key)) })
}
